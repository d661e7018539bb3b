package review_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

// reviewed is a policy of two targets that Ada has written, and its review as
// Bob has filled it in.
func reviewed(t *testing.T, src string) (r *repository, rows [][]string) {
	t.Helper()
	r = newRepository(t)
	r.commit("Ada", src)
	text, err := review.AccessIn("csv")(r.access(nil))
	if err != nil {
		t.Fatal(err)
	}
	rows = readRows(t, text)
	for i := range rows[1:] {
		if strings.HasPrefix(rows[i+1][0], "#") {
			continue
		}
		fill(rows, i+1, "bob@acme.example", "keep", "2026-11-20")
	}
	return r, rows
}

func readRows(t *testing.T, text string) [][]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\uFEFF"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func writeRows(t *testing.T, rows [][]string) string {
	t.Helper()
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fill fills in a row: reviewer, decision and day are the last columns but one.
func fill(rows [][]string, row int, values ...string) {
	last := len(rows[0])
	copy(rows[row][last-4:], values)
}

// again is what to do about a row that is not as it was made.
const again = "make the file again with --decisions, and decide again"

// TestCheck: each way in which a review is not done.
func TestCheck(t *testing.T) {
	t.Parallel()
	both := source("prod", first, "staging", other)
	edit := func(old, new string) func(*repository) {
		return func(r *repository) { r.commit("Bob", strings.Replace(both, old, new, 1)) }
	}
	for _, tt := range []struct {
		name   string
		change func(rows [][]string) [][]string
		policy func(*repository)
		want   []string
	}{
		{name: "done"},
		{name: "in capitals", change: filled(1, "Bob", "KEEP", "2026-10-01")},
		{name: "no decision", change: filled(1, "", "", ""), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): it has no decision`}},
		{name: "unknown decision", change: filled(1, "Bob", "kep", "2026-11-20"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): unknown decision "kep", valid decisions are ["keep" "change" "remove"]`}},
		{name: "neither reviewer nor date", change: filled(1, "", "keep", ""), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): it has no reviewer`,
			`2: rule 1 of target "prod" (line 8 of the policy): it has no date in decided_on`}},
		{name: "its author, by name", change: filled(1, "ada", "keep", "2026-11-20"), want: []string{byAuthor("ada")}},
		{name: "its author, by address", change: filled(1, "X@Example.com", "keep", "2026-11-20"), want: []string{byAuthor("X@Example.com")}},
		{name: "its author, by both", change: filled(1, "A. L. <x@example.com>", "keep", "2026-11-20"),
			want: []string{byAuthor("A. L. <x@example.com>")}},
		{name: "its author, in full width", change: filled(1, "Ａda", "keep", "2026-11-20"), want: []string{byAuthor("Ａda")}},
		{name: "its author, in a folder", change: filled(1, "x+review@example.com", "keep", "2026-11-20"), want: []string{byAuthor("x+review@example.com")}},
		{name: "a Cyrillic letter", change: filled(1, "\u0410da", "keep", "2026-11-20"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): reviewer "\u0410da" has letters of Cyrillic and Latin in one word: write the name plainly`}},
		{name: "two alphabets, a word each", change: filled(1, "Борис <bob@acme.example>", "keep", "2026-11-20")},
		{name: "an invisible letter", change: filled(1, "ada\u200b", "keep", "2026-11-20"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): reviewer "ada\u200b" has a character that cannot be seen: write the name plainly`}},
		{name: "one column sorted", change: func(rows [][]string) [][]string {
			at := slices.Index(rows[0], "fingerprint")
			rows[1][at], rows[2][at] = rows[2][at], rows[1][at]
			return rows
		}, want: []string{
			`2: rule 1 of target "staging" (line 14 of the policy): column "target" is "prod", and "staging" by the policy: ` + again,
			`3: rule 1 of target "prod" (line 8 of the policy): column "target" is "staging", and "prod" by the policy: ` + again}},
		{name: "a milder rule in the file", change: func(rows [][]string) [][]string {
			at := slices.Index(rows[0], "matches")
			rows[1][at] += "; actor_id=1"
			return rows
		}, want: []string{`2: rule 1 of target "prod" (line 8 of the policy): column "matches" is ` +
			`"repository=acme/analytics; repository_id=487920697; environment=production; ref=refs/heads/main; actor_id=1", and ` +
			`"repository=acme/analytics; repository_id=487920697; environment=production; ref=refs/heads/main" by the policy: ` + again}},
		{name: "a column deleted", change: func(rows [][]string) [][]string {
			rows[0][slices.Index(rows[0], "lifetime")] = ""
			return rows
		}},
		{name: "a date that a spreadsheet rewrote", change: filled(1, "Bob", "keep", "11/20/2026"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): decided_on is "11/20/2026", want a date such as 2026-10-01: ` +
				`a spreadsheet may have rewritten it`}},
		{name: "before the period", change: filled(1, "Bob", "keep", "2026-09-30"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): decided_on is 2026-09-30, want a day of the period 2026-10-01..2026-12-31, or of the 45 days after it`}},
		{name: "tomorrow", change: filled(1, "Bob", "keep", "2026-11-29"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): decided_on is 2026-11-29, which is still to come`}},
		{name: "to remove", change: filled(1, "Bob", "remove", "2026-11-20"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): the decision is to remove it, and it is still there`}},
		{name: "to change", change: filled(1, "Bob", "change", "2026-11-20"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): the decision is to change it, and it is as it was`}},
		{name: "removed", change: filled(2, "Bob", "remove", "2026-11-20"), policy: func(r *repository) {
			r.commit("Bob", source("prod", first))
		}},
		{name: "a missing line", change: func(rows [][]string) [][]string { return append(rows[:1:1], rows[2:]...) }, want: []string{
			`0: rule 1 of target "prod" (line 8 of the policy): the file has no line of it`}},
		{name: "twice", change: func(rows [][]string) [][]string { return append(rows, rows[1]) }, want: []string{
			`11: rule 1 of target "prod" (line 8 of the policy): the file has it twice`}},
		{name: "a new rule", policy: func(r *repository) { r.commit("Bob", source("prod", first, "staging", other+"\n"+first)) }, want: []string{
			`0: rule 2 of target "staging" (line 15 of the policy): the file has no line of it`}},
		{name: "a rule that has changed", policy: edit("refs/heads/main", "refs/heads/*"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): has changed since the file was made, where it matches ` +
				`"repository=acme/analytics; repository_id=487920697; environment=production; ref=refs/heads/main": it must be decided again`}},
		{name: "another role", policy: edit("role/dbt", "role/admin"), want: []string{
			`2: rule 1 of target "prod" (line 8 of the policy): what target "prod" gives, or whose tokens it takes, has changed since the file ` +
				`was made: its line must be decided again`}},
		{name: "a renamed target", policy: edit("prod:", "production:"), want: []string{
			`2: rule 1 of target "production" (line 8 of the policy): the file has this rule of target "prod" only: ` +
				`a target that was renamed must be decided again`}},
		{name: "only lines moved", policy: func(r *repository) { r.commit("Bob", "# the policy\n\n"+both) }},
		{name: "not committed", policy: func(r *repository) { r.write(file, both+"# a comment\n") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, rows := reviewed(t, both)
			if tt.change != nil {
				rows = tt.change(rows)
			}
			if tt.policy != nil {
				tt.policy(r)
			}
			if diff := cmp.Diff(tt.want, r.check(writeRows(t, rows))); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func filled(row int, values ...string) func([][]string) [][]string {
	return func(rows [][]string) [][]string { fill(rows, row, values...); return rows }
}

// byAuthor is the problem of a decision by Ada, whose commit is the same in each run.
func byAuthor(name string) string {
	return fmt.Sprintf(`2: rule 1 of target "prod" (line 8 of the policy): it is decided by %q, who changed it last (COMMIT)`, name)
}

// check returns the problems of a file.
func (r *repository) check(text string) (problems []string) {
	r.t.Helper()
	s, err := review.ParseSheet([]byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.access(nil)
	for _, p := range a.Check(s) {
		text := p.Text
		for _, l := range a.Lines {
			if l.Changed.Commit != "" {
				text = strings.ReplaceAll(text, l.Changed.Commit[:12], "COMMIT")
			}
		}
		problems = append(problems, fmt.Sprintf("%d: %s", p.Line, text))
	}
	return problems
}

// TestCheckKeys: another key of the issuer's lets others in, and so does a rule of deny that is gone.
func TestCheckKeys(t *testing.T) {
	t.Parallel()
	const identities = "identities:\n  github: {issuer: \"https://token.actions.githubusercontent.com\", kind: github, jwks_uri: \"https://keys.acme.example/jwks\"}\n" +
		"deny:\n  - {actor: mallory}\nmaps:\n  trust_reviewed: {environment: {production: XL}}\n"
	const given = `what target "prod" gives, or whose tokens it takes, has changed since the file was made: its line must be decided again`
	for _, tt := range []struct {
		name, old, new string
		want           []string
	}{
		{"keys", "keys.acme", "keys.evil", []string{`2: rule 1 of target "prod" (line 8 of the policy): ` + given,
			`3: deny rule 1 (line 12 of the policy): what target "(deny)" gives, or whose tokens it takes, has changed since the file was made: its line must be decided again`}},
		{"a map with the name of a date", "{production: XL}", "{production: XS}", []string{`2: rule 1 of target "prod" (line 8 of the policy): ` + given}},
		{"a denial less", "deny:\n  - {actor: mallory}\n", "", []string{"3: deny rule 1: the decision is to keep it, and it is no longer there"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := source("prod", first) + identities
			r, rows := reviewed(t, src)
			r.commit("Eve", strings.Replace(src, tt.old, tt.new, 1))
			if diff := cmp.Diff(tt.want, r.check(writeRows(t, rows))); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheckUsers: a user of the warehouse without a rule is only in the file, and cannot be left out of it.
func TestCheckUsers(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first))
	in := r.input()
	a, err := review.NewAccess(t.Context(), review.AccessInput{
		Policy: in.Policy, Path: in.Path, Name: file, Environ: in.Environ, Now: today, Period: fourth(t), Login: login,
		Principals: []review.Principal{{Name: "DBT_PROD"}, {Name: "INTRUDER", Factor: "PASSWORD"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := review.AccessIn("csv")(a)
	if err != nil {
		t.Fatal(err)
	}
	rows := readRows(t, text)
	fill(rows, 1, "bob@acme.example", "keep", "2026-11-20")
	for _, tt := range []struct {
		rows [][]string
		want []string
	}{
		{rows, []string{`3: user "INTRUDER" of the warehouse: it has no decision`}},
		{slices.Delete(slices.Clone(rows), 2, 3), []string{"0: the file has 1 line, and was made with 2: put back what was removed"}},
	} {
		if diff := cmp.Diff(tt.want, r.check(writeRows(t, tt.rows))); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
	}
}

// TestCheckWithoutHistory: where the last author is not known, it may be the reviewer.
func TestCheckWithoutHistory(t *testing.T) {
	t.Parallel()
	r, rows := reviewed(t, source("prod", first))
	clone := &repository{t: t, dir: t.TempDir(), env: r.env}
	clone.write(file, source("prod", first))
	want := []string{`2: rule 1 of target "prod" (line 8 of the policy): who changed it last is unknown: not in git`}
	if diff := cmp.Diff(want, clone.check(writeRows(t, rows))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestCarry: decisions are kept for what has not changed, and what was removed
// or changed stays in the file as evidence.
func TestCarry(t *testing.T) {
	t.Parallel()
	r, rows := reviewed(t, source("prod", first+"\n"+other, "staging", other))
	fill(rows, 1, "Bob", "change", "2026-11-20", "only the release branch")
	fill(rows, 2, "Bob", "remove", "2026-11-20", "=never used")
	edited := strings.Replace(first, "refs/heads/main", "refs/heads/release", 1)
	r.commit("Ada", source("prod", edited, "staging", other))
	s, err := review.ParseSheet([]byte(writeRows(t, rows)))
	if err != nil {
		t.Fatal(err)
	}
	a := r.access(nil)
	a.Carry(s)
	text, err := review.AccessIn("csv")(a)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range readRows(t, text)[1:] {
		if !strings.HasPrefix(row[0], "#") {
			got = append(got, strings.Join(append(append([]string{}, row[:3]...), row[len(row)-4:]...), " "))
		}
	}
	want := []string{
		"allow prod 1    ",
		"allow staging 1 bob@acme.example keep 2026-11-20 ",
		"gone prod 1 Bob change 2026-11-20 only the release branch",
		"gone prod 2 Bob remove 2026-11-20 '=never used",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`2: rule 1 of target "prod" (line 8 of the policy): it has no decision`}, r.check(text)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestCarryTornRows: a decision is not carried over to another rule than the one that its row shows.
func TestCarryTornRows(t *testing.T) {
	t.Parallel()
	r, rows := reviewed(t, source("prod", first, "staging", other))
	at := slices.Index(rows[0], "fingerprint")
	rows[1][at], rows[2][at] = rows[2][at], rows[1][at]
	s, err := review.ParseSheet([]byte(writeRows(t, rows)))
	if err != nil {
		t.Fatal(err)
	}
	a := r.access(nil)
	a.Carry(s)
	for _, l := range a.Lines {
		if l.Decision != (review.Decision{}) {
			t.Errorf("target %s has %v", l.Target, l.Decision)
		}
	}
}

// TestSpreadsheets: what Excel and LibreOffice make of the file is the same file.
func TestSpreadsheets(t *testing.T) {
	t.Parallel()
	r, rows := reviewed(t, source("prod", first, "staging", other))
	fill(rows, 1, "Bob Müller", "keep", "2026-11-20", "so;\nlang, \"gut\"")
	text := writeRows(t, rows)
	var quoted strings.Builder
	for _, row := range rows { // LibreOffice with "quote all text cells"
		for i, cell := range row {
			if i > 0 {
				quoted.WriteString(",")
			}
			quoted.WriteString(`"` + strings.ReplaceAll(cell, `"`, `""`) + `"`)
		}
		quoted.WriteString("\n")
	}
	turned := make([][]string, len(rows)) // columns in another order, and one more
	for i, row := range rows {
		n := len(row)
		if turned[i] = append([]string{}, row...); i == 0 || !strings.HasPrefix(row[0], "#") {
			turned[i] = append(append([]string{}, row[n-4:]...), row[:n-4]...)
		}
		turned[i] = append(turned[i], "")
	}
	for name, text := range map[string]string{
		"as it was":   text,
		"Excel":       "\uFEFF" + strings.ReplaceAll(text, "\n", "\r\n"),
		"LibreOffice": quoted.String(),
		"empty rows":  text + strings.Repeat(",", len(rows[0])-1) + "\n\n",
		"turned":      writeRows(t, turned),
	} {
		if diff := cmp.Diff([]string(nil), r.check(text)); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseSheetFaults(t *testing.T) {
	t.Parallel()
	const columns = "line,target,rule,matches,fingerprint,reviewer,decision,decided_on\n"
	for _, tt := range []struct{ text, want string }{
		{"", "is empty"},
		{"\uFEFF\n\n", "is empty"},
		{strings.ReplaceAll(columns, ",", ";"), "has semicolons between its cells, want commas: save it again as CSV UTF-8 with commas"},
		{strings.ReplaceAll(columns, ",", "\t"), "has tabs between its cells, want commas: save it again as CSV UTF-8 with commas"},
		{columns + "allow,prod,1,\"x\n", `is no CSV: parse error on line 2, column 17: extraneous or missing " in quoted-field`},
		{"target,rule\nprod,1\n", `is no review: it has no column ["line" "matches" "fingerprint" "reviewer" "decision" "decided_on"]`},
		{"line," + columns, `has the column "line" twice`},
		{columns + "yes,prod,1,,,,,\n", `line 2: column "line" is "yes", want allow, deny, user or gone`},
		{columns + "allow,prod,1,,,M\xfcller,keep,2026-11-20\n", "line 2 is not UTF-8: save it again as CSV UTF-8"},
		{columns + "allow,prod,1,,,,,\n", `has no row "# period": the rows at the end belong to the review`},
		{columns + "# period,2026Q4,,,,,,\n# period,2025Q4,,,,,,\n", `line 3: has the row "# period" twice`},
		{columns + "# records,1,,,,,,\n# records,2,,,,,,\n", `line 3: has the row "# records" twice`},
		{columns + "# period,Q4,,,,,,\n", `line 2: period: got "Q4", ` + wantPeriod},
	} {
		_, err := review.ParseSheet([]byte(tt.text))
		if got := message(err); got != tt.want {
			t.Errorf("%q:\ngot  %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// TestInert: no cell begins a formula, and each is read back as it was.
func TestInert(t *testing.T) {
	t.Parallel()
	text, err := review.AccessIn("csv")(attacked())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range readRows(t, text) {
		for _, cell := range row {
			if strings.IndexAny(strings.TrimLeft(cell, " "), "=+-@\t\r＝＋－＠") == 0 {
				t.Errorf("a spreadsheet evaluates %q", cell)
			}
		}
	}
	s, err := review.ParseSheet([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a := attacked()
	for i := range a.Lines {
		a.Lines[i].Decision = review.Decision{}
	}
	a.Carry(s)
	for i, l := range a.Lines {
		if l.Kind == "allow" && l.Decision != attacked().Lines[i].Decision {
			want := strings.TrimSpace(visible(hostile[i]))
			if l.Decision.Reviewer != want || l.Decision.Comment != want {
				t.Errorf("%q is read back as %q", hostile[i], l.Decision)
			}
		}
	}
}

// visible has a mark for what cannot be seen.
func visible(s string) string {
	return strings.NewReplacer("\t", "\uFFFD", "\r", "\uFFFD", "\n", "\uFFFD", "\u202e", "\uFFFD").Replace(s)
}

func TestCheckRecords(t *testing.T) {
	t.Parallel()
	a := review.Access{Records: review.Summary{Count: 5}}
	for _, tt := range []struct {
		sheet review.Sheet
		want  string
	}{
		{review.Sheet{Records: 5}, "[]"},
		{review.Sheet{Records: -1}, "[{0 the file was made without records}]"},
		{review.Sheet{Records: 4, LastRecord: today},
			"[{0 the file counts 4 records until 2026-11-28T12:00:00.000Z, and there are 5: make it again with --decisions}]"},
	} {
		if got := fmt.Sprint(a.CheckRecords(tt.sheet)); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
