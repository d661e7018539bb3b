package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

const (
	flagPeriod    = "period"
	flagRecords   = "records"
	flagGrants    = "grants"
	flagDecisions = "decisions"
	flagCheck     = "check"
)

// auditReviewCommand is `oidc-dbt audit review`.
func auditReviewCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "review",
		Usage:     "make an access review of the policy and the audit records, and check that it is done",
		ArgsUsage: " ",
		Description: "Examples:\n\n    oidc-dbt audit review --period 2026Q4 --records records --out review-2026Q4.csv\n" +
			"    oidc-dbt audit review --check review-2026Q4.csv\n\n" +
			"The first writes a line for each rule of the policy. Reviewers fill in the columns reviewer, decision\n" +
			"(keep, change, remove), decided_on and comment. The second has status 8 until each rule of the policy\n" +
			"has a decision, made in the period or in the 45 days after it by a reviewer who is not the rule's last author.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append([]cli.Flag{
			// A step leaves OIDC_DBT_POLICY for exec: what is reviewed here is the repository's file.
			&cli.StringFlag{Name: flagPeriod, Sources: variable(env, flagPeriod),
				Usage: "a quarter such as 2026Q4, a year, a month such as 2026-11, or two days such as 2026-10-01..2026-12-31"},
			&cli.StringFlag{Name: flagPolicy,
				Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)"},
			&cli.StringSliceFlag{Name: flagRecords, Usage: "a file, folder or bucket of audit records, - for standard input; may be repeated"},
			&cli.StringSliceFlag{Name: flagGrants,
				Usage: "a file of the warehouse's users, as its owner exports them; may be repeated"},
			&cli.StringFlag{Name: flagFormat, Usage: fmt.Sprintf("one of %q", review.AccessFormats()),
				Value: review.AccessFormats()[0], Sources: variable(env, flagFormat)},
			&cli.StringFlag{Name: flagOut,
				Usage: "a file to write (default: standard output); it is not replaced, unless it is the one of --decisions"},
			&cli.StringFlag{Name: flagDecisions, Usage: "an earlier file, whose decisions are kept for rules that have not changed"},
			&cli.StringFlag{Name: flagCheck, Usage: "a file that reviewers have filled in"},
		}, bucketFlags(env)...),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			switch {
			case c.Args().Present():
				return unexpected(c)
			case c.IsSet(flagCheck):
				return checkReview(ctx, env, c, inActions, end)
			}
			return makeReview(ctx, env, c, inActions)
		}),
	}
}

// makeReview writes a review.
func makeReview(ctx context.Context, env job.Env, c *cli.Command, inActions bool) error {
	write := review.AccessIn(c.String(flagFormat))
	if write == nil {
		return fault.New(fault.Usage, fmt.Errorf("flag --format: unknown format %q, valid formats are %q",
			c.String(flagFormat), review.AccessFormats()), "")
	}
	period, err := periodOf(c)
	if err != nil {
		return err
	}
	in, err := accessInput(ctx, env, c, inActions, period)
	if err != nil {
		return err
	}
	var earlier *review.Sheet
	if name := c.String(flagDecisions); name != "" {
		s, err := sheetOf(env, flagDecisions, name)
		if err != nil {
			return err
		}
		earlier = &s
	}
	for _, name := range c.StringSlice(flagGrants) {
		text, err := disk.Read(inDir(env, name), review.MaxGrants)
		if err != nil {
			return fileFault(flagGrants, name, disk.Cause(err))
		}
		users, err := review.ParseGrants(text)
		if err != nil {
			return fileFault(flagGrants, name, err)
		}
		in.Principals = append(in.Principals, users...)
	}
	of := auditlog.Options{Since: period.First, Until: period.End(), Statements: true}
	if in.Records, err = reviewed(ctx, env, c, inActions, of); err != nil {
		return err
	}
	a, err := review.NewAccess(ctx, in)
	if err != nil {
		return err
	}
	if earlier != nil {
		a.Carry(*earlier)
	}
	text, err := write(a)
	if err != nil {
		return err
	}
	return writeReview(env, c, text)
}

// reviewed are those records in --records that are wanted, nil without the flag.
func reviewed(
	ctx context.Context, env job.Env, c *cli.Command, inActions bool, wanted auditlog.Options,
) (iter.Seq2[auditlog.Entry, error], error) {
	paths := c.StringSlice(flagRecords)
	if len(paths) == 0 {
		return nil, nil
	}
	var err error
	if wanted.Buckets, err = buckets(ctx, env, c, inActions, paths); err != nil {
		return nil, err
	}
	wanted.Dir, wanted.Stdin = env.Dir, env.Stdin
	return auditlog.Read(ctx, paths, wanted), nil
}

func periodOf(c *cli.Command) (review.Period, error) {
	text := c.String(flagPeriod)
	if text == "" {
		return review.Period{}, fault.New(fault.Usage, errors.New("flag --period is missing: want a quarter such as 2026Q4"), "")
	}
	period, err := review.ParsePeriod(text)
	if err != nil {
		return review.Period{}, fault.New(fault.Usage, fmt.Errorf("flag --period: %w", err), "")
	}
	return period, nil
}

func accessInput(
	ctx context.Context, env job.Env, c *cli.Command, inActions bool, period review.Period,
) (in review.AccessInput, err error) {
	s := policySettings(env, c, inActions)
	p, err := job.Policy(ctx, env, s)
	if err != nil {
		return in, err
	}
	in = review.AccessInput{Policy: p, Environ: env.Environ, Now: env.Now(), Period: period}
	in.Login = func(t *policy.Target) map[string]string {
		login := policy.Login{Provider: t.Provider(), Audience: t.Audience(), Exchange: t.Exchange(), DBT: t.DBT()}
		return explain.LoginOf(login, idtoken.Unverified{})
	}
	in.Name = "input"
	if !strings.Contains(s.Policy, "\n") {
		in.Path = s.Path(p.File())
		in.Name = filepath.Base(in.Path)
		if name, err := filepath.Rel(env.Dir, in.Path); err == nil && filepath.IsLocal(name) { // not this machine's folders
			in.Name = filepath.ToSlash(name)
		}
	}
	return in, nil
}

// writeReview writes a file that is not there, or the one whose decisions it has.
func writeReview(env job.Env, c *cli.Command, text string) error {
	out := c.String(flagOut)
	if out == "" {
		_, err := io.WriteString(env.Stdout, runner.Printable(text))
		return err
	}
	path := inDir(env, out)
	if out == c.String(flagDecisions) {
		return disk.Replace(path, []byte(text))
	}
	err := disk.New(path, []byte(text))
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Usage, fmt.Errorf("flag --out: %q is there already", out),
			"to keep the decisions in it, name it in --decisions, too")
	}
	return err
}

// checkReview says what is missing in a review that people have filled in.
func checkReview(ctx context.Context, env job.Env, c *cli.Command, inActions bool, end *outcome) error {
	for _, flag := range []string{flagGrants, flagOut, flagDecisions} {
		if c.IsSet(flag) && flag == flagGrants {
			return fault.New(fault.Usage, errors.New("flags --check and --grants: a check compares with the policy, not with users"),
				"make the file again with --grants and --decisions, and check it then")
		}
		if c.IsSet(flag) {
			return fault.New(fault.Usage, fmt.Errorf("flags --check and --%s: --check writes nothing", flag), "")
		}
	}
	name := c.String(flagCheck)
	s, err := sheetOf(env, flagCheck, name)
	if err != nil {
		return err
	}
	if c.IsSet(flagPeriod) {
		period, err := periodOf(c)
		if err != nil {
			return err
		}
		if period != s.Period {
			return fault.New(fault.Usage, fmt.Errorf("flag --period: got %s, and %q is of %s", period, name, s.Period), "")
		}
	}
	in, err := accessInput(ctx, env, c, inActions, s.Period)
	if err != nil {
		return err
	}
	of := auditlog.Options{Since: s.Period.First, Until: s.LastRecord.Add(time.Millisecond)}
	if in.Records, err = reviewed(ctx, env, c, inActions, of); err != nil {
		return err
	}
	a, err := review.NewAccess(ctx, in)
	if err != nil {
		return err
	}
	problems := a.Check(s)
	if in.Records != nil {
		problems = append(problems, a.CheckRecords(s)...)
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintln(env.Stdout, name+": "+a.Done(s))
		return err
	}
	end.status = int(fault.Found)
	var b strings.Builder
	for _, p := range problems {
		if p.Line > 0 {
			fmt.Fprintf(&b, "%s:%d: %s\n", name, p.Line, p.Text)
		} else {
			fmt.Fprintf(&b, "%s: %s\n", name, p.Text)
		}
	}
	_, err = io.WriteString(env.Stdout, runner.Printable(b.String()))
	return err
}

func sheetOf(env job.Env, flag, name string) (review.Sheet, error) {
	text, err := disk.Read(inDir(env, name), review.MaxSheet)
	if err != nil {
		return review.Sheet{}, fileFault(flag, name, disk.Cause(err))
	}
	if bytes.HasPrefix(text, []byte("PK")) {
		return review.Sheet{}, fileFault(flag, name, errors.New("is a workbook: save it as CSV UTF-8"))
	}
	s, err := review.ParseSheet(text)
	if err != nil {
		return review.Sheet{}, fileFault(flag, name, err)
	}
	return s, nil
}

func fileFault(flag, name string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		err = errors.New("there is no such file")
	}
	return fault.New(fault.Usage, fmt.Errorf("flag --%s: %q: %w", flag, name, err), "")
}

// inDir returns a path as the command's working directory has it.
func inDir(env job.Env, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(env.Dir, name)
}
