package command

import (
	"context"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/urfave/cli/v3"
)

func serveCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "keep a credential fresh for other processes of this machine, until a signal",
		ArgsUsage: " ",
		Description: "Example, as a sidecar:\n\n    oidc-dbt serve --target prod --dir /run/oidc-dbt --ready-file " +
			"/run/oidc-dbt/ready --health-port 8081\n\n" +
			"and next to it, once the ready file exists:\n\n    set -a; . /run/oidc-dbt/env; set +a; dbt build\n\n" +
			"The folder holds profiles.yml and env, which a POSIX shell can read in; only its user may enter it.\n" +
			"GET /healthz on the health port answers 200 while the credential is valid, else 503; `oidc-dbt health` asks it.\n" +
			"SIGTERM, SIGINT and SIGHUP end it with status 0. It also ends when the runner's request token\n" +
			"expires, with status 3, and when a lease cannot be extended further, with status 6. What was written\n" +
			"is removed.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append(targetFlags(env),
			&cli.DurationFlag{Name: flagTimeout, Usage: "time limit until it is ready", Value: job.DefaultTimeout,
				Sources: variable(env, flagTimeout)},
			&cli.StringFlag{Name: flagDir,
				Usage:   "a folder for profiles.yml and env, empty or to be created (default: a new one below the temporary folder)",
				Sources: variable(env, flagDir)},
			&cli.BoolFlag{Name: flagPodVolume,
				Usage:   "--dir is in a volume that only this pod's containers mount, which may be writable by everyone, as an emptyDir is",
				Sources: variable(env, flagPodVolume)},
			&cli.StringFlag{Name: flagReadyFile,
				Usage: "a file that is created once it is ready: JSON with profiles_dir, env and health", Sources: variable(env, flagReadyFile)},
			&cli.IntFlag{Name: flagReadyFD,
				Usage: "a file descriptor that gets the same as one line once it is ready, and is then closed", Sources: variable(env, flagReadyFD)},
			&cli.IntFlag{Name: flagHealthPort, Usage: "the port of /healthz on 127.0.0.1", DefaultText: "any free port",
				Sources: variable(env, flagHealthPort)},
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
				Dir: c.String(flagDir), PodVolume: c.Bool(flagPodVolume),
				ReadyFile: c.String(flagReadyFile), ReadyFD: c.Int(flagReadyFD), HealthPort: c.Int(flagHealthPort),
			})
		}),
	}
}
