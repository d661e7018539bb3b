package command

import (
	"context"
	"errors"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

// trustRotateCommand is `oidc-dbt trust rotate`.
func trustRotateCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "print the commands that change the trust without an outage: the new one next to the old one first",
		ArgsUsage: " ",
		Description: "Examples:\n\n    oidc-dbt trust rotate --target prod --to-audience sts.amazonaws.com/2027q1\n" +
			"    oidc-dbt trust rotate --target prod --to-sub-template repo,context,event_name\n\nNothing is run.",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true,
		Flags: append(trustFlags(env), loginFlag(),
			&cli.StringFlag{Name: flagToAudience, Usage: "the audience that the ID token will have"},
			&cli.StringFlag{Name: flagToTemplate, Usage: "the keys of the subject that will be set, such as repo,context,event_name"}),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			keys, err := template(flagToTemplate, c.String(flagToTemplate))
			if err != nil {
				return err
			}
			audience := c.String(flagToAudience)
			if (audience == "") == (keys == nil) {
				return fault.New(fault.Usage, errors.New("trust rotate wants what to change to: either --to-audience or --to-sub-template"), "")
			}
			l, err := chosenLogin(ctx, env, c, inActions, "trust rotate")
			if err != nil {
				return err
			}
			script, err := trust.Rotate(l.Demand, l.To(audience, keys))
			if err != nil {
				return err
			}
			_, err = io.WriteString(env.Stdout, runner.Printable(script.String()))
			return err
		}),
	}
}

// trustRevokeCommand is `oidc-dbt trust revoke`.
func trustRevokeCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "revoke",
		Usage:     "print the commands for an incident: stop logins, end sessions, abort what runs, prove it by the logs",
		ArgsUsage: " ",
		Description: "Example:\n\n    oidc-dbt trust revoke --target prod > revoke.sh\n\nNothing is run. " +
			"What to do at 2 a.m.: https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/incident.md",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true,
		Flags:                     append(trustFlags(env), loginFlag()),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			l, err := chosenLogin(ctx, env, c, inActions, "trust revoke")
			if err != nil {
				return err
			}
			script, err := trust.Revoke(l.Demand)
			if err != nil {
				return err
			}
			_, err = io.WriteString(env.Stdout, runner.Printable(script.String()))
			return err
		}),
	}
}
