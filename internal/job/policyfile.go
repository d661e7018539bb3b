package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// DefaultPolicy is where the policy is looked for, from the root.
const DefaultPolicy = ".github/oidc-dbt.yml"

// maxFile bounds what is read of a policy or a profiles.yml. (policy.Parse, which reads the input too, has the same bound)
const maxFile = 4 << 20

// trustedEvents are the events whose checkout is the repository's own, or on
// whose workflow the author has a say anyway (pull_request).
var trustedEvents = []string{"push", "schedule", "workflow_dispatch", "merge_group", "release", "pull_request"}

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
		return nil, "", noPolicy(env, s, path)
	}
	return text, path, err
}

// readPolicy finds and parses the policy.
func readPolicy(ctx context.Context, env Env, s Settings) (pol *policy.Policy, text []byte, origin string, err error) {
	if text, origin, err = policyText(ctx, env, s); err != nil {
		return nil, nil, "", err
	}
	catalog := Catalog()
	catalog.Version, catalog.Now = env.Version, env.Now()
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
		name, err := policyIn(s.Root)
		return cmp.Or(name, DefaultPolicy), err
	}
	for dir := s.Root; ; dir = filepath.Dir(dir) {
		name, err := policyIn(dir)
		if name != "" || err != nil {
			return filepath.Join(dir, filepath.FromSlash(name)), err
		}
		if dir == filepath.Dir(dir) {
			return "", noPolicy(env, s, DefaultPolicy)
		}
	}
}

// policyIn returns the default path, with either of YAML's extensions, that is
// there in dir; "" for none.
func policyIn(dir string) (name string, err error) {
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		return err == nil
	}
	other := otherExtension(DefaultPolicy)
	switch yml, yaml := there(DefaultPolicy), there(other); {
	case yml && yaml:
		return "", fault.New(fault.Usage,
			fmt.Errorf("read policy %q: %q also exists, and only one of them can be used", DefaultPolicy, other), "remove one of them")
	case yml:
		return DefaultPolicy, nil
	case yaml:
		return other, nil
	}
	return "", nil
}

// otherExtension returns a path with the other extension of YAML, "" where it
// has none.
func otherExtension(path string) string {
	if base, ok := strings.CutSuffix(path, ".yml"); ok {
		return base + ".yaml"
	}
	if base, ok := strings.CutSuffix(path, ".yaml"); ok {
		return base + ".yml"
	}
	return ""
}

const identitiesPage = "https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/identities/README.md"

func noPolicy(env Env, s Settings, path string) error {
	starter := "start with this policy, and commit it as " + DefaultPolicy + ":\n\n" + policy.Starter(env.Getenv)
	hint := starter
	if s.Workspace == "" { // at a terminal, or in another CI system
		hint = "policies for people, and for other systems than GitHub Actions, are at " + identitiesPage + "; for GitHub Actions " + starter
	}
	if other := otherExtension(path); other != "" {
		if _, err := os.Stat(s.Path(other)); err == nil {
			hint = fmt.Sprintf("did you mean %q?", other)
		}
	}
	if s.Workspace != "" && hint == starter {
		entries, err := os.ReadDir(s.Workspace)
		switch _, gitErr := os.Stat(filepath.Join(s.Workspace, ".git")); {
		case err != nil || len(entries) == 0:
			hint = "the workspace is empty: run actions/checkout before this step, or give the policy itself as the input `policy`"
		case gitErr != nil:
			hint = "the workspace has no .git: run actions/checkout before this step. If there is no policy yet, " + starter
		}
	}
	return fault.New(fault.Usage, fmt.Errorf("read policy %q: no such file", path), hint)
}

// settle reads the policy, and returns the settings with where it is and
// whether its author is known to be the user.
func settle(ctx context.Context, env Env, s Settings) (Settings, *policy.Policy, []byte, string, error) {
	s.job = source.JobOf(env.Getenv, env.Dir)
	p, text, origin, err := readPolicy(ctx, env, s)
	if err != nil {
		return s, nil, nil, "", err
	}
	s.policyDir, s.inline = s.home(env, origin)
	s.suppliedPolicy, err = s.cameWithCheckout(ctx, origin)
	return s, p, text, origin, err
}

// readTrusted reads a policy or profile file.
func readTrusted(ctx context.Context, env Env, s Settings, path, what string) ([]byte, error) {
	full := s.Path(path)
	text, err := disk.Read(full, maxFile)
	if err == nil {
		err = trusted(ctx, env, s, full)
	}
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", what, path, disk.Cause(err)), fault.Hint(err))
	}
	return text, nil
}

// trusted refuses a file of the workspace on events that run with the
// repository's rights on files of other authors (pull_request_target,
// issue_comment, workflow_run …): they would write the policy that decides
// about them.
func trusted(ctx context.Context, env Env, s Settings, path string) error {
	event := env.Getenv("GITHUB_EVENT_NAME")
	if err := trustedElsewhere(ctx, s.job, path); err != nil {
		return err
	}
	if s.Workspace == "" || slices.Contains(trustedEvents, event) {
		return nil
	}
	supplied, err := disk.Supplied(ctx, path, s.Workspace)
	if err != nil || !supplied {
		return err
	}
	return fault.New(fault.Usage, fmt.Errorf("on event %q files of the workspace are not trusted, want one of %q", event, trustedEvents),
		"give the policy inline, in the step's `policy` input, and the dbt output in its `dbt:` block")
}

// trustedElsewhere refuses a file of a checkout that another CI system than
// GitHub's says is of an author who has no say in the repository.
func trustedElsewhere(ctx context.Context, job source.Job, path string) error {
	if job.Foreign == "" || job.Workspace == "" {
		return nil
	}
	supplied, err := disk.Supplied(ctx, path, job.Workspace)
	if err != nil || !supplied {
		return err
	}
	return fault.New(fault.Usage, fmt.Errorf("files of the checkout are not trusted: %s", job.Foreign),
		"keep the policy outside the checkout, or give it inline in OIDC_DBT_POLICY, and the dbt output in its `dbt:` block")
}

// policyFolder is a file next to a step's copy of its policy: it says where the
// policy's relative paths start, if it has any.
const policyFolder = "policy-folder"

// home returns where relative paths of the policy start, and whether it is
// inline: then that is the root, and nothing from a checkout is used.
func (s Settings) home(env Env, origin string) (dir string, inline bool) {
	if s.inlinePolicy() {
		return s.Root, true
	}
	dir = filepath.Dir(s.Path(origin))
	if OwnFolder(env.Getenv("RUNNER_TEMP"), dir).path == "" {
		return dir, false
	}
	if text, err := disk.ReadOwn(filepath.Join(dir, policyFolder), maxPath); err == nil {
		dir = string(text)
	}
	return dir, false // the step itself has refused what an inline policy must not name
}

// maxPath is more than any system's paths have.
const maxPath = 64 << 10

// checkRoots returns what is wrong with a file of certificate authorities: its
// author decides which server gets the credential.
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
		err = fault.New(fault.Usage, errors.New("with an inline policy it must be outside the workspace"),
			"fetch the file to ${{ runner.temp }} in an earlier step, or add the authority to SSL_CERT_FILE")
	}
	return err
}

// checkFiles refuses files of an exchange in the workspace: it ends up in
// images, commits and caches, and a checkout must not determine the identity.
func checkFiles(ctx context.Context, s Settings, t *policy.Target) error {
	if s.Workspace == "" {
		return nil
	}
	files := provider.Files(t.Provider(), t.Exchange())
	for _, key := range slices.Sorted(maps.Keys(files)) {
		supplied, err := disk.Supplied(ctx, files[key], s.Workspace)
		if err == nil && supplied {
			err = errors.New("it must be outside the workspace")
		}
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("target %q: %s %q: %w", t.Name(), key, files[key], disk.Cause(err)), "")
		}
	}
	return nil
}

// KeepPolicy copies the policy for `oidc-dbt exec` in a later step, and returns
// the copy's path.
func (f Folder) KeepPolicy(res Result) (path string, err error) {
	if path, err = f.Write("policy.yml", res.PolicyText); err == nil && res.PolicyDir != "" {
		_, err = f.Write(policyFolder, []byte(res.PolicyDir))
	}
	return path, err
}
