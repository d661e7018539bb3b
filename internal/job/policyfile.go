package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

const defaultPolicy = ".github/oidc-dbt.yml"

// maxFile bounds what is read of a policy or a profiles.yml. (policy.Parse, which reads the input too, has the same bound)
const maxFile = 4 << 20

// ownEvents are the events whose checkout is the repository's own, or on
// whose workflow the author has a say anyway (pull_request).
var ownEvents = []string{"push", "schedule", "workflow_dispatch", "merge_group", "release", "pull_request"}

// policyText finds the policy: the input itself when it has more than one
// line, else a file. origin is how errors and records name it.
func policyText(ctx context.Context, env Env, s Settings) (text []byte, origin string, err error) {
	if s.inlinePolicy() {
		return []byte(s.Policy), "policy", nil
	}
	path := s.Policy
	if path == "" {
		if path, err = findPolicy(env, s); err != nil {
			return nil, "", err
		}
	}
	text, err = readTrusted(ctx, env, s, path, "policy")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", noPolicy(env, path)
	}
	return text, path, err
}

// inlinePolicy reports whether the input is the policy itself.
func (s Settings) inlinePolicy() bool { return strings.Contains(s.Policy, "\n") }

// readPolicy finds and parses the policy.
func readPolicy(ctx context.Context, env Env, s Settings) (pol *policy.Policy, text []byte, origin string, err error) {
	if text, origin, err = policyText(ctx, env, s); err != nil {
		return nil, nil, "", err
	}
	catalog := Catalog()
	catalog.Version = env.Version
	pol, err = policy.Parse(origin, text, catalog)
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

// readTrusted reads a policy or profile file.
func readTrusted(ctx context.Context, env Env, s Settings, path, what string) ([]byte, error) {
	full := s.path(path)
	text, err := disk.Read(full, maxFile)
	if err == nil {
		err = trusted(ctx, env, s, full)
	}
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", what, path, cause(err)), fault.Hint(err))
	}
	return text, nil
}

// trusted refuses a file that whoever fills the workspace has a say in, on
// events that run with the repository's rights on somebody else's files
// (pull_request_target, issue_comment, workflow_run …): its author would
// write the policy that judges him.
func trusted(ctx context.Context, env Env, s Settings, path string) error {
	event := env.Getenv("GITHUB_EVENT_NAME")
	if s.Workspace == "" || slices.Contains(ownEvents, event) {
		return nil
	}
	supplied, err := disk.Supplied(ctx, path, s.Workspace)
	if err != nil || !supplied {
		return err
	}
	return fault.New(fault.Usage, fmt.Errorf("on %q a file of the workspace may be somebody else's, want one of %q", event, ownEvents),
		"give the policy inline, in the step's `policy` input, and the dbt output in its `dbt:` block")
}

// policyFolder is the file that says, beside a step's copy of its policy, where
// the policy's relative paths start; it is there where the policy has any.
const policyFolder = "policy-folder"

// home returns where relative paths of the policy start, and whether it is
// inline: then that is the root, in which nothing is to be taken from a checkout.
func (s Settings) home(env Env, origin string) (dir string, inline bool) {
	if s.inlinePolicy() {
		return s.Root, true
	}
	dir = filepath.Dir(s.path(origin))
	if ownFolder(env.Getenv("RUNNER_TEMP"), dir).path == "" {
		return dir, false
	}
	if text, err := disk.ReadOwn(filepath.Join(dir, policyFolder), maxPath); err == nil {
		dir = string(text)
	}
	return dir, false // the step itself has refused what an inline policy must not name
}

// maxPath is more than any system's paths have.
const maxPath = 64 << 10

// checkRoots returns what is wrong with a file of certificate authorities: who
// supplies it says which server gets the credential.
func checkRoots(ctx context.Context, env Env, s Settings, path string) error {
	var not disk.NotRegular
	if errors.As(disk.Check(path), &not) {
		return fault.New(fault.Usage, not, "")
	}
	if !s.inline || s.Workspace == "" {
		return trusted(ctx, env, s, path)
	}
	supplied, err := disk.Supplied(ctx, path, s.Workspace)
	if err == nil && supplied {
		err = fault.New(fault.Usage, errors.New("with an inline policy it must lie outside the workspace, whose files are not the policy's"),
			"have the job fetch it to ${{ runner.temp }}, or put the authority into SSL_CERT_FILE")
	}
	return err
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
