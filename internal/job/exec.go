package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A session is a credential with its broker, for as long as a command of this
// machine uses it.
type session struct {
	Result
	dir folder
	say func(string) error
	end func() // closes the broker, ends the leases and removes the folder
}

// begin gets the credential; what it says goes to standard error. After an
// error nothing is left of it.
func begin(ctx context.Context, env Env, s Settings, dir folder) (*session, error) {
	// A mask shows what it hides: nothing is masked but what leaves this process.
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: io.Discard, HTTP: env.client()})
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, errTimeout(s.Timeout))
	defer cancel()
	var mu sync.Mutex // renewals say something too
	run := &session{dir: dir, say: func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintln(env.Stderr, "oidc-dbt: "+runner.Printable(text))
		return err
	}}
	run.end = func() {
		run.Broker.Close()
		for _, err := range []error{run.leases.end(ctx, env), dir.remove()} {
			if err != nil {
				_ = run.say("warning: clean up: " + withHint(err)) // the command's own status stands
			}
		}
	}
	s.Broker, s.Dir = true, dir.path
	if s.CommandDir = env.Dir; len(s.ProjectDirs) == 0 {
		if project := s.dbtProject(env); project != "" {
			s.ProjectDirs, s.CommandDir = []string{project}, project // dbt goes there, too
		}
	}
	s.Say = func(text string) { _ = run.say(text) }
	var err error
	run.Result, err = authenticate(ctx, env, s, r)
	if unmasked := run.mask(env); len(unmasked) > 0 && err == nil {
		run.warn("not masked in the job's log, since what leads to the runner and to nobody else was not found: %s; "+
			"do not print them", strings.Join(unmasked, ", "))
	}
	if run.Allowed != "" {
		err = errors.Join(err, run.say(run.Allowed))
	}
	for _, w := range run.Warnings {
		err = errors.Join(err, run.say("warning: "+w.Text))
	}
	if err != nil {
		run.end()
		return nil, err
	}
	return run, nil
}

// mask has the runner hide what the command gets to know of the credential:
// what its environment and files hold. It returns the names of what could not
// be masked; outside GitHub Actions nobody would obey.
func (res Result) mask(env Env) (unmasked []string) {
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		return nil
	}
	var out io.Writer
	if env.Masks != nil {
		out = env.Masks()
	}
	if out == nil {
		out = failing{}
	}
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: out, HTTP: env.client()})
	hide := func(name string, v secret.Value) {
		if r.Mask(v) != nil && !slices.Contains(unmasked, name) {
			unmasked = append(unmasked, name)
		}
	}
	held := map[string]bool{} // by a variable
	for _, v := range res.Variables {
		if v.Secret {
			held[v.Value.SHA256()] = true
			hide(v.Name, v.Value)
		}
	}
	if res.Broker != nil {
		address := res.Broker.Address()
		if address.Host != "" && !held[address.Secret.SHA256()] {
			hide("the broker's secret", address.Secret)
		}
	}
	switch res.route.Kind {
	case route.AzureTokenFile, route.PasswordFile:
		for _, v := range []secret.Value{res.Credential.Token, res.Credential.Password} {
			if !v.IsZero() {
				hide("the credential's file", v)
			}
		}
	}
	return unmasked
}

// failing is a stream to nowhere.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no stream") }

// Exec gets a credential, runs the command with it, cleans up, and returns
// the command's own exit status. Its own words go to standard error; the
// command's output is untouched.
func Exec(ctx context.Context, env Env, s Settings, args []string, passIdentity bool) (status int, err error) {
	dir, err := sessionFolder(ctx, env)
	if err != nil {
		return 0, err
	}
	s.Program, s.dbtArgs = args[0], args
	run, err := begin(ctx, env, s, dir)
	if err != nil {
		return 0, err
	}
	defer run.end()
	if s.DryRun {
		return 0, run.say(dryRunDone)
	}
	for _, w := range run.misleading(args...) {
		if err := run.say("warning: " + w); err != nil {
			return 0, err
		}
	}
	if s.ProfileOnly {
		if err := run.say(run.nothingDecided()); err != nil {
			return 0, err
		}
	}
	if run.Broker != nil {
		if err := run.say(run.ceiling.announce(env.Now())); err != nil {
			return 0, err
		}
	}
	return runCommand(ctx, env, run.Result, dir, args, "", passIdentity, run.say)
}

// runCommand starts the command in an environment that holds this credential
// and no other.
func runCommand(ctx context.Context, env Env, res Result, dir folder, args []string, where string, passIdentity bool,
	say func(string) error) (int, error) {
	vars, err := dir.provide(env, res)
	if err != nil {
		return 0, err
	}
	var set []string
	for _, v := range append(vars, dir.engine(res)...) {
		set = append(set, v.Name+"="+v.Value.Reveal())
	}
	environ, removed := process.Environment(env.Environ, set, res.kinds(), passIdentity)
	if len(removed) > 0 {
		if err := say("not passed on to the command: " + strings.Join(removed, ", ")); err != nil {
			return 0, err
		}
	}
	return process.Run(ctx, process.Command{
		Args: args, Dir: where, Env: environ, Stdin: env.Stdin, Stdout: env.Stdout, Stderr: env.Stderr, Signalled: res.Broker.Interrupt,
	})
}

// provide is fill with what keeps the environment from leading elsewhere.
func (f folder) provide(env Env, res Result) ([]adapter.Variable, error) {
	vars, err := f.fill(env, res)
	if err != nil {
		return nil, err
	}
	add := func(value string, names ...string) {
		for _, name := range names {
			vars = append(vars, adapter.Variable{Name: name, Value: secret.New(value)})
		}
	}
	if res.Credential.AWS != nil {
		// Left out, the SDKs would read ~/.aws and ~/.boto, where another identity may stand.
		empty, err := f.write("empty", nil)
		if err != nil {
			return nil, err
		}
		add(empty, "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG")
	}
	if res.Broker != nil {
		// It is on this machine: a proxy of the environment's could not reach it.
		upper, lower := env.Getenv("NO_PROXY"), env.Getenv("no_proxy")
		add(withLoopback(cmp.Or(upper, lower)), "NO_PROXY")
		add(withLoopback(cmp.Or(lower, upper)), "no_proxy")
	}
	return vars, nil
}

// withLoopback returns a list of hosts without a proxy, and the broker's among
// them. A single asterisk is all hosts, and to Python's urllib no longer so
// with another entry.
func withLoopback(hosts string) string {
	const broker = "127.0.0.1"
	if strings.TrimSpace(hosts) == "" {
		return broker
	}
	for entry := range strings.SplitSeq(hosts, ",") {
		if entry = strings.TrimSpace(entry); entry == broker || entry == "*" {
			return hosts
		}
	}
	return hosts + "," + broker
}

// engine is dbt 1.12's own name of DBT_PROFILES_DIR, which outranks it. It is
// for a single command: a job's later steps must be able to name another
// target's folder by the name that they know.
func (f folder) engine(res Result) []adapter.Variable {
	if res.Profile == nil {
		return nil
	}
	return []adapter.Variable{{Name: "DBT_ENGINE_PROFILES_DIR", Value: secret.New(f.path)}}
}

// kinds are the credential's and the route's, for what outranks them.
func (res Result) kinds() []string {
	kinds := []string{string(res.Credential.Kind), string(res.route.Kind)}
	if res.client != "" {
		kinds = append(kinds, res.client+"_client")
	}
	return kinds
}

// DefaultTimeout is for everything before the command.
const DefaultTimeout = 2 * time.Minute

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
				return s.path(value)
			}
		}
	}
	for _, name := range []string{"DBT_ENGINE_PROJECT_DIR", "DBT_PROJECT_DIR"} {
		if dir := env.Getenv(name); dir != "" {
			return s.path(dir)
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

// firstProject is where dbt_project.yml is, relative to Root.
func (s Settings) firstProject() string {
	if len(s.ProjectDirs) > 0 {
		return filepath.FromSlash(s.ProjectDirs[0])
	}
	return "."
}
