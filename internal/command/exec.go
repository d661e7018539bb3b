package command

import (
	"context"
	"errors"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
	"github.com/urfave/cli/v3"
)

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
			&cli.BoolFlag{Name: flagDryRun, Usage: "verify and decide, exchange nothing, run nothing", Sources: variable(env, flagDryRun)},
			&cli.BoolFlag{Name: flagProfileOnly,
				Usage:   "request no ID token: the command gets a profile with placeholders, for dbt parse and ls",
				Sources: variable(env, flagProfileOnly)},
			&cli.DurationFlag{Name: flagTimeout, Usage: "time limit for everything before the command", Value: job.DefaultTimeout,
				Sources: variable(env, flagTimeout)},
			&cli.StringFlag{Name: flagTokenStore, Value: login.Keyring, Sources: variable(env, flagTokenStore),
				Usage: "where a login is kept that you make now: keyring, file, or memory, for this command only"},
			&cli.BoolFlag{Name: flagPassIdentity, Usage: "let the command inherit the variables by which it can request ID tokens",
				Sources: variable(env, flagPassIdentity)},
		),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return fault.New(fault.Usage, errors.New("no command given"), "put it after `--`: oidc-dbt exec -- dbt build")
			}
			s, err := settings(env, c, inActions)
			if err != nil {
				return err
			}
			if s.TokenStore, err = tokenStore(c); err != nil {
				return err
			}
			s.SignIn = atTerminal(env)
			s.DryRun, s.ProfileOnly = c.Bool(flagDryRun), c.Bool(flagProfileOnly)
			end.status, err = job.Exec(ctx, env, s, c.Args().Slice(), c.Bool(flagPassIdentity))
			return err
		}),
	}
}

// atTerminal reports whether a person is there who can sign in now.
func atTerminal(env job.Env) bool {
	return isTerminal(env.Stdin) && isTerminal(env.Stderr) && source.JobOf(env.Getenv, env.Dir).Kind == "" &&
		source.AgentHint(env.Getenv) == ""
}
