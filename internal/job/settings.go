package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// Settings are what the user asked for. Relative paths start at Root.
type Settings struct {
	Target        string   // "": chosen by the claims
	Policy        string   // a path, or the policy itself when it has more than one line; "" for the default path
	SearchUpwards bool     // look for the default policy from Root upwards
	ProjectDirs   []string // of dbt projects; none means Root
	Profiles      []string // further profile names
	AuditLog      string
	DryRun        bool
	ProfileOnly   bool         // ask for no identity: the profile has placeholders
	Broker        bool         // keep the credential fresh for as long as the command runs
	Dir           string       // this step's or command's own folder, which only the user may enter
	StateDir      string       // a folder of this user's that stays between runs; "" for none
	PassIdentity  bool         // the command may request ID tokens itself
	AllowUIDs     []int        // other users who may use the broker, on Linux
	Program       string       // that will run, looked for before anything is asked for; "" for none
	Script, Shell string       // that a shell will run, "" for none, and which one, "" for the default
	CommandDir    string       // where the command runs; what its profile names is relative to it
	Say           func(string) // one line for the user, at any time; called by several at once
	// Halt ends the run while it has a broker, and does not wait for that.
	Halt func(why error)
	// Renewed is called with each AWS session that replaces the first one;
	// nil for no call.
	Renewed func(target string, c credential.Credential) error
	Timeout time.Duration // for everything before a command
	dbtArgs []string      // the command's, where dbt may be told its project
	// TokenSource is the identity, and its source, that was chosen for this run.
	TokenSource source.Choice
	SignIn      bool   // a person is at the terminal, and may sign in now
	TokenStore  string // where such a login is kept: one of login.Stores
	Root        string
	Workspace   string // the CI job's checkout, "" elsewhere

	policyDir string // where relative paths of the policy start
	inline    bool   // the policy is no file
	// suppliedPolicy is set where the policy came with a checkout.
	suppliedPolicy bool
	job            source.Job
}

// AuditLogPath is the log's path, absolute.
func (s Settings) AuditLogPath() string { return s.Path(s.AuditLog) }

// Path returns p, from Root where it is relative.
func (s Settings) Path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.Root, p)
}

// DefaultTimeout is for everything before the command.
const DefaultTimeout = 2 * time.Minute

// AuditLog is the log's default path, in StateDir; "" where none is known.
func (e Env) AuditLog() string {
	dir := e.StateDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "audit.jsonl")
}

// StateDir is a folder of this user's that stays between runs: with the job's
// other temporary files in GitHub Actions, else in the user's state directory.
// It is "" where none is known. A relative path counts for none (XDG Base
// Directory Specification): the clone in which a command runs could bring such
// a folder along, with approvals of its own policy.
func (e Env) StateDir() string {
	for _, place := range []struct{ variable, below string }{
		{"RUNNER_TEMP", ""}, {"XDG_STATE_HOME", ""}, {"LOCALAPPDATA", ""}, {"HOME", ".local/state"},
	} {
		if dir := e.Getenv(place.variable); filepath.IsAbs(dir) {
			return filepath.Join(dir, filepath.FromSlash(place.below), "oidc-dbt")
		}
	}
	return ""
}

// FirstProject is where dbt_project.yml is, relative to Root.
func (s Settings) FirstProject() string {
	if len(s.ProjectDirs) > 0 {
		return filepath.FromSlash(s.ProjectDirs[0])
	}
	return "."
}

// dbtProject is the folder in which dbt finds its project: what the command or
// a variable names, else the nearest one upwards that has a dbt_project.yml.
// It is "" where that is the working directory, or nowhere. (dbt-core,
// dbt/cli/params.py and resolvers.py)
func (s Settings) dbtProject(env Env) string {
	for i, a := range s.dbtArgs {
		if name, value, joined := strings.Cut(a, "="); name == "--project-dir" && slices.ContainsFunc(s.dbtArgs[:i], isDbt) {
			if !joined && i+1 < len(s.dbtArgs) {
				value = s.dbtArgs[i+1]
			}
			if value != "" {
				return s.Path(value)
			}
		}
	}
	for _, name := range []string{"DBT_ENGINE_PROJECT_DIR", "DBT_PROJECT_DIR"} {
		if dir := env.Getenv(name); dir != "" {
			return s.Path(dir)
		}
	}
	for dir := s.Root; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "dbt_project.yml")); err == nil {
			if dir == s.Root {
				return ""
			}
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// ofProfile returns the settings for a file that a profile names, which is no
// more the policy's than the profile itself.
func (s Settings) ofProfile(is bool) Settings {
	s.inline = s.inline && !is
	return s
}

// checkSource refuses what a policy of the checkout must not do: run a program,
// or ask a service of the machine.
func (s Settings) checkSource(id policy.Identity) error {
	if id.Source.RunsOrConnects() && s.suppliedPolicy {
		return fault.New(fault.Usage,
			fmt.Errorf("identity %q: a policy of the checkout cannot have a `source` of kind command or unix_socket: "+
				"its author would run it here", id.Name),
			"keep the policy outside the checkout, or give the token by --token-source "+id.Name+"=env:NAME or =file:PATH")
	}
	return nil
}

// cameWithCheckout reports whether the policy's file is one of the CI job's
// checkout, or elsewhere of any checkout, or one that was looked for: its
// author is then not known to be the user.
func (s Settings) cameWithCheckout(ctx context.Context, origin string) (bool, error) {
	if s.inlinePolicy() {
		return false, nil
	}
	checkout := s.job.Workspace
	if checkout == "" {
		checkout = source.CheckoutOf(filepath.Dir(s.Path(origin)))
	}
	if s.Policy == "" || checkout == "" {
		return s.Policy == "", nil
	}
	return disk.Supplied(ctx, s.Path(origin), checkout)
}

// policyFlag is what another command needs in order to read the same policy, "" for nothing.
func (s Settings) policyFlag() string {
	if s.Policy == "" || s.inlinePolicy() {
		return ""
	}
	return " --policy " + s.Policy
}

// inlinePolicy reports whether the input is the policy itself.
func (s Settings) inlinePolicy() bool { return strings.Contains(s.Policy, "\n") }
