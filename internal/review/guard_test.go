package review_test

import (
	"bytes"
	"encoding/csv"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

// guarded is a policy whose first rule reads and whose second one builds.
const guarded = `version: 1
targets:
  prod:
    dbt: {type: postgres, host: dw.acme.example, port: 5432, user: dbt, database: analytics, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}
    guard: {statements: build, also: [grant]}
    allow:
      - {repository: acme/a, repository_id: "1", ref: refs/heads/main, actor_id: "7", guard: {statements: read}}
      - {repository: acme/a, repository_id: "1", ref: refs/heads/main}
  open:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}
    allow:
      - {repository: acme/a, repository_id: "1", ref: refs/heads/main}
deny:
  - {actor: mallory}
`

// sent is the record of a statement that a run by a rule of the policy has sent.
func sent(sha string, rule int, decision string) auditlog.Entry {
	e := line{id: "RUN1", at: "10-05T12", sha: sha, target: "prod", rule: rule}.record()
	e.Record.ClassUID, e.Record.Unmapped.Statement = 6005, &auditlog.Statement{Decision: decision}
	return e
}

func sentAll(entries ...auditlog.Entry) iter.Seq2[auditlog.Entry, error] {
	return func(yield func(auditlog.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// reviewOf makes a review of a policy that is no file.
func reviewOf(t *testing.T, src string, records iter.Seq2[auditlog.Entry, error]) review.Access {
	t.Helper()
	a, err := review.NewAccess(t.Context(), review.AccessInput{
		Policy: parse(t, src), Name: "input", Now: today, Period: fourth(t), Login: login, Records: records,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestGuards: each rule has the guard that holds for it, and the statements of
// its runs that were denied, or would have been. They are no records of runs.
func TestGuards(t *testing.T) {
	t.Parallel()
	sha := parse(t, guarded).SHA256()
	a := reviewOf(t, guarded, sentAll(
		line{id: "RUN1", at: "10-05T11", sha: sha, target: "prod", rule: 1, decision: "allowed"}.record(),
		sent(sha, 1, "allowed"), sent(sha, 1, "denied"), sent(sha, 1, "denied"), sent(sha, 1, "observed"), sent(sha, 2, "denied"),
		sent("another", 1, "denied"), sent(sha, 9, "observed"), sent(sha, 9, "allowed"),
	))
	text, err := review.AccessIn("csv")(a)
	if err != nil {
		t.Fatal(err)
	}
	in := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(text, "\uFEFF"))))
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range rows[1:] {
		var cells []string
		for _, name := range []string{"target", "rule", "guard", "decisions", "statements_denied", "statements_observed"} {
			cells = append(cells, row[slices.Index(rows[0], name)])
		}
		if strings.HasPrefix(row[0], "#") {
			cells = row[:2]
		}
		got = append(got, strings.Join(cells, "|"))
	}
	for _, want := range []string{
		"prod|1|statements: read|1|2|1", "prod|2|statements: build, also: [grant]|0|1|0", "open|1|none|0|0|0", "(deny)|1||0||",
		"# records|1", "# statements|8", "# statements_denied_or_observed_by_former_rules|2",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("the file has\n%s\nwant %q", strings.Join(got, "\n"), want)
		}
	}
	for format, want := range map[string]string{
		"markdown": "<code>guard</code>: <code>statements&#58; build, also&#58; &#91;grant&#93;</code>", "html": `<dt>guard</dt><dd>statements: build, also: [grant]</dd>`,
	} {
		text, err := review.AccessIn(format)(a)
		if err != nil || !strings.Contains(text, want) || !strings.Contains(text, "2, 1 observed") {
			t.Errorf("%s: %v, want %q in\n%s", format, err, want, text)
		}
	}
}

// TestAnotherGuard: a line whose guard has changed must be decided again, and
// a file without the column is read as before.
func TestAnotherGuard(t *testing.T) {
	t.Parallel()
	before := reviewOf(t, guarded, nil)
	for name, tt := range map[string]struct {
		old, with string
		changed   []bool // of each line
	}{
		"of the target": {"also: [grant]", "also: [run]", []bool{true, true, false, false}},
		"of a rule":     {", guard: {statements: read}", "", []bool{true, false, false, false}},
		"its mode":      {"also: [grant]", "also: [grant], mode: observe", []bool{true, true, false, false}},
		"words only":    {"also: [grant]}", "\"also\": [\"grant\"]} # for dbt's grants", []bool{false, false, false, false}},
	} {
		after := reviewOf(t, strings.Replace(guarded, tt.old, tt.with, 1), nil)
		var changed []bool
		for i, l := range after.Lines {
			changed = append(changed, l.Fingerprint != before.Lines[i].Fingerprint)
		}
		if !slices.Equal(changed, tt.changed) {
			t.Errorf("%s: changed are %v, want %v", name, changed, tt.changed)
		}
	}
	text, err := review.AccessIn("csv")(before)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, with, want string }{
		"an older file":       {",guard,", ",,", ""},
		"a guard made milder": {"\"statements: build, also: [grant]\"", "\"statements: any\"", `column "guard" is "statements: any", and "statements: build, also: [grant]" by the policy`},
	} {
		s, err := review.ParseSheet([]byte(strings.Replace(text, tt.old, tt.with, 1)))
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, p := range before.Check(s) {
			if strings.Contains(p.Text, "column ") {
				found += p.Text
			}
		}
		if !strings.Contains(found, tt.want) || tt.want == "" && found != "" {
			t.Errorf("%s: got %q, want %q", name, found, tt.want)
		}
	}
}
