// Package git asks git about a repository, and runs nothing that the repository's own
// configuration names.
package git

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// maxWait is how long git's children may hold its output after it has ended.
const maxWait = 10 * time.Second

// harmless are options of every call: no file watcher, hook, pager or network
// (a partial clone fetches what it lacks), and no other object in the place of
// one that was asked for.
var harmless = []string{
	"--no-pager", "--no-replace-objects", "--literal-pathspecs", "-c", "core.fsmonitor=false",
	"-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never", "-c", "log.showSignature=false",
}

// A Repository is one that a folder is in.
type Repository struct {
	Dir     string
	Environ []string
}

// Ask returns what a command that reads prints. An error is git's own first
// line, and says it where git is not installed or does not end in time.
func (r Repository) Ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append(append([]string(nil), harmless...), args...)...)
	cmd.Dir, cmd.WaitDelay = r.Dir, maxWait
	cmd.Env = append(append([]string(nil), r.Environ...), "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("git is not installed")
	case err != nil && ctx.Err() != nil:
		return "", errors.New("git did not end in time")
	case errors.As(err, &exit):
		why, _, _ := strings.Cut(strings.TrimPrefix(string(exit.Stderr), "fatal: "), "\n")
		if why == "" {
			why = fmt.Sprintf("git ended with status %d", exit.ExitCode())
		}
		return "", errors.New(why)
	case err != nil:
		return "", err
	}
	return string(out), nil
}
