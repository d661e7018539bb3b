package auditlog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

var noon = time.UnixMilli(1793620800000).UTC() // when the golden records were written

// verify returns the findings in a log, at a time.
func verify(t testing.TB, log string, now time.Time) (*auditlog.Verification, []string) {
	t.Helper()
	v := auditlog.NewVerification(func(r *auditlog.Record) time.Duration { return 2 * time.Hour })
	for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(log), Statements: true}) {
		if err := v.Add(e, err); err != nil {
			t.Fatal(err)
		}
	}
	v.End(now)
	var got []string
	for _, f := range v.Findings {
		got = append(got, fmt.Sprintf("%d %s: %s", f.Line, f.Name, f.Message))
	}
	return v, got
}

// at returns a golden record of a run, at a time after noon.
func at(t testing.TB, kind, run string, after time.Duration, changes ...string) string {
	t.Helper()
	line := strings.ReplaceAll(golden(t, kind), "RUN1", run)
	ms := func(d time.Duration) string { return fmt.Sprint(noon.Add(d).UnixMilli()) }
	line = strings.Replace(line, `"time":1793620800000`, `"time":`+ms(after), 1)
	line = strings.Replace(line, `"expiration_time":0`, `"expiration_time":`+ms(after+5*time.Minute), 1)
	line = strings.Replace(line, `"expiration_time":1793624400000`, `"expiration_time":`+ms(after+time.Hour), 1)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(line, changes[i]) {
			t.Fatalf("%s has no %q: %s", kind, changes[i], line)
		}
		line = strings.Replace(line, changes[i], changes[i+1], 1)
	}
	return line + "\n"
}

// TestGoldensAreValid: all that this version writes.
func TestGoldensAreValid(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../audit/testdata/*.json")
	for name := range strings.FieldsSeq("allowed denied observed unread") {
		_, got := verify(t, at(t, "allowed", "RUN1", 0)+at(t, "issued", "RUN1", 0)+golden(t, "statements/"+name), noon)
		got = slices.DeleteFunc(got, func(f string) bool { return strings.Contains(f, auditlog.NoStatement) })
		if len(got) > 0 {
			t.Errorf("statements/%s: %q", name, got)
		}
	}
	if err != nil || len(files) < 9 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		_, got := verify(t, golden(t, strings.TrimSuffix(filepath.Base(file), ".json")), noon)
		if slices.ContainsFunc(got, func(f string) bool { return !strings.Contains(f, auditlog.NoDecision) }) {
			t.Errorf("%s: %q", file, got)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const unknown = "unknown-outcome: allowed, and no record of the outcome: whether a credential was issued is unknown"
	allowed, issued := at(t, "allowed", "A", 0), at(t, "issued", "A", time.Second)
	expires := fmt.Sprintf(`"expiration_time":%d`, noon.Add(time.Hour+time.Second).UnixMilli())
	long := fmt.Sprintf(`"expiration_time":%d`, noon.Add(3*time.Hour+time.Second).UnixMilli())
	statement := func(number int) string {
		return at(t, "statements/allowed", "A", time.Minute, `"uid":"A-statement-1"`, fmt.Sprintf(`"uid":"A-statement-%d"`, number))
	}
	for _, tt := range []struct {
		name, log string
		now       time.Duration
		want      []string
	}{
		{"a run", allowed + issued, time.Hour, nil},
		{"with its end", allowed + issued + at(t, "revoked", "A", time.Minute), time.Hour, nil},
		{"stopped", allowed + issued + at(t, "halted", "A", time.Minute) + at(t, "revoked", "A", time.Minute), time.Hour, nil},
		{"stopped before the exchange", allowed + at(t, "stopped", "A", 0), time.Hour, nil},
		{"stopped before the decision", at(t, "stopped", "A", 0), time.Hour, nil},
		{"stopped, and unknown", allowed + at(t, "halted", "A", 0), time.Hour, []string{"1 " + unknown}},
		{"stopped twice", allowed + issued + strings.Repeat(at(t, "halted", "A", time.Minute), 2), time.Hour, []string{
			`4 duplicate-record: record "A-stopped" is there twice`}},
		{"stopped after a denial", at(t, "denied", "A", 0) + at(t, "halted", "A", 0), time.Hour, []string{
			`2 issued-after-denial: outcome "stopped", and the decision was a denial`}},
		{"a renewal", allowed + at(t, "renewed", "A", 0), time.Hour, nil},
		{"an exchange that failed", allowed + at(t, "failed", "A", 0), time.Hour, nil},
		{"a failure before the decision", at(t, "failed", "A", 0), time.Hour, nil},
		{"a denial", at(t, "denied", "A", 0), time.Hour, nil},
		{"a dry run", allowed + at(t, "skipped", "A", 0), time.Hour, nil},
		{"callers turned away", allowed + issued + strings.Repeat(at(t, "failed", "A", time.Minute, `"outcome":"failed"`, `"outcome":"turned_away"`), 3), time.Hour, nil},
		{"not finished", allowed, 6*time.Minute - 1, nil},
		{"unknown", allowed, 6*time.Minute + 1, []string{"1 " + unknown}},
		{"unknown, and callers turned away", allowed + at(t, "failed", "A", time.Minute, `"outcome":"failed"`, `"outcome":"turned_away"`), time.Hour, []string{"1 " + unknown}},
		{"unknown among others", allowed + at(t, "allowed", "B", 0) + issued + at(t, "allowed", "C", 0), time.Hour, []string{"2 " + unknown, "4 " + unknown}},
		{"no decision", issued, time.Hour, []string{`1 outcome-without-decision: outcome "issued", and no record of a decision`}},
		{"an end only", at(t, "revoked", "A", 0), time.Hour, []string{`1 outcome-without-decision: outcome "revoked", and no record of a decision`}},
		{"the outcome first", issued + allowed, time.Hour, nil},
		{"long before the decision", at(t, "issued", "A", -2*time.Minute) + allowed, time.Hour, []string{"2 time-backwards: the decision is younger than its outcome"}},
		{"after a denial", at(t, "denied", "A", 0) + issued, time.Hour, []string{"2 issued-after-denial: a credential was issued, and the decision was a denial"}},
		{"before a denial", issued + at(t, "denied", "A", 0), time.Hour, []string{"1 issued-after-denial: a credential was issued, and the decision was a denial"}},
		{"twice", allowed + issued + issued, time.Hour, []string{`3 duplicate-record: record "A-logon" is there twice`}},
		{"all twice", allowed + issued + allowed + issued, time.Hour, []string{`3 duplicate-record: record "A-preauth" is there twice`, `4 duplicate-record: record "A-logon" is there twice`}},
		{"another outcome", allowed + at(t, "failed", "A", 0) + issued, time.Hour, []string{`3 conflicting-record: there is another record "A-logon", which says something else`}},
		{"another credential", allowed + issued + at(t, "issued", "A", time.Second, `"credential_uid":"8`, `"credential_uid":"9`), time.Hour, []string{
			`3 conflicting-record: there is another record "A-logon", which says something else`}},
		{"another decision", at(t, "denied", "A", 0) + at(t, "denied", "A", 0, `"target":"prod"`, `"target":"dev"`), time.Hour, []string{
			`2 conflicting-record: there is another record "A-preauth", which says something else`}},
		{"twice, in another form", allowed + issued + strings.Replace(issued, `:`, ` : `, 1), time.Hour, []string{`3 duplicate-record: record "A-logon" is there twice`}},
		{"an end after a denial", at(t, "denied", "A", 0) + at(t, "revoked", "A", 0), time.Hour, []string{`2 issued-after-denial: outcome "revoked", and the decision was a denial`}},
		{"an end before a denial", at(t, "revoked", "A", 0) + at(t, "denied", "A", 0), time.Hour, []string{`1 issued-after-denial: outcome "revoked", and the decision was a denial`}},
		{"a dry run after a denial", at(t, "denied", "A", 0) + at(t, "skipped", "A", 0), time.Hour, []string{`2 issued-after-denial: outcome "skipped", and the decision was a denial`}},
		{"a failure after a denial", at(t, "denied", "A", 0) + at(t, "failed", "A", 0), time.Hour, nil},
		{"clocks", at(t, "denied", "A", 0) + at(t, "denied", "B", -time.Minute), time.Hour, nil},
		{"back in time", at(t, "denied", "A", 0) + at(t, "denied", "B", -61*time.Second), time.Hour, []string{"2 time-backwards: is 1m1s older than the record before it"}},
		{"in the future", at(t, "denied", "A", 61*time.Second) + at(t, "denied", "B", time.Minute), 0, []string{"1 time-ahead: is 1m1s later than now"}},
		{"as clocks differ", at(t, "denied", "A", time.Minute), 0, nil},
		{"a long life", allowed + at(t, "issued", "A", time.Second, expires, long), time.Hour, []string{"2 lifetime-exceeded: the credential lives 3h0m0s, and max_lifetime is 2h0m0s"}},
		{"with its statements", allowed + issued + at(t, "statements/allowed", "A", time.Minute) + at(t, "statements/unread", "A", time.Minute, `"uid":"A-statement-1"`, `"uid":"A-statement-2"`), time.Hour, nil},
		{"a statement less", allowed + issued + statement(1) + statement(4) + statement(2), time.Hour, []string{"5 statement-missing: 1 of the run's 4 statements are missing"}},
		{"the first statements less", allowed + issued + statement(3), time.Hour, []string{"3 statement-missing: 2 of the run's 3 statements are missing"}},
		{"statements in another order", allowed + issued + statement(2) + statement(1) + statement(4) + statement(3), time.Hour, nil},
		{"a statement twice", allowed + issued + statement(1) + statement(2) + statement(2), time.Hour, []string{"5 duplicate-record: a statement of the run is there twice"}},
		{"one for another", allowed + issued + statement(1) + statement(3) + statement(3), time.Hour, []string{
			"5 statement-missing: 1 of the run's 3 statements are missing", "5 duplicate-record: a statement of the run is there twice"}},
		{"two for two others", allowed + issued + statement(1) + statement(1) + statement(4) + statement(4), time.Hour, []string{
			"6 statement-missing: 2 of the run's 4 statements are missing", "6 duplicate-record: a statement of the run is there twice"}},
		{"one for one before it", allowed + issued + statement(1) + statement(1) + statement(3), time.Hour, []string{
			"5 statement-missing: 1 of the run's 3 statements are missing", "5 duplicate-record: a statement of the run is there twice"}},
		{"statements without a decision", statement(1) + statement(2), time.Hour, []string{
			"1 outcome-without-decision: a statement was sent, and no record of a decision on the run"}},
		{"statements with an outcome only", statement(1) + issued, time.Hour, []string{
			`2 outcome-without-decision: outcome "issued", and no record of a decision`}},
		{"statements before the decision", statement(1) + at(t, "allowed", "A", time.Minute) + at(t, "issued", "A", time.Minute), time.Hour, nil},
		{"statements of a run that failed", allowed + at(t, "failed", "A", 0) + statement(1), time.Hour, []string{
			"3 conflicting-record: a statement was sent, and the run's outcome is that there was no credential"}},
		{"statements before the failure", statement(1) + at(t, "failed", "A", time.Minute), time.Hour, []string{
			"1 conflicting-record: a statement was sent, and the run's outcome is that there was no credential"}},
		{"statements of a dry run", allowed + at(t, "skipped", "A", 0) + statement(1), time.Hour, []string{
			"3 conflicting-record: a statement was sent, and the run's outcome is that there was no credential"}},
		{"statements of a run that was stopped before", allowed + at(t, "stopped", "A", 0) + statement(1), time.Hour, []string{
			"3 conflicting-record: a statement was sent, and the run's outcome is that there was no credential"}},
		{"statements of a run that was stopped", allowed + issued + statement(1) + at(t, "halted", "A", time.Minute), time.Hour, nil},
		{"statements after a denial", at(t, "denied", "A", 0) + at(t, "statements/allowed", "A", time.Minute), time.Hour, []string{
			"2 issued-after-denial: a statement was sent, and the decision on the run was a denial"}},
		{"statements before a denial", statement(1) + statement(2) + at(t, "denied", "A", time.Minute), time.Hour, []string{
			"1 issued-after-denial: a statement was sent, and the decision on the run was a denial"}},
		{"torn", allowed[:100] + "\n" + issued, time.Hour, []string{
			"1 damaged-line: is no audit record, or a part of one: unexpected end of JSON input",
			`2 outcome-without-decision: outcome "issued", and no record of a decision`}},
	} {
		if _, got := verify(t, tt.log, noon.Add(tt.now)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
	v, _ := verify(t, allowed+issued+at(t, "denied", "B", time.Hour)+at(t, "allowed", "C", time.Hour), noon.Add(time.Hour))
	if v.Records != 4 || v.Runs != 3 || v.Denied != 1 || v.Issued != 1 || v.Pending != 1 || v.First != noon || v.Last != noon.Add(time.Hour) {
		t.Errorf("got %+v", v)
	}
}

// TestStatementsOfAnotherDecision: a statement says by what decision it was sent.
func TestStatementsOfAnotherDecision(t *testing.T) {
	t.Parallel()
	allowed, issued := at(t, "allowed", "A", 0), at(t, "issued", "A", time.Second)
	const want = " conflicting-record: the statement's target, policy, rule or identity is another than that of the decision on its run"
	for _, change := range [][2]string{
		{`"target":"prod"`, `"target":"dev"`},
		{`"policy_sha256":"ab`, `"policy_sha256":"cd`},
		{`"rule":{"index":1,"number":2`, `"rule":{"index":0,"number":1`},
		{`"identity":"github"`, `"identity":"other"`},
		{`"kind":"github"`, `"kind":"gitlab"`},
		{`"name":"octocat"`, `"name":"hubot"`},
	} {
		first := at(t, "statements/allowed", "A", 2*time.Second)
		other := at(t, "statements/allowed", "A", 2*time.Second, change[0], change[1])
		second := strings.Replace(other, "A-statement-1", "A-statement-2", 1)
		for _, tt := range []struct{ log, want string }{
			{allowed + issued + other, "3" + want},
			{other + allowed + issued, "1" + want},
			{allowed + issued + first + second, "4" + want},
			{first + second + allowed + issued, "2" + want},
		} {
			if _, got := verify(t, tt.log, noon.Add(time.Hour)); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("%s: got %q, want %q", change[1], got, tt.want)
			}
		}
	}
}

// TestScatteredStatements: the numbers of a run's statements may come in any order,
// and take a limited amount of memory.
func TestScatteredStatements(t *testing.T) {
	t.Parallel()
	run := at(t, "allowed", "A", 0) + at(t, "issued", "A", time.Second)
	form := at(t, "statements/allowed", "A", time.Minute, `"uid":"A-statement-1"`, `"uid":"A-statement-%d"`)
	entry := func(text string) auditlog.Entry {
		for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(text), Statements: true}) {
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		return auditlog.Entry{}
	}
	found := func(numbers []int) (list []string) {
		v := auditlog.NewVerification(nil)
		for line := range strings.Lines(run) {
			_ = v.Add(entry(line), nil)
		}
		e := entry(fmt.Sprintf(form, 1))
		for _, n := range numbers {
			e.Record.Metadata.UID = fmt.Sprintf("A-statement-%d", n)
			if err := v.Add(e, nil); err != nil {
				t.Fatal(err)
			}
		}
		v.End(noon.Add(time.Hour))
		for _, f := range v.Findings {
			list = append(list, f.Name+": "+f.Message)
		}
		return list
	}
	order := rand.New(rand.NewPCG(20261129, 1)).Perm(500)
	for i := range order {
		order[i]++
	}
	odd := make([]int, 1<<16+1)
	for i := range odd {
		odd[i] = 2*i + 1
	}
	for _, tt := range []struct {
		name    string
		numbers []int
		want    []string
	}{
		{"any order", order, nil},
		{"one twice", append(order, 250), []string{"duplicate-record: a statement of the run is there twice"}},
		{"too many gaps", odd, []string{
			"statement-missing: the numbers of the run's statements are too scattered to tell which are missing"}},
		{"the highest", []int{1<<31 - 1}, []string{"statement-missing: 2147483646 of the run's 2147483647 statements are missing"}},
	} {
		if got := found(tt.numbers); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestInvalidRecords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ kind, old, new, want string }{
		{"denied", `"activity_name":"Preauth"`, `"activity_name":"Logon"`, `"activity_name" is "Logon", want "Preauth" by the other fields`},
		{"denied", `"activity_name":"Preauth",`, ``, `"activity_name" is missing`},
		{"denied", `"category_uid":3`, `"category_uid":4`, `"category_uid" is "4", want one of ["3"]`},
		{"denied", `"category_uid":3`, `"category_uid":3.0`, `"category_uid" is a fraction, want a whole number`},
		{"denied", `"category_uid":3`, `"category_uid":"3"`, `"category_uid" is a text, want a whole number`},
		{"denied", `"is_remote":true`, `"is_remote":null`, `"is_remote" is a null, want a true or false`},
		{"denied", `"is_remote":true`, `"is_remote":true,"is_remote":true`, `"is_remote" is there twice`},
		{"denied", `"is_remote":true`, `"is_remote":true,"Is_remote":true`, `"Is_remote" is no field of a record`},
		{"denied", `"target":"prod"`, `"target":"prod","Decision":"allowed"`, `"unmapped.Decision" is no field of a record`},
		{"denied", `"target":"prod"`, `"target":"prod","deci\u017fion":"allowed"`, `"unmapped.deciſion" is no field of a record`},
		{"denied", `"target":"prod"`, `"target":"prod","note":"` + "\xff" + `"`, `the line is not UTF-8`},
		{"statements/allowed", `"statement":{`, `"statements":null,"statement":{`, ""},
		{"statements/allowed", `"target":"prod"`, `"target":"prod","Statement":null`, `"unmapped.Statement" is no field of a record`},
		{"statements/allowed", `"count":1`, `"count":0`, `"unmapped.statement.count" is 0, want the number of statements in the message`},
		{"statements/allowed", `"count":1`, `"count":-1`, `"unmapped.statement.count" is -1, want the number of statements in the message`},
		{"statements/allowed", `"length":8`, `"length":-8`, `"unmapped.statement.length" is -8, want bytes`},
		{"statements/allowed", `"sha256":"abab`, `"sha256":"zzab`, `"unmapped.statement.sha256" is "zz` + strings.Repeat("ab", 31) + `", want a SHA-256 in lower case`},
		{"statements/allowed", `"sha256":"abab`, `"sha256":"ABab`, `"unmapped.statement.sha256" is "AB` + strings.Repeat("ab", 31) + `", want a SHA-256 in lower case`},
		{"statements/allowed", `"sha256":"` + strings.Repeat("ab", 32), `"sha256":"`, `"unmapped.statement.sha256" is "", want a SHA-256 in lower case`},
		{"statements/observed", `"query_info":{"uid":"ef`, `"query_info":{"uid":"cd`, `"query_info.uid" is "cd` + strings.Repeat("ef", 31) + `", want "` + strings.Repeat("ef", 32) + `" by the other fields`},
		{"denied", `"type_uid":300206`, `"type_uid":300201`, `"type_uid" is "300201", want "300206" by the other fields`},
		{"denied", `"status":"Failure"`, `"status":"Success"`, `"status" is "Success", want "Failure" by the other fields`},
		{"denied", `"severity":"Medium"`, `"severity":"Low"`, `"severity" is "Low", want "Medium" by the other fields`},
		{"denied", `"uid":"A-preauth"`, `"uid":"B-preauth"`, `"metadata.uid" is "B-preauth", want "A-preauth" by the other fields`},
		{"denied", `"name":"oidc-dbt"`, `"name":"other"`, `"metadata.product.name" is "other", want one of ["oidc-dbt"]`},
		{"denied", `"uid":"583231"`, `"id":"583231"`, `"actor.user.id" is no field of a record`},
		{"denied", `"decision":"denied","extra_ca_sha256"`, `"decision":"maybe","extra_ca_sha256"`, `"unmapped.decision" is "maybe", want one of ["allowed" "denied"]`},
		{"denied", `"decision":"denied","extra_ca_sha256"`, `"outcome":"issued","extra_ca_sha256"`, `activity Preauth has decision "" and outcome "issued"`},
		{"denied", `"claim":"ref"`, `"claims":"ref"`, `"unmapped.mismatches[1].claims" is no field of a record`},
		{"denied", `"target":"prod"`, `"target":"prod","newer":{"x":[1,null]}`, ""},
		{"allowed", `"rule":{"index":1,"line":17,"number":2},`, ``, `"unmapped.rule" is missing: a rule allows`},
		{"allowed", `"packages":["dbt-labs/dbt_utils@1.3.0"]`, `"packages":["x",1]`, `is no audit record: "unmapped.dbt.packages" is a JSON number`},
		{"issued", `"outcome":"issued"`, `"outcome":"stolen"`, `"unmapped.outcome" is "stolen", want one of ["issued" "renewed" "skipped" "revoked" "failed" "stopped" "turned_away"]`},
		{"halted", `"uid":"A-stopped"`, `"uid":"A-logoff"`, `"metadata.uid" is "A-logoff", want "A-stopped" by the other fields`},
		{"stopped", `"uid":"A-logon"`, `"uid":"A-stopped"`, `"metadata.uid" is "A-stopped", want "A-logon" by the other fields`},
		{"issued", `"warehouse_key":{`, `"warehouse_key":{"user":"x",`, `"unmapped.warehouse_key.user" is there twice`},
	} {
		_, got := verify(t, at(t, tt.kind, "A", 0, tt.old, tt.new), noon)
		got = slices.DeleteFunc(got, func(f string) bool { return strings.Contains(f, auditlog.NoDecision) })
		if tt.want == "" && len(got) > 0 ||
			tt.want != "" && (len(got) != 1 || !strings.HasSuffix(got[0], "-record: "+tt.want) && !strings.HasSuffix(got[0], "damaged-line: "+tt.want)) {
			t.Errorf("%s with %s: got %q, want %q", tt.kind, tt.new, got, tt.want)
		}
	}
}

func schema(t testing.TB, path string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStricterThanOCSF: what is no Authentication event by OCSF's own JSON
// Schema is found, in every field of a record.
func TestStricterThanOCSF(t *testing.T) {
	t.Parallel()
	ocsf := schema(t, "../audit/testdata/ocsf/authentication.schema.json")
	random := rand.New(rand.NewPCG(20261128, 2))
	values := []any{nil, true, "x", 7.0, 7.5, -1.0, []any{}, []any{"x"}, map[string]any{}, map[string]any{"name": "x"}, "2026"}
	refused := 0
	for range 4000 / sampling.Share {
		kind := []string{"allowed", "denied", "issued", "revoked", "failed"}[random.IntN(5)]
		var record map[string]any
		if err := json.Unmarshal([]byte(golden(t, kind)), &record); err != nil {
			t.Fatal(err)
		}
		change(random, record, values)
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		valid := ocsf.Validate(document) == nil
		_, found := verify(t, string(text), noon)
		found = slices.DeleteFunc(found, func(f string) bool { return strings.Contains(f, auditlog.NoDecision) })
		if !valid {
			refused++
		}
		if !valid && len(found) == 0 {
			t.Errorf("OCSF refuses it, and nothing is found: %s", text)
		}
	}
	if refused < 100/sampling.Share {
		t.Errorf("only %d records were refused", refused)
	}
}

// change removes, replaces or adds one field somewhere.
func change(random *rand.Rand, o map[string]any, values []any) {
	keys := slices.Sorted(maps.Keys(o))
	key := keys[random.IntN(len(keys))]
	if below, ok := o[key].(map[string]any); ok && len(below) > 0 && random.IntN(3) > 0 {
		change(random, below, values)
		return
	}
	switch random.IntN(3) {
	case 0:
		delete(o, key)
	case 1:
		o[key] = values[random.IntN(len(values))]
	case 2:
		o[key+"x"] = values[random.IntN(len(values))]
	}
}

// TestEvents holds each finding's event to the JSON Schema of its class. The
// schemas were made from OCSF 1.8.0 by the package ocsf-json-schema 1.2.0 of
// PyPI (OcsfJsonSchemaEmbedded.get_class_schema, classes "detection_finding" and
// "iam_analysis_finding"), without their descriptions.
func TestEvents(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[float64]*jsonschema.Schema{
		2004: schema(t, "testdata/ocsf/detection_finding.schema.json"), 2008: schema(t, "testdata/ocsf/iam_analysis_finding.schema.json"),
	}
	by := auditlog.Source{Version: "v1.2.3", PolicyFile: "p.yml", PolicySHA256: strings.Repeat("ab", 32), Now: noon}
	uids := map[string]bool{}
	names := []string{auditlog.DamagedLine, auditlog.InvalidRecord, auditlog.UnknownOutcome, auditlog.NoDecision, auditlog.AfterDenial,
		auditlog.Duplicate, auditlog.Backwards, auditlog.TooLong, auditlog.ReviewOverdue, auditlog.RuleUnused}
	for _, name := range names {
		if !bytes.Contains(page, []byte("| `"+name+"` |")) {
			t.Errorf("docs/audit.md does not explain %s", name)
		}
		for i, f := range []auditlog.Finding{
			{Name: name, Message: "m", Severity: auditlog.High},
			{Name: name, Message: "<script>\n", Severity: auditlog.Low, File: "f", Line: 7, Run: "R", Target: "prod", Rule: 2, Subject: "s", Time: noon},
		} {
			line, err := f.Event(by)
			if err != nil {
				t.Fatal(err)
			}
			var o map[string]any
			if err := json.Unmarshal(line, &o); err != nil {
				t.Fatal(err)
			}
			if err := schemas[o["class_uid"].(float64)].Validate(o); err != nil {
				t.Errorf("%s %d: %v", name, i, err)
			}
			info := o["finding_info"].(map[string]any)
			if uid := info["uid"].(string); uids[uid] || info["title"] == "" || bytes.Count(line, []byte("\n")) != 1 {
				t.Errorf("%s %d: %s", name, i, line)
			} else {
				uids[uid] = true
			}
			f.Line, f.Message, f.File = 9, "other words", "copy.jsonl"
			if again, err := f.Event(by); i == 1 && (err != nil || !bytes.Contains(again, []byte(info["uid"].(string)))) {
				t.Errorf("%s: another copy of the records has another uid: %s, %v", name, again, err)
			}
		}
	}
}

// FuzzVerify: no content of a line ends the verification, and a line
// that is found to be valid is no other event by OCSF's schema.
func FuzzVerify(f *testing.F) {
	for _, kind := range []string{"allowed", "denied", "issued", "revoked"} {
		f.Add(golden(f, kind))
	}
	f.Add(`{"class_uid":3002,"metadata":{"correlation_uid":"x","\u0075id":"y"},"unmapped":{"new":[{"a\"]":1e5},"\\"],"x":{}}}`)
	ocsf := schema(f, "../audit/testdata/ocsf/authentication.schema.json")
	f.Fuzz(func(t *testing.T, line string) {
		line = strings.ReplaceAll(line, "\n", " ")
		v, found := verify(t, line, time.UnixMilli(0))
		found = slices.DeleteFunc(found, func(f string) bool {
			return strings.Contains(f, auditlog.NoDecision) || strings.Contains(f, auditlog.TooLong)
		})
		if v.Records == 0 || len(found) > 0 {
			return
		}
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := ocsf.Validate(document); err != nil {
			t.Errorf("nothing is found in %s: %v", line, err)
		}
	})
}

// TestManyFindings: a log that is damaged everywhere does not fill the memory.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	v, _ := verify(t, strings.Repeat("x\n", 10_007), noon)
	if len(v.Findings) != 10_000 || v.Omitted != 7 {
		t.Errorf("%d findings, %d omitted", len(v.Findings), v.Omitted)
	}
}

func TestGrouping(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	random := rand.New(rand.NewPCG(20261128, 3))
	want := map[string][]string{}
	var order []string
	for i := range 3000 { // each run's outcome follows among the next runs
		for _, j := range []int{i, i - random.IntN(900)} {
			run := fmt.Sprintf("R%d", max(j, 0))
			if want[run] == nil {
				order = append(order, run)
			}
			want[run] = append(want[run], fmt.Sprint(len(want[run])))
			fmt.Fprintf(&log, `{"class_uid":3002,"metadata":{"correlation_uid":%q,"uid":%q},"unmapped":{"outcome":"o%d"}}`+"\n", run, run, len(want[run])-1)
		}
	}
	var g auditlog.Grouping
	var got []string
	records := 0
	keep := func(r *auditlog.Run) {
		got = append(got, r.ID)
		records += len(r.Records)
		for i, o := range r.Outcomes {
			if o != "o"+want[r.ID][i] {
				t.Errorf("run %s has outcomes %q", r.ID, r.Outcomes)
			}
		}
	}
	for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(log.String())}) {
		if err != nil {
			t.Fatal(err)
		}
		if r := g.Add(e); r != nil {
			keep(r)
		}
	}
	for _, r := range g.Rest() {
		keep(r)
	}
	if !slices.Equal(got, order) || records != 6000 {
		t.Errorf("%d runs with %d records, want %d with 6000", len(got), records, len(order))
	}
}

// TestVerificationMemory: a run that has ended costs a few bytes.
func TestVerificationMemory(t *testing.T) { // not parallel: it measures the heap of the process
	const runs = 20_000 / sampling.Share
	allowed, issued := at(t, "allowed", "RUN-000000", 0), at(t, "issued", "RUN-000000", 0)
	v := auditlog.NewVerification(nil)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range runs {
		lines := strings.ReplaceAll(allowed+issued, "RUN-000000", fmt.Sprintf("RUN-%06d", i))
		for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(lines)}) {
			if err := v.Add(e, err); err != nil {
				t.Fatal(err)
			}
		}
	}
	grown := int64(heap()) - int64(before)
	v.End(noon.Add(time.Hour))
	const others = 256 << 10 // what else in the process, the runtime's own included, may need meanwhile
	if v.Runs != runs || len(v.Findings) != 0 || grown > others+80*runs {
		t.Errorf("%d runs, %d findings, %d bytes each", v.Runs, len(v.Findings), grown/runs)
	}
	t.Logf("%d bytes a run", grown/runs)
}

func BenchmarkVerify(b *testing.B) {
	text := strings.Repeat(at(b, "allowed", "A", 0)+at(b, "issued", "A", 0), 500)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		verify(b, text, noon)
	}
}

// TestMissingObjects: the objects of a run's statements have numbers, too.
func TestMissingObjects(t *testing.T) {
	t.Parallel()
	statement := func(number int) string {
		return at(t, "statements/allowed", "A", time.Minute, `"uid":"A-statement-1"`, fmt.Sprintf(`"uid":"A-statement-%d"`, number))
	}
	run := at(t, "allowed", "A", 0) + at(t, "issued", "A", time.Second)
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"all there": {map[string]string{"A-statements-000001": statement(1) + statement(2), "A-statements-000002": statement(3)}, nil},
		"one less": {map[string]string{"A-statements-000001": statement(1), "A-statements-000003": statement(3)}, []string{
			"1 statement-missing: 1 of the run's 3 statements are missing, with 1 of its 3 objects"}},
		"renumbered": {map[string]string{"A-statements-000001": statement(1), "A-statements-000004": statement(2)}, []string{
			"1 statement-missing: the run's statements are there, and not 2 of its 4 objects"}},
		"of other names": {map[string]string{"A-statements-1": statement(1), "A-statements-0000003": statement(2), "A-x": statement(3)}, nil},
	} {
		dir := t.TempDir()
		tt.files["A-decision"] = run
		for file, text := range tt.files {
			if err := os.WriteFile(filepath.Join(dir, file+".json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v := auditlog.NewVerification(nil)
		for e, err := range auditlog.Read(t.Context(), []string{dir}, auditlog.Options{Statements: true}) {
			if err := v.Add(e, err); err != nil {
				t.Fatal(err)
			}
		}
		v.End(noon.Add(time.Hour))
		var got []string
		for _, f := range v.Findings {
			got = append(got, fmt.Sprintf("%d %s: %s", f.Line, f.Name, f.Message))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
