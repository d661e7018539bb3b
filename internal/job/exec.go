package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
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
	masks := env.Stderr // the runner reads workflow commands on both streams
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		masks = io.Discard // nobody would obey them, and a mask shows what it hides
	}
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: masks, HTTP: env.client()})
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
	s.Broker, s.Dir, s.CommandDir = true, dir.path, env.Dir
	s.Say = func(text string) { _ = run.say(text) }
	var err error
	run.Result, err = authenticate(ctx, env, s, r)
	for _, w := range run.Warnings {
		err = errors.Join(err, run.say("warning: "+w))
	}
	if err != nil {
		run.end()
		return nil, err
	}
	return run, nil
}

// Exec gets a credential, runs the command with it, cleans up, and returns
// the command's own exit status. Its own words go to standard error; the
// command's output is untouched.
func Exec(ctx context.Context, env Env, s Settings, args []string, passIdentity bool) (status int, err error) {
	if _, err := process.Find(args[0]); err != nil {
		return 0, err
	}
	dir, err := newFolder(env.TempDir)
	if err != nil {
		return 0, err
	}
	run, err := begin(ctx, env, s, dir)
	if err != nil {
		return 0, err
	}
	defer run.end()
	if s.DryRun {
		return 0, run.say(fmt.Sprintf("target %q is allowed for %s; nothing was exchanged", run.Target, run.Subject))
	}
	for _, a := range args {
		if a == "--profiles-dir" || strings.HasPrefix(a, "--profiles-dir=") {
			if err := run.say("warning: --profiles-dir in the command hides the profile that holds the credential"); err != nil {
				return 0, err
			}
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
func runCommand(ctx context.Context, env Env, res Result, dir folder, args []string, where string, passIdentity bool, say func(string) error) (int, error) {
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
func (res Result) kinds() []string { return []string{res.Credential.Kind, string(res.route.Kind)} }

// DefaultTimeout is for everything before the command.
const DefaultTimeout = 2 * time.Minute

// firstProject is where dbt_project.yml is, relative to Root.
func (s Settings) firstProject() string {
	if len(s.ProjectDirs) > 0 {
		return filepath.FromSlash(s.ProjectDirs[0])
	}
	return "."
}
