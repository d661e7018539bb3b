// Package command is the command line: it reads flags and their variables, calls the job,
// and turns its errors into words and an exit status.
package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/urfave/cli/v3"
)

// Run runs the binary with its arguments (without the program's name) and
// returns the exit status. Without arguments, in a step of GitHub Actions, it
// is the action; `post` is what the action's post step calls, and the action
// itself starts `keep-fresh`.
func Run(ctx context.Context, env job.Env, args []string) int {
	inActions := env.Getenv("GITHUB_ACTIONS") == "true"
	switch {
	case len(args) == 0 && inActions:
		return job.Action(ctx, env)
	case len(args) == 1 && args[0] == "post":
		job.Post(ctx, env)
		return 0
	case len(args) == 2 && args[0] == job.KeepFreshCommand:
		return job.KeepFresh(ctx, env, args[1])
	}
	if len(args) > 0 && (args[0] == "--version" || args[0] == "-v") {
		args = append([]string{"version"}, args[1:]...)
	}
	var end outcome
	if err := root(env, inActions, &end).Run(ctx, append([]string{"oidc-dbt"}, args...)); err != nil {
		end.err = fault.New(fault.Usage, err, "") // the library's own errors are all about the command line
	}
	err := end.err
	if err == nil {
		return end.status
	}
	fmt.Fprintln(env.Stderr, runner.Printable("oidc-dbt: "+err.Error()))
	if hint := fault.Hint(err); hint != "" {
		fmt.Fprintln(env.Stderr, runner.Printable("hint: "+hint))
	}
	return job.ExitStatus(err)
}

// An outcome is what a command came to. It is kept from the library, which
// has exit statuses of its own.
type outcome struct {
	status int
	err    error
}

// keep is run as an action of the library's.
func (o *outcome) keep(run func(context.Context, *cli.Command) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		o.err = run(ctx, c)
		return nil
	}
}

// notFound is for `oidc-dbt nonsense --help`.
func (o *outcome) notFound(_ context.Context, c *cli.Command, name string) {
	o.err = unknownCommand(c, name)
}

func unknownCommand(parent *cli.Command, name string) error {
	if valid := names(parent.Commands); len(valid) > 0 {
		return fault.New(fault.Usage, fmt.Errorf("unknown command %q, valid commands are %q", name, valid), "")
	}
	return fault.New(fault.Usage, fmt.Errorf("unknown command %q, %q has none", name, parent.FullName()), "")
}

func root(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:                  "oidc-dbt",
		Usage:                 "run dbt with a short-lived warehouse credential from an OIDC ID token",
		Version:               env.Version,
		HideVersion:           true, // the library's has fewer words
		HideHelpCommand:       true, // the library's takes any argument
		CommandNotFound:       end.notFound,
		Reader:                env.Stdin,
		Writer:                env.Stdout,
		ErrWriter:             env.Stderr,
		EnableShellCompletion: true,
		Suggest:               true,
		ExitErrHandler:        func(context.Context, *cli.Command, error) {}, // Run prints, once
		OnUsageError:          usageError,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "version", Aliases: []string{"v"},
			Usage: "print the version, as the command does", Local: true}},
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unknownCommand(c, c.Args().First())
			}
			_ = cli.ShowRootCommandHelp(c)
			return fault.New(fault.Usage, errors.New("no command given"),
				"inside a step of GitHub Actions it runs the action; elsewhere begin with `oidc-dbt exec -- dbt build`")
		}),
		Commands: []*cli.Command{
			execCommand(env, inActions, end), serveCommand(env, inActions, end), versionCommand(env, end), helpCommand(end),
		},
	}
}

func names(commands []*cli.Command) (list []string) {
	for _, c := range commands {
		if !c.Hidden {
			list = append(list, c.Name)
		}
	}
	return list
}

func usageError(_ context.Context, _ *cli.Command, err error, _ bool) error {
	return fault.New(fault.Usage, err, "")
}

// variable names the environment variable of a flag. They are looked up
// through the job's own environment, not the process's.
func variable(env job.Env, flag string) cli.ValueSourceChain {
	return cli.NewValueSourceChain(source{env, "OIDC_DBT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))})
}

// source is a cli.ValueSource over job.Env.
type source struct {
	env  job.Env
	name string
}

func (s source) Lookup() (string, bool) { v := s.env.Getenv(s.name); return v, v != "" }
func (s source) String() string         { return "environment variable " + s.name }
func (s source) GoString() string       { return s.name }
func (s source) IsFromEnv() bool        { return true }
func (s source) Key() string            { return s.name }

func execCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a command with the credential, and return its exit status",
		ArgsUsage: "-- COMMAND [ARGUMENT ...]",
		Description: "Example:\n\n    oidc-dbt exec --target prod -- dbt build\n\n" +
			"The command gets a profile of its own (DBT_PROFILES_DIR) and the variables that it reads.\n" +
			"What is written is removed when the command ends.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append(targetFlags(env),
			&cli.BoolFlag{Name: "dry-run", Usage: "verify and decide, exchange nothing, run nothing", Sources: variable(env, "dry-run")},
			&cli.BoolFlag{Name: "profile-only",
				Usage:   "ask for no identity: the command gets a profile with placeholders, for dbt parse and ls",
				Sources: variable(env, "profile-only")},
			&cli.DurationFlag{Name: "timeout", Usage: "for everything before the command", Value: job.DefaultTimeout,
				Sources: variable(env, "timeout")},
			&cli.BoolFlag{Name: "pass-identity", Usage: "leave the runner's request variables to the command",
				Sources: variable(env, "pass-identity")},
		),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return fault.New(fault.Usage, errors.New("no command given"), "put it after `--`: oidc-dbt exec -- dbt build")
			}
			s, err := settings(env, c, inActions)
			if err != nil {
				return err
			}
			s.DryRun, s.ProfileOnly = c.Bool("dry-run"), c.Bool("profile-only")
			end.status, err = job.Exec(ctx, env, s, c.Args().Slice(), c.Bool("pass-identity"))
			return err
		}),
	}
}

// targetFlags say which credential, for whom, and where that is recorded.
func targetFlags(env job.Env) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "target", Usage: "the target in the policy (default: chosen by the claims)", Sources: variable(env, "target")},
		&cli.StringFlag{Name: "policy",
			Usage: "a path, or the policy itself (default: .github/oidc-dbt.yml, found upwards)", Sources: variable(env, "policy")},
		&cli.StringSliceFlag{Name: "project-dir",
			Usage:   "where dbt_project.yml is (default: where dbt finds it, upwards from the working directory)",
			Sources: variable(env, "project-dir")},
		&cli.StringSliceFlag{Name: "profiles", Usage: "further profile names that get the same output", Sources: variable(env, "profiles")},
		&cli.StringFlag{Name: "audit-log", Usage: "where audit records are appended", DefaultText: auditLog(env),
			Sources: variable(env, "audit-log")},
		&cli.IntSliceFlag{Name: "allow-uid",
			Usage:       "another user who may connect to the broker, by number (Linux; elsewhere the secret is enough)",
			DefaultText: "this user only", Sources: variable(env, "allow-uid")},
	}
}

// settings reads targetFlags and the flag timeout.
func settings(env job.Env, c *cli.Command, inActions bool) (s job.Settings, err error) {
	s = job.Settings{
		Target:        c.String("target"),
		Policy:        c.String("policy"),
		SearchUpwards: c.String("policy") == "",
		ProjectDirs:   c.StringSlice("project-dir"),
		Profiles:      c.StringSlice("profiles"),
		AuditLog:      c.String("audit-log"),
		AllowUIDs:     c.IntSlice("allow-uid"),
		Timeout:       c.Duration("timeout"),
		Root:          env.Dir,
	}
	for _, uid := range s.AllowUIDs {
		if uid < 0 || int64(uid) >= math.MaxUint32 { // the last number is no user
			return s, fault.New(fault.Usage, fmt.Errorf("flag --allow-uid: got %d, want the number of a user", uid), "")
		}
	}
	if s.Timeout <= 0 {
		return s, fault.New(fault.Usage, fmt.Errorf("flag --timeout: got %s, want more than 0", s.Timeout), "")
	}
	if s.AuditLog == "" {
		s.AuditLog = auditLog(env)
	}
	s.StateDir = filepath.Dir(auditLog(env))
	if inActions {
		s.Workspace = env.Getenv("GITHUB_WORKSPACE")
	}
	return s, nil
}

func serveCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "keep a credential fresh for other processes of this machine, until a signal",
		ArgsUsage: " ",
		Description: "Example, as a sidecar:\n\n    oidc-dbt serve --target prod --dir /run/oidc-dbt --ready-file " +
			"/run/oidc-dbt/ready --health-port 8081\n\n" +
			"and beside it, once the ready file is there:\n\n    set -a; . /run/oidc-dbt/env; set +a; dbt build\n\n" +
			"The folder holds profiles.yml and env, which a POSIX shell can read in; its user alone may enter it.\n" +
			"GET /healthz on the health port answers 200 while there is a credential that lives, else 503.\n" +
			"SIGTERM, SIGINT and SIGHUP end it with status 0, and remove what was written. With the runner's\n" +
			"request token it ends by itself, with status 3, and with a lease that is extended no further, with 6.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append(targetFlags(env),
			&cli.DurationFlag{Name: "timeout", Usage: "for everything before it is ready", Value: job.DefaultTimeout,
				Sources: variable(env, "timeout")},
			&cli.StringFlag{Name: "dir",
				Usage:   "a folder for profiles.yml and env, empty or not there yet (default: a new one below the temporary folder)",
				Sources: variable(env, "dir")},
			&cli.StringFlag{Name: "ready-file",
				Usage: "a file that is there once it is ready: JSON with profiles_dir, env and health", Sources: variable(env, "ready-file")},
			&cli.IntFlag{Name: "ready-fd",
				Usage: "a descriptor that gets the same as one line once it is ready, and is closed", Sources: variable(env, "ready-fd")},
			&cli.IntFlag{Name: "health-port", Usage: "the port of /healthz on 127.0.0.1", DefaultText: "any that is free",
				Sources: variable(env, "health-port")},
		),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return fault.New(fault.Usage, fmt.Errorf("unexpected argument %q", c.Args().First()),
					"to run a command with the credential: oidc-dbt exec -- COMMAND")
			}
			s, err := settings(env, c, inActions)
			if err != nil {
				return err
			}
			return job.Serve(ctx, env, s, job.ServeSettings{
				Dir: c.String("dir"), ReadyFile: c.String("ready-file"), ReadyFD: c.Int("ready-fd"), HealthPort: c.Int("health-port"),
			})
		}),
	}
}

// auditLog is the default path: beside the job's other temporary files in
// GitHub Actions, else in the user's state directory.
func auditLog(env job.Env) string {
	if temp := env.Getenv("RUNNER_TEMP"); temp != "" {
		return filepath.Join(temp, "oidc-dbt", "audit.jsonl")
	}
	state := env.Getenv("XDG_STATE_HOME")
	if state == "" {
		state = env.Getenv("LOCALAPPDATA") // Windows
	}
	if state == "" {
		state = filepath.Join(env.Getenv("HOME"), ".local", "state")
	}
	return filepath.Join(state, "oidc-dbt", "audit.jsonl")
}
