package command

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

func logoutCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "logout",
		Usage:     "revoke and remove your login",
		ArgsUsage: "[IDENTITY]",
		Description: "Example:\n\n    oidc-dbt logout\n\n" +
			"The refresh token is revoked where the identity provider offers that (RFC 7009), and removed in any case.\n" +
			"Credentials that a warehouse has already given stay valid until they expire.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags:           personFlags(env),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			return asPerson(ctx, env, c, func(ctx context.Context, p job.Person) error {
				was, revoked, err := p.SignOut(ctx)
				if err != nil {
					return err
				}
				switch {
				case !was:
					tell(env, "not signed in as identity "+p.Identity.Name)
				case revoked:
					tell(env, "signed out of identity "+p.Identity.Name+": the login is revoked and removed")
				default:
					tell(env, "signed out of identity "+p.Identity.Name+": the login is removed; its provider offers no revocation")
				}
				return nil
			})
		}),
	}
}
