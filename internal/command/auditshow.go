package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// auditShowCommand is `oidc-dbt audit show`. It reads no variable of a filter: a step
// leaves OIDC_DBT_TARGET for exec.
func auditShowCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "list the runs of audit records: who, what for, and what came of it",
		ArgsUsage: "PATH…",
		Description: "PATH is a file of records, a folder of them, a bucket's URL, or - for standard input. Examples:\n\n" +
			"    oidc-dbt audit show --since 7d --repository acme/analytics audit.jsonl\n" +
			"    oidc-dbt audit show --package dbt-labs/dbt_utils@1.3.0 --json records/\n" +
			"    oidc-dbt audit show --since 7d --bucket-target audit-read s3://acme-audit/oidc-dbt/\n\n" +
			"A line is a request for a credential; a command that renews has several. The outcome is `unknown` if it was\n" +
			"allowed and no record says what came of it. With --statements a line is a message of SQL that a guard has\n" +
			"decided on.",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: flagSince, Usage: "only records from then on: a day, a time, or how long ago, such as 7d"},
			&cli.StringFlag{Name: flagUntil, Usage: "only records before then"},
			&cli.StringFlag{Name: flagRepository, Usage: "only runs of this repository, or OWNER/* for all of an owner's"},
			&cli.StringFlag{Name: flagTarget, Usage: "only runs for this target"},
			&cli.StringFlag{Name: flagPackage, Usage: "only runs whose projects had this dbt package: NAME or NAME@VERSION"},
			&cli.BoolFlag{Name: flagStatements, Usage: "the statements that guards have decided on, in the order of the files"},
			&cli.BoolFlag{Name: flagJSON, Usage: "a JSON object a line, with all that is known of a run or a statement"},
			&cli.StringFlag{Name: flagPolicy, Usage: "a path, or the policy itself, that has the target of --bucket-target " +
				"(default: " + job.DefaultPolicy + ", found upwards)"},
		}, bucketFlags(env)...),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			paths, err := recordPaths(c)
			if err != nil {
				return err
			}
			o, err := recordOptions(env, c)
			if err == nil {
				o.Buckets, err = buckets(ctx, env, c, inActions, paths)
			}
			if err != nil {
				return err
			}
			if c.Bool(flagStatements) {
				return showStatements(ctx, env, paths, o, c.Bool(flagJSON))
			}
			show := table{out: env.Stdout, headings: headings()}
			sorted := byTime{row: func(r *auditlog.Run) ([]string, error) { return cells(r, env.Now()), nil }, write: show.add, env: env}
			if c.Bool(flagJSON) {
				sorted.row = func(r *auditlog.Run) ([]string, error) { return runLine(env, r) }
				sorted.write = func(row []string) error { _, err := io.WriteString(env.Stdout, row[0]); return err }
			}
			if err := showRuns(ctx, env, paths, o, sorted.add); err != nil {
				return err
			}
			return errors.Join(sorted.flush(), show.flush())
		}),
	}
}

func recordOptions(env job.Env, c *cli.Command) (o auditlog.Options, err error) {
	o = auditlog.Options{Dir: env.Dir, Stdin: env.Stdin, Repository: c.String(flagRepository),
		Target: c.String(flagTarget), Package: c.String(flagPackage)}
	for flag, to := range map[string]*time.Time{flagSince: &o.Since, flagUntil: &o.Until} {
		if text := c.String(flag); text != "" {
			if *to, err = parseMoment(text, env.Now()); err != nil {
				return o, fault.New(fault.Usage, fmt.Errorf("flag --%s: %w", flag, err), "")
			}
		}
	}
	if !o.Until.IsZero() && !o.Since.Before(o.Until) {
		return o, fault.New(fault.Usage, fmt.Errorf("flag --until: %s is not after --since, %s", moment(o.Until), moment(o.Since)), "")
	}
	return o, nil
}

// maxNotes bounds what is said of lines that are no records.
const maxNotes = 10

// showRuns hands runs to write, in the order of their first records.
func showRuns(
	ctx context.Context, env job.Env, paths []string, o auditlog.Options, write func(*auditlog.Run) error,
) error {
	var runs auditlog.Grouping
	found := false
	shown := func(r *auditlog.Run) error {
		found = true
		return write(r)
	}
	err := showRecords(ctx, env, paths, o, func(e auditlog.Entry) error {
		if done := runs.Add(e); done != nil {
			return shown(done)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range runs.Rest() {
		if err := shown(r); err != nil {
			return err
		}
	}
	if !found {
		fmt.Fprintln(env.Stderr, noRun(o))
	}
	return nil
}

// byTime writes runs in the order of their times, as far as its memory is
// bounded: a bucket has the records of a day in no order.
type byTime struct {
	row   func(*auditlog.Run) ([]string, error)
	write func(row []string) error
	env   job.Env

	rows []timedRow
	size int
	full bool
}

type timedRow struct {
	at  time.Time
	row []string
}

const (
	maxSorted = 32 << 20 // bytes: about 60,000 runs as a table, 15,000 as JSON
	rowSize   = 300      // of a row without its text
)

func (s *byTime) add(r *auditlog.Run) error {
	row, err := s.row(r)
	if err != nil {
		return err
	}
	if s.full {
		return s.write(row)
	}
	s.rows, s.size = append(s.rows, timedRow{r.Time, row}), s.size+rowSize
	for _, text := range row {
		s.size += len(text)
	}
	if s.size < maxSorted {
		return nil
	}
	s.full = true
	fmt.Fprintf(s.env.Stderr, "oidc-dbt: only the first %d runs are sorted by time: --since and --until choose fewer\n", len(s.rows))
	return s.flush()
}

func (s *byTime) flush() error {
	slices.SortStableFunc(s.rows, func(a, b timedRow) int { return a.at.Compare(b.at) })
	for _, r := range s.rows {
		if err := s.write(r.row); err != nil {
			return err
		}
	}
	s.rows = nil
	return nil
}

// noRun says that nothing was found, which is otherwise easily taken for proof.
func noRun(o auditlog.Options) string {
	if o.Package != "" {
		return "oidc-dbt: no run matches; a package has the name that package-lock.yml has, such as dbt-labs/dbt_utils"
	}
	return "oidc-dbt: no run matches"
}

// showRecords hands records to write, and says of some lines that they are none.
func showRecords(ctx context.Context, env job.Env, paths []string, o auditlog.Options, write func(auditlog.Entry) error) error {
	faults := 0
	for e, err := range auditlog.Read(ctx, paths, o) {
		var f *auditlog.Fault
		if errors.As(err, &f) {
			if faults++; faults <= maxNotes {
				fmt.Fprintln(env.Stderr, runner.Printable("oidc-dbt: "+f.Error()))
			}
			continue
		}
		if err == nil {
			err = write(e)
		}
		if err != nil {
			return err
		}
	}
	if faults > maxNotes {
		fmt.Fprintf(env.Stderr, "oidc-dbt: %d further lines are no records: `oidc-dbt audit verify` lists them\n",
			faults-maxNotes)
	}
	return nil
}

// cells are what the table says of a run.
func cells(r *auditlog.Run, now time.Time) []string {
	first := r.Records[0].Record
	rule, provider, key, fail := "", "", "", ""
	for _, e := range r.Records {
		record := e.Record
		if record.Unmapped.Rule != nil {
			rule = strconv.Itoa(record.Unmapped.Rule.Number)
		}
		provider = cmp.Or(provider, record.Service.Name)
		key = cmp.Or(key, joinKey(record.Unmapped.WarehouseKey))
		fail = cmp.Or(fail, record.StatusDetail)
	}
	outcomes := strings.Join(r.Outcomes, ", ")
	if r.Unknown(now) {
		outcomes = strings.TrimPrefix(outcomes+", unknown", ", ")
	}
	row := []string{r.Time.Format("2006-01-02 15:04:05Z"), first.Unmapped.Target, first.Unmapped.Identity, first.User.Name,
		r.Decision, outcomes, rule, provider, key, r.ID, fail}
	for i := range row {
		row[i] = cell(row[i])
	}
	return row
}

// keys are those of warehouse_key, the most exact first.
var keys = []string{"access_key_id", "session", "lease", "uti", "principal", "user", "run_tag", "client_tag", "query_tag", "query_group",
	"application_name"}

func joinKey(all map[string]string) string {
	i := slices.IndexFunc(keys, func(name string) bool { return all[name] != "" })
	if i < 0 {
		return ""
	}
	return keys[i] + "=" + all[keys[i]]
}

func headings() []string {
	return []string{"TIME", "TARGET", "IDENTITY", "SUBJECT", "DECISION", "OUTCOME", "RULE", "PROVIDER", "WAREHOUSE KEY", "RUN",
		"ERROR"}
}

// A table aligns its columns by its first rows, and does not keep the others.
type table struct {
	headings []string

	out    io.Writer
	rows   [][]string
	widths []int
}

// alignedRows are looked at before the first is written.
const alignedRows = 1000

func (t *table) add(row []string) error {
	t.rows = append(t.rows, row)
	if len(t.rows) < alignedRows {
		return nil
	}
	return t.flush()
}

func (t *table) flush() error {
	if t.widths == nil && len(t.rows) > 0 {
		t.rows = append([][]string{t.headings}, t.rows...)
		t.widths = make([]int, len(t.rows[0]))
		for _, row := range t.rows {
			for i, text := range row {
				t.widths[i] = max(t.widths[i], utf8.RuneCountInString(text))
			}
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, text := range row {
			b.WriteString(text)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", 2+max(0, t.widths[i]-utf8.RuneCountInString(text))))
			}
		}
		b.WriteByte('\n')
	}
	t.rows = nil
	_, err := io.WriteString(t.out, runner.Printable(b.String()))
	return err
}

// A runView is what --json says of a run: docs/audit-show.schema.json is its schema.
type runView struct {
	Version      int               `json:"version"`
	Run          string            `json:"run"`
	Time         string            `json:"time"`
	Target       string            `json:"target,omitempty"`
	Provider     string            `json:"provider,omitempty"`
	Identity     string            `json:"identity,omitempty"`
	Kind         string            `json:"kind,omitempty"`
	Issuer       string            `json:"issuer,omitempty"`
	Subject      string            `json:"subject,omitempty"`
	Repository   string            `json:"repository,omitempty"`
	Actor        string            `json:"actor,omitempty"`
	ActorKind    string            `json:"actor_kind,omitempty"`
	Claims       map[string]string `json:"claims,omitempty"`
	Decision     string            `json:"decision,omitempty"`
	Rule         int               `json:"rule,omitempty"`
	RuleLine     int               `json:"rule_line,omitempty"`
	Policy       string            `json:"policy,omitempty"`
	PolicySHA256 string            `json:"policy_sha256,omitempty"`
	Unknown      bool              `json:"unknown_outcome"`
	Outcomes     []outcomeView     `json:"outcomes"`
	WarehouseKey map[string]string `json:"warehouse_key,omitempty"`
	Packages     []string          `json:"packages,omitempty"`
	ErrorClass   string            `json:"error_class,omitempty"`
	Error        string            `json:"error,omitempty"`
	Records      []placeView       `json:"records"`
}

type outcomeView struct {
	Outcome        string `json:"outcome"`
	Time           string `json:"time"`
	Count          int    `json:"count,omitempty"`
	CredentialKind string `json:"credential_kind,omitempty"`
	CredentialID   string `json:"credential_id,omitempty"`
	SHA256         string `json:"credential_sha256,omitempty"`
	Expires        string `json:"expires,omitempty"`
}

type placeView struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func runLine(env job.Env, r *auditlog.Run) ([]string, error) {
	line, err := jsonLine(viewOf(r, env.Now()))
	return []string{string(line)}, err
}

func viewOf(r *auditlog.Run, now time.Time) runView {
	first := r.Records[0].Record
	u := first.Unmapped
	v := runView{
		Version: 1, Run: r.ID, Time: moment(r.Time), Target: u.Target, Identity: u.Identity, Kind: u.IdentityKind,
		Issuer: first.Actor.IDP.Name, Subject: first.User.Name, Repository: first.Repository(),
		Actor: first.Actor.User.Name, ActorKind: u.ActorKind, Claims: u.Claims, Decision: r.Decision,
		Policy: u.PolicyOrigin, PolicySHA256: u.PolicySHA256, Unknown: r.Unknown(now), Outcomes: []outcomeView{},
	}
	for _, e := range r.Records {
		u := e.Record.Unmapped
		v.Provider = cmp.Or(v.Provider, e.Record.Service.Name)
		v.Records = append(v.Records, placeView{e.File, e.Line})
		v.ErrorClass, v.Error = cmp.Or(v.ErrorClass, e.Record.StatusCode), cmp.Or(v.Error, e.Record.StatusDetail)
		if u.Rule != nil {
			v.Rule, v.RuleLine = u.Rule.Number, u.Rule.Line
		}
		if v.WarehouseKey == nil {
			v.WarehouseKey = u.WarehouseKey
		}
		for _, project := range u.DBT {
			v.Packages = append(v.Packages, project.Packages...)
		}
		if u.Outcome != "" {
			session := e.Record.Session
			v.Outcomes = append(v.Outcomes, outcomeView{u.Outcome, moment(e.Record.At()), e.Record.Count, u.CredentialKind,
				session.UID, session.CredentialUID, moment(session.Expires())})
		}
	}
	return v
}
