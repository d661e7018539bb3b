package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/lint"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"
)

const (
	flagFormat = "format"
	flagFailOn = "fail-on"
	flagOwner  = "owner"
)

// lintCommand is `oidc-dbt lint`. Of a run's own variables it reads none: a
// step leaves a policy and a target for exec, and what is judged here is the
// repository's file.
func lintCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "lint",
		Usage:     "find risky settings in the policy, the workflows and dbt's files",
		ArgsUsage: "[PATH…]",
		Description: "Without a PATH it checks the repository: " + job.DefaultPolicy + ", the " +
			"workflows, profiles.yml,\ndbt_project.yml, packages.yml and the .env files that git tracks. Nothing is " +
			"changed, and no token is requested.\nThe findings and their severities: " +
			"https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/lint/README.md\n\n" +
			"Examples:\n\n    oidc-dbt lint\n    oidc-dbt lint --format sarif .github/oidc-dbt.yml > lint.sarif",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagFormat, Usage: fmt.Sprintf("one of %q", lint.Formats()), Value: "text",
				Sources: variable(env, flagFormat)},
			&cli.StringFlag{Name: flagFailOn, Value: string(lint.Warning), Sources: variable(env, flagFailOn),
				Usage: fmt.Sprintf("the lowest severity that leads to status 8, one of %q", lint.Severities())},
			&cli.StringSliceFlag{Name: flagOwner, Sources: variable(env, flagOwner),
				Usage: "an owner whose reusable workflows are trusted, in addition to the owners in the policy"},
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			status, err := runLint(ctx, env, c)
			end.status = status
			return err
		}),
	}
}

func runLint(ctx context.Context, env job.Env, c *cli.Command) (status int, err error) {
	format, failOn := c.String(flagFormat), lint.Severity(c.String(flagFailOn))
	switch {
	case lint.In(format) == nil:
		err = fmt.Errorf("flag --format: unknown format %q, valid formats are %q", format, lint.Formats())
	case !slices.Contains(lint.Severities(), failOn):
		err = fmt.Errorf("flag --fail-on: unknown severity %q, valid severities are %q", failOn, lint.Severities())
	}
	if err != nil {
		return 0, fault.New(fault.Usage, err, "")
	}
	report, err := lint.Run(ctx, lint.Env{
		Dir: env.Dir, Environ: env.Environ, Now: env.Now(), Catalog: job.Catalog(), Version: env.Version,
		Workspace: env.Getenv("GITHUB_WORKSPACE"), Owners: c.StringSlice(flagOwner),
	}, c.Args().Slice())
	if err != nil && report.Files == 0 {
		return 0, err
	}
	if perr := printReport(env, report, format); perr != nil {
		return 0, perr
	}
	if report.Fails(failOn) {
		status = int(fault.Found)
	}
	return status, err
}

func printReport(env job.Env, report lint.Report, format string) error {
	for _, n := range report.Notices {
		fmt.Fprintln(env.Stderr, runner.Printable("oidc-dbt: "+n))
	}
	text, err := lint.In(format)(report)
	if format == "text" && env.Getenv("NO_COLOR") == "" && isTerminal(env.Stdout) {
		text = lint.Text(report, true)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(env.Stdout, text)
	return err
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
