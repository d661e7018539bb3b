package command

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

func healthCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "say whether a serve of this machine or pod has a valid credential",
		ArgsUsage: " ",
		Description: "Example, as an exec probe of Kubernetes, which cannot reach loopback itself:\n\n" +
			"    oidc-dbt health --port 8081\n\n" +
			"The status is 0 while there is a credential that is valid, else 1. It asks 127.0.0.1 for /healthz,\n" +
			"which needs no secret and gives none.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: flagPort, Usage: "the --health-port of serve", DefaultText: "none", Sources: variable(env, flagHealthPort)},
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			port := c.Int(flagPort)
			if port < 1 || port > 65535 {
				return fault.New(fault.Usage, fmt.Errorf("flag --port: got %d, want 1 to 65535", port), "")
			}
			expiry, err := job.Health(ctx, env, port)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "the credential is valid until %s\n", expiry.UTC().Format(time.RFC3339))
			return err
		}),
	}
}
