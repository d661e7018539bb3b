package command

import (
	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

// trustCommand is `oidc-dbt trust`: the warehouse's side of the policy.
func trustCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return group(&cli.Command{
		Name:        "trust",
		Usage:       "the warehouse's side of the policy: generate, check, rotate and review its trust",
		Description: "Example:\n\n    oidc-dbt trust generate --target prod",
		Commands: []*cli.Command{
			trustGenerateCommand(env, inActions, end), trustCheckCommand(env, inActions, end), trustDueCommand(env, inActions, end),
			trustRotateCommand(env, inActions, end), trustRevokeCommand(env, inActions, end),
		},
	}, end)
}
