package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

const (
	flagDevice     = "device"
	flagTokenStore = "token-store"
)

// personTimeout is for a person who signs in: with a second factor that takes minutes.
const personTimeout = 5 * time.Minute

func loginCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "login",
		Usage:     "sign in at your company's identity provider",
		ArgsUsage: "[IDENTITY]",
		Description: "Examples:\n\n    oidc-dbt login\n    oidc-dbt login engineers --device\n\n" +
			"IDENTITY is one of kind people in the policy; it can be left out where there is only one.\n" +
			"The login is kept in the operating system's keyring, for each policy that names the same client.\n" +
			"With --device you sign in with a browser of another machine.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append(personFlags(env),
			&cli.BoolFlag{Name: flagDevice, Usage: "use a browser of any machine, by a code (the device flow)", Sources: variable(env, flagDevice)},
			&cli.StringFlag{Name: flagTokenStore, Value: login.Keyring, Sources: variable(env, flagTokenStore),
				Usage: "where the login is kept: keyring, or file, which only you can read"},
		),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			store, err := tokenStore(c)
			if err == nil && store == login.Memory {
				err = fault.New(fault.Usage, errors.New("flag --token-store: memory ends with the command, so there would be no login"),
					"sign in for one command: oidc-dbt exec --token-store memory -- COMMAND")
			}
			if err != nil {
				return err
			}
			return asPerson(ctx, env, c, func(ctx context.Context, p job.Person) error {
				where := "the keyring"
				switch {
				case p.Identity.AWSSSO != nil && c.IsSet(flagTokenStore):
					return fault.New(fault.Usage, fmt.Errorf("flag --token-store: the login of identity %q is kept in the AWS CLI's cache, "+
						"~/.aws/sso/cache, which AWS's tools share", p.Identity.Name), "")
				case p.Identity.AWSSSO != nil:
					where = "the AWS CLI's cache"
				case store == login.File:
					where = "a file that only you can read"
				}
				claims, err := p.SignIn(ctx, c.Bool(flagDevice) || p.Identity.Flow == "device", store)
				if err != nil {
					return err
				}
				tell(env, fmt.Sprintf("signed in as %s (identity %s); the login is kept in %s",
					runner.OneLine(claims.Subject()), p.Identity.Name, where))
				return nil
			})
		}),
	}
}

// personFlags are those of each command that is about a person's login.
func personFlags(env job.Env) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagPolicy,
			Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)", Sources: variable(env, flagPolicy)},
		&cli.StringSliceFlag{Name: flagProjectDir,
			Usage:   "where dbt_project.yml is (default: the working directory)",
			Sources: variable(env, flagProjectDir)},
		&cli.DurationFlag{Name: flagTimeout, Usage: "time limit", Value: personTimeout, Sources: variable(env, flagTimeout)},
	}
}

// personSettings reads personFlags.
func personSettings(env job.Env, c *cli.Command) (s job.Settings, err error) {
	s = job.Settings{
		Policy: c.String(flagPolicy), SearchUpwards: c.String(flagPolicy) == "", ProjectDirs: c.StringSlice(flagProjectDir),
		Timeout: c.Duration(flagTimeout), Root: env.Dir, StateDir: env.StateDir(),
		Say: func(text string) { tell(env, text) },
	}
	if s.Timeout <= 0 {
		return s, fault.New(fault.Usage, fmt.Errorf("flag --timeout: got %s, want more than 0", s.Timeout), "")
	}
	return s, nil
}

// asPerson calls what a command does with the identity that its argument names.
func asPerson(ctx context.Context, env job.Env, c *cli.Command, do func(context.Context, job.Person) error) error {
	if c.Args().Len() > 1 {
		return fault.New(fault.Usage, fmt.Errorf("unexpected argument %q", c.Args().Get(1)), "")
	}
	s, err := personSettings(env, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, fmt.Errorf("not done within %s", s.Timeout))
	defer cancel()
	p, err := job.FindPerson(ctx, env, s, c.Args().First())
	if err != nil {
		return err
	}
	return do(ctx, p)
}

// tokenStore reads the flag of that name.
func tokenStore(c *cli.Command) (string, error) {
	store := c.String(flagTokenStore)
	if !slices.Contains(login.Stores, store) {
		return "", fault.New(fault.Usage, fmt.Errorf("flag --token-store: unknown store %q, valid stores are %q", store, login.Stores), "")
	}
	return store, nil
}

// tell says something to the person, on standard error.
func tell(env job.Env, text string) { fmt.Fprintln(env.Stderr, "oidc-dbt: "+runner.Printable(text)) }
