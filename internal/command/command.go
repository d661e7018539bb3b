// Package command is the command line: it reads flags and their variables, calls the job,
// and turns its errors into messages and an exit status.
package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/action"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// Arguments returns what Run takes, of the program's name and its arguments. The container action's post step is the
// program by another name, because the runner gives it the arguments of the main step.
func Arguments(argv []string) []string {
	if filepath.Base(argv[0]) == action.ContainerPostProgram {
		return []string{action.ContainerPostProgram}
	}
	return argv[1:]
}

// Run runs the binary with its arguments (without the program's name) and
// returns the exit status. Without arguments, in a step of GitHub Actions, it
// is the action; `post` is what the action's post step calls, and the action
// itself starts `keep-fresh`.
func Run(ctx context.Context, env job.Env, args []string) int {
	inActions := env.Getenv("GITHUB_ACTIONS") == "true"
	switch {
	case len(args) == 0 && inActions:
		return action.Main(ctx, env)
	case len(args) == 2 && args[0] == action.ContainerCommand:
		return action.MainInContainer(ctx, env, args[1])
	case len(args) == 1 && args[0] == action.ContainerPostProgram:
		action.PostInContainer(ctx, env)
		return 0
	case len(args) == 1 && args[0] == "post":
		action.Post(ctx, env)
		return 0
	case len(args) == 2 && args[0] == action.KeepFreshCommand:
		return action.KeepFresh(ctx, env, args[1])
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
	fmt.Fprintln(env.Stderr, runner.Failed(source.Here(env.Getenv), err.Error()))
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

// meant are the commands of what others call so.
var meant = map[string]string{"check": "lint", "validate": "lint", "test": "test-policy"}

func unknownCommand(parent *cli.Command, name string) error {
	if valid := names(parent.Commands); len(valid) > 0 {
		hint := ""
		if other, ok := meant[name]; ok {
			hint = "the command is called `oidc-dbt " + other + "`"
		}
		return fault.New(fault.Usage, fmt.Errorf("unknown command %q, valid commands are %q", name, valid), hint)
	}
	return fault.New(fault.Usage, fmt.Errorf("unknown command %q: %q has no commands", name, parent.FullName()), "")
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
			Usage: "print the version, as the command version does", Local: true}},
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unknownCommand(c, c.Args().First())
			}
			_ = cli.ShowRootCommandHelp(c)
			return fault.New(fault.Usage, errors.New("no command given"),
				"in a step of GitHub Actions the action runs; elsewhere start with `oidc-dbt exec -- dbt build`")
		}),
		Commands: []*cli.Command{
			execCommand(env, inActions, end), serveCommand(env, inActions, end), healthCommand(env, end), stopCommand(env, end),
			explainCommand(env, inActions, end),
			testPolicyCommand(env, end), lintCommand(env, end), initCommand(env, end),
			trustCommand(env, inActions, end), auditCommand(env, inActions, end),
			loginCommand(env, end), logoutCommand(env, end), whoamiCommand(env, end), approveCommand(env, end),
			versionCommand(env, end), helpCommand(end),
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

// group completes a command that only has commands of its own, each in its own
// file.
func group(g *cli.Command, end *outcome) *cli.Command {
	g.ArgsUsage, g.OnUsageError, g.CommandNotFound, g.HideHelpCommand, g.Suggest = " ", usageError, end.notFound, true, true
	g.Action = end.keep(func(_ context.Context, c *cli.Command) error {
		if c.Args().Present() {
			return unknownCommand(c, c.Args().First())
		}
		_ = cli.ShowSubcommandHelp(c)
		return fault.New(fault.Usage, errors.New("no command given"), "name one of the commands of `oidc-dbt "+g.Name+"`")
	})
	return g
}
