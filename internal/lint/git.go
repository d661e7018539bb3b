package lint

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

// maxGit bounds git, which reads an index and nothing else.
const maxGit = 10 * time.Second

// gitFiles returns the files below a folder that git does not ignore, and
// those among them that it tracks.
func gitFiles(ctx context.Context, dir string, environ []string) (names, tracked []string, err error) {
	if tracked, err = listFiles(ctx, dir, environ, "--cached"); err != nil {
		return nil, nil, err
	}
	others, err := listFiles(ctx, dir, environ, "--others", "--exclude-standard")
	return append(others, tracked...), tracked, err
}

// listFiles runs `git ls-files`. Nothing that a repository's own configuration
// names is run.
func listFiles(ctx context.Context, dir string, environ []string, flags ...string) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxGit)
	defer cancel()
	args := append([]string{"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "ls-files", "-z"}, flags...)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, append(append([]string(nil), environ...), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("git is not installed")
	case errors.As(err, &exit):
		why, _, _ := strings.Cut(strings.TrimPrefix(string(exit.Stderr), "fatal: "), "\n")
		return nil, errors.New(why)
	case err != nil:
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}
