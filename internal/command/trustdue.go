package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

const flagWithin = "within"

// trustDueCommand is `oidc-dbt trust due`.
func trustDueCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "due",
		Usage:     "list when each target must be reviewed, and who changed its rules last",
		ArgsUsage: " ",
		Description: "Example:\n\n    oidc-dbt trust due --within 30d\n\n" +
			"The dates are those of the policy: `trust_reviewed`, and `trust_max_age` where it is less than 90 days.\n" +
			"The last change is git's: who committed to the lines of `allow`. The status is 8 if a review is due.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			// A step leaves OIDC_DBT_TARGET and OIDC_DBT_POLICY for exec: what is judged here is the repository's file.
			&cli.StringFlag{Name: flagPolicy,
				Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)"},
			&cli.StringSliceFlag{Name: flagTarget, Usage: "only this target; may be repeated"},
			&cli.StringFlag{Name: flagFormat, Usage: fmt.Sprintf("one of %q", review.Formats()), Value: review.Formats()[0],
				Sources: variable(env, flagFormat)},
			&cli.StringFlag{Name: flagWithin, Usage: "how far ahead a review counts as due", Value: "14d",
				Sources: variable(env, flagWithin)},
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			report, err := reviews(ctx, env, c, inActions)
			if err != nil {
				return err
			}
			if report.Due() > 0 {
				end.status = int(fault.Found)
			}
			text, err := review.In(c.String(flagFormat))(report)
			if err != nil {
				return err
			}
			_, err = io.WriteString(env.Stdout, runner.Printable(text))
			return err
		}),
	}
}

// reviews reads the policy, and when its targets must be reviewed.
func reviews(ctx context.Context, env job.Env, c *cli.Command, inActions bool) (review.Report, error) {
	if format := c.String(flagFormat); review.In(format) == nil {
		return review.Report{}, fault.New(fault.Usage,
			fmt.Errorf("flag --format: unknown format %q, valid formats are %q", format, review.Formats()), "")
	}
	within, err := review.ParseWithin(c.String(flagWithin))
	if err != nil {
		return review.Report{}, fault.New(fault.Usage, fmt.Errorf("flag --within: %w", err), "")
	}
	s := policySettings(env, c, inActions)
	p, err := job.Policy(ctx, env, s)
	if err != nil {
		return review.Report{}, err
	}
	in := review.Input{Policy: p, Targets: c.StringSlice(flagTarget), Environ: env.Environ, Now: env.Now(), Within: within,
		Unenforced: func(t *policy.Target) []string { return trust.UnenforcedOf(p, t) }}
	if !strings.Contains(s.Policy, "\n") {
		in.Path = s.Path(p.File())
	}
	return review.New(ctx, in)
}
