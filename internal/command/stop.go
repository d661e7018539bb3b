package command

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

const flagAll = "all"

// stopCommand has flags without variables: a run is not stopped by an environment.
func stopCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Usage:     "end runs of this machine at once, with what they have the warehouse do",
		ArgsUsage: " ",
		Description: "Example:\n\n    oidc-dbt stop --all\n\n" +
			"It ends runs of exec, serve, run and keep-fresh that the same user has started: no login begins any more,\n" +
			"running statements are cancelled at the server, sessions and leases end, and so does the command.\n" +
			"Without a flag it ends the only run that there is.\n" +
			"The status is 0 if everything that was found has ended, 3 if no run was found, 1 if one is still running.\n" +
			"For runs elsewhere: `oidc-dbt trust revoke`.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagDir, Usage: "the folder of one run, such as the --dir of serve"},
			&cli.BoolFlag{Name: flagAll, Usage: "all runs of this user on this machine"},
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			o := job.StopSettings{Dir: c.String(flagDir), All: c.Bool(flagAll)}
			switch {
			case c.IsSet(flagDir) && o.All:
				return fault.New(fault.Usage, errors.New("flags --dir and --all: give one of them"), "")
			case c.IsSet(flagDir) && o.Dir == "":
				return fault.New(fault.Usage, errors.New("flag --dir is empty, want the folder of a run"), "")
			}
			var err error
			end.status, err = job.Stop(ctx, env, o)
			return err
		}),
	}
}
