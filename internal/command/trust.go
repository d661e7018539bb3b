package command

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

// trustCommand is `oidc-dbt trust`: the warehouse's side of the policy. Each
// of its commands has its own file.
func trustCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:            "trust",
		Usage:           "the warehouse's side of the policy: generate, check, rotate and review its trust",
		ArgsUsage:       " ",
		Description:     "Example:\n\n    oidc-dbt trust generate --target prod",
		OnUsageError:    usageError,
		CommandNotFound: end.notFound,
		HideHelpCommand: true,
		Suggest:         true,
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unknownCommand(c, c.Args().First())
			}
			_ = cli.ShowSubcommandHelp(c)
			return fault.New(fault.Usage, errors.New("no command given"), "name one of the commands of `oidc-dbt trust`")
		}),
		Commands: []*cli.Command{
			trustGenerateCommand(env, inActions, end), trustCheckCommand(env, inActions, end), trustDueCommand(env, inActions, end),
			trustRotateCommand(env, inActions, end), trustRevokeCommand(env, inActions, end),
		},
	}
}
