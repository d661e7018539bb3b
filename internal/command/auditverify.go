package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

const flagFindings = "findings"

// auditVerifyCommand is `oidc-dbt audit verify`.
func auditVerifyCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that audit records are whole: valid, and each decision with its outcome",
		ArgsUsage: "PATH…",
		Description: "PATH is a file of records, a folder of them, a bucket's URL, or - for standard input. Examples:\n\n" +
			"    oidc-dbt audit verify audit.jsonl\n" +
			"    oidc-dbt audit verify --policy .github/oidc-dbt.yml --findings findings.jsonl records/\n" +
			"    oidc-dbt audit verify --bucket-target audit-read s3://acme-audit/oidc-dbt/\n\n" +
			"The status is 8 if something was found. Each finding:\n" +
			"https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/audit.md#findings",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: flagPolicy, Usage: "a path, or the policy itself: also find reviews that are overdue, " +
				"rules that are not used, and credentials that live too long"},
			&cli.StringFlag{Name: flagFindings,
				Usage: "a file, or - for standard output: the findings as OCSF events, one a line"},
			&cli.BoolFlag{Name: flagJSON, Usage: "as a JSON object"},
		}, bucketFlags(env)...),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			v, by, err := verified(ctx, env, c, inActions)
			if err != nil {
				return err
			}
			if len(v.Findings) > 0 {
				end.status = int(fault.Found)
			}
			events := c.String(flagFindings)
			if events != "" {
				if err := writeFindings(env, events, v, by); err != nil {
					return err
				}
			}
			switch {
			case events == "-":
				return nil
			case c.Bool(flagJSON):
				return writeVerification(env, v)
			}
			_, err = io.WriteString(env.Stdout, runner.Printable(verificationText(v)))
			return err
		}),
	}
}

func verified(
	ctx context.Context, env job.Env, c *cli.Command, inActions bool,
) (*auditlog.Verification, auditlog.Source, error) {
	by := auditlog.Source{Version: env.Version, Now: env.Now()}
	paths, err := recordPaths(c)
	if err == nil && c.String(flagFindings) == "-" && c.Bool(flagJSON) {
		err = fault.New(fault.Usage, errors.New("flags --findings and --json: both are for standard output"),
			"name a file in --findings")
	}
	if err == nil {
		err = checkFindings(env, c.String(flagFindings), paths)
	}
	if err != nil {
		return nil, by, err
	}
	o := auditlog.Options{Dir: env.Dir, Stdin: env.Stdin, Statements: true}
	if o.Buckets, err = buckets(ctx, env, c, inActions, paths); err != nil {
		return nil, by, err
	}
	var rules *ruleUse
	var longest func(*auditlog.Record) time.Duration
	if c.String(flagPolicy) != "" {
		p, err := job.Policy(ctx, env, policySettings(env, c, inActions))
		if err != nil {
			return nil, by, err
		}
		by.PolicyFile, by.PolicySHA256 = p.File(), p.SHA256()
		rules, longest = newRuleUse(p, env.Now()), func(r *auditlog.Record) time.Duration { return longestLife(p, r) }
	}
	v := auditlog.NewVerification(longest)
	for e, err := range auditlog.Read(ctx, paths, o) {
		if err := v.Add(e, err); err != nil {
			return nil, by, err
		}
		if err == nil && rules != nil && !e.Record.IsStatement() {
			rules.add(e)
		}
	}
	v.End(env.Now())
	if v.Records == 0 && len(v.Findings) == 0 { // as after a pipe whose other end has failed
		return nil, by, fault.New(fault.Usage, fmt.Errorf("there is no audit record in %q: nothing is verified", paths), "")
	}
	if rules != nil {
		if err := rules.find(ctx, v); err != nil {
			return nil, by, err
		}
	}
	return v, by, nil
}

// longestLife is how long a credential may live by the policy that issued it;
// by another version of the policy it is not known.
func longestLife(p *policy.Policy, r *auditlog.Record) time.Duration {
	if r.Unmapped.PolicySHA256 != p.SHA256() {
		return 0
	}
	t, err := p.Target(r.Unmapped.Target)
	if err != nil {
		return 0
	}
	return t.MaxLifetime(r.Unmapped.ActorKind)
}

// checkFindings refuses a file for findings that is one of the records, or would
// be read as one the next time.
func checkFindings(env job.Env, findings string, paths []string) error {
	if findings == "" || findings == "-" {
		return nil
	}
	full := inDir(env, findings)
	own, err := os.Stat(full)
	if err != nil {
		own = nil
	}
	for _, p := range paths {
		info, err := os.Stat(inDir(env, p))
		switch {
		case err != nil || p == auditlog.StandardInput || auditlog.IsBucket(p): // reading says what is wrong with it
		case own != nil && os.SameFile(own, info):
			return fault.New(fault.Usage, fmt.Errorf("flag --findings: %q has the records to verify: name another file", findings), "")
		case info.IsDir() && isBelow(full, info):
			return fault.New(fault.Usage, fmt.Errorf("flag --findings: %q is in the folder %q of records: name a file elsewhere", findings, p), "")
		}
	}
	return nil
}

// isBelow reports whether a path is in a folder, by any of its names.
func isBelow(path string, folder os.FileInfo) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, folder) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}

// writeFindings writes events to a file of their own.
func writeFindings(env job.Env, path string, v *auditlog.Verification, by auditlog.Source) error {
	var b strings.Builder
	for _, f := range v.Findings {
		line, err := f.Event(by)
		if err != nil {
			return err
		}
		b.Write(inertJSON(line))
	}
	if path == "-" {
		_, err := io.WriteString(env.Stdout, b.String())
		return err
	}
	f, err := disk.Open(inDir(env, path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.WriteString(b.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("write findings %q: %w", path, disk.Cause(err)), "")
	}
	return nil
}

func verificationText(v *auditlog.Verification) string {
	var b strings.Builder
	for _, f := range v.Findings {
		if f.File != "" {
			fmt.Fprintf(&b, "%s:%d: ", oneLine(f.File), f.Line)
		}
		fmt.Fprintf(&b, "%s: %s: ", f.Severity, f.Name)
		if f.Target != "" {
			fmt.Fprintf(&b, "target %q", f.Target)
			if f.Rule > 0 {
				fmt.Fprintf(&b, ", rule %d", f.Rule)
			}
			b.WriteString(": ")
		}
		b.WriteString(oneLine(f.Message))
		if f.Run != "" {
			fmt.Fprintf(&b, " (run %s)", oneLine(f.Run))
		}
		b.WriteByte('\n')
	}
	if v.Omitted > 0 {
		fmt.Fprintf(&b, "%d further findings are not shown\n", v.Omitted)
	}
	fmt.Fprintf(&b, "records: %d, runs: %d, denied: %d, issued: %d, failed: %d, not finished: %d, findings: %d\n",
		v.Records, v.Runs, v.Denied, v.Issued, v.Failed, v.Pending, len(v.Findings)+v.Omitted)
	if v.Records > 0 {
		fmt.Fprintf(&b, "from %s to %s\n", moment(v.First), moment(v.Last))
	}
	return b.String()
}

func oneLine(text string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(text) }

// writeVerification is JSON: docs/audit-verify.schema.json is its schema.
func writeVerification(env job.Env, v *auditlog.Verification) error {
	type findingView struct {
		Name     string `json:"name"`
		Severity string `json:"severity"`
		Message  string `json:"message"`
		File     string `json:"file,omitempty"`
		Line     int    `json:"line,omitempty"`
		Run      string `json:"run,omitempty"`
		Target   string `json:"target,omitempty"`
		Rule     int    `json:"rule,omitempty"`
		Subject  string `json:"subject,omitempty"`
		Time     string `json:"time,omitempty"`
	}
	all := struct {
		Version  int           `json:"version"`
		Records  int           `json:"records"`
		Runs     int           `json:"runs"`
		Denied   int           `json:"denied"`
		Issued   int           `json:"issued"`
		Failed   int           `json:"failed"`
		Pending  int           `json:"not_finished"`
		First    string        `json:"first,omitempty"`
		Last     string        `json:"last,omitempty"`
		Findings []findingView `json:"findings"`
		Omitted  int           `json:"findings_omitted"`
	}{1, v.Records, v.Runs, v.Denied, v.Issued, v.Failed, v.Pending, moment(v.First), moment(v.Last), []findingView{}, v.Omitted}
	for _, f := range v.Findings {
		all.Findings = append(all.Findings, findingView{f.Name, f.Severity.String(), f.Message, f.File, f.Line, f.Run,
			f.Target, f.Rule, f.Subject, moment(f.Time)})
	}
	line, err := jsonLine(all)
	if err != nil {
		return err
	}
	_, err = env.Stdout.Write(line)
	return err
}
