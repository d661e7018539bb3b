package job

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

const defaultPolicy = ".github/oidc-dbt.yml"

// maxFile bounds what is read of a policy or a profiles.yml. One byte over
// the policy's own limit, so that Parse can say what is wrong.
const maxFile = 4<<20 + 1

// ownEvents are the events whose checkout is the repository's own, or on
// whose workflow the author has a say anyway (pull_request).
var ownEvents = []string{"push", "schedule", "workflow_dispatch", "merge_group", "release", "pull_request"}

// policyText finds the policy: the input itself when it has more than one
// line, else a file. origin is how errors and records name it.
func policyText(env Env, s Settings) (text []byte, origin string, err error) {
	if s.inlinePolicy() {
		return []byte(s.Policy), "policy", nil
	}
	path := s.Policy
	if path == "" {
		if path, err = findPolicy(env, s); err != nil {
			return nil, "", err
		}
	}
	text, err = readTrusted(env, s, path, "policy")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", noPolicy(env, path)
	}
	return text, path, err
}

// inlinePolicy reports whether the input is the policy itself.
func (s Settings) inlinePolicy() bool { return strings.Contains(s.Policy, "\n") }

// readPolicy finds and parses the policy.
func readPolicy(env Env, s Settings) (pol *policy.Policy, text []byte, origin string, err error) {
	if text, origin, err = policyText(env, s); err != nil {
		return nil, nil, "", err
	}
	pol, err = policy.Parse(origin, text, Catalog())
	if err != nil && s.inlinePolicy() {
		err = fault.At(err) // its lines are those of no file
	}
	return pol, text, origin, err
}

// findPolicy returns the default path: in the action that of the workspace,
// at a terminal the first one found upwards from the working directory.
func findPolicy(env Env, s Settings) (string, error) {
	if !s.SearchUpwards {
		return defaultPolicy, nil
	}
	for dir := s.Root; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, filepath.FromSlash(defaultPolicy))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", noPolicy(env, defaultPolicy)
		}
	}
}

func noPolicy(env Env, path string) error {
	return fault.New(fault.Usage, fmt.Errorf("read policy %q: there is no such file", path),
		"start with this one, and commit it as "+defaultPolicy+":\n\n"+policy.Starter(env.Getenv))
}

// readTrusted reads a policy or profile file. A file in the workspace is
// refused on events that run with the repository's rights on somebody else's
// files (pull_request_target, issue_comment, workflow_run …): its author
// would write the policy that judges him.
func readTrusted(env Env, s Settings, path, what string) ([]byte, error) {
	full := s.path(path)
	if event := env.Getenv("GITHUB_EVENT_NAME"); s.Workspace != "" && !slices.Contains(ownEvents, event) {
		inside, err := isInside(s.Workspace, full)
		if err != nil {
			return nil, fmt.Errorf("read %s %q: %w", what, path, err)
		}
		if inside {
			return nil, fault.New(fault.Usage,
				fmt.Errorf("read %s %q: on %q a file of the workspace may be somebody else's, want one of %q", what, path, event, ownEvents),
				"give the policy inline, in the step's `policy` input, and the dbt output in its `dbt:` block")
		}
	}
	f, err := os.Open(full)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", what, path, cause(err)), "")
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: not a regular file", what, path), "")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", what, path, cause(err)), "")
	}
	return text, nil
}

// isInside reports whether path lies in dir by its name or by where its links
// lead: a link out of the workspace was put there by whoever filled it.
func isInside(dir, path string) (bool, error) {
	if below(dir, path) {
		return true, nil
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, cause(err)
	}
	realPath, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, cause(err)
	}
	return below(realDir, realPath), nil
}

func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && (rel == "." || filepath.IsLocal(rel))
}

// cause drops the operation and the path from a file error: the message has
// named the path as the user typed it.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
