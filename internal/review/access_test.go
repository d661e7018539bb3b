package review_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want, err string }{
		{"2026Q4", "2026-10-01..2026-12-31", ""},
		{"2026q1", "2026-01-01..2026-03-31", ""},
		{"2024", "2024-01-01..2024-12-31", ""},
		{"2024-02", "2024-02-01..2024-02-29", ""},
		{"2026-10-15..2027-01-14", "2026-10-15..2027-01-14", ""},
		{"2026-10-15..2026-10-15", "2026-10-15..2026-10-15", ""},
		{"2026Q5", "", `got "2026Q5", ` + wantPeriod},
		{"Q4", "", `got "Q4", ` + wantPeriod},
		{"", "", `got "", ` + wantPeriod},
		{"2026-10-01..", "", `got "2026-10-01..", ` + wantPeriod},
		{"2026-12-31..2026-10-01", "", `got "2026-12-31..2026-10-01", which ends before it begins`},
		{"2020-01-01..2026-01-01", "", `got "2020-01-01..2026-01-01", which is 2193 days, want at most 400`},
	} {
		p, err := review.ParsePeriod(tt.text)
		if got := message(err); got != tt.err || err == nil && p.String() != tt.want {
			t.Errorf("%q: got %s, %q; want %s, %q", tt.text, p, got, tt.want, tt.err)
		}
	}
}

const wantPeriod = "want a quarter such as 2026Q4, a year, a month such as 2026-11, or two days such as 2026-10-01..2026-12-31"

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func fourth(t testing.TB) review.Period {
	t.Helper()
	p, err := review.ParsePeriod("2026Q4")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("oidc-dbt.yml", []byte(src), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// login is what the command gets of `explain`.
func login(t *policy.Target) map[string]string {
	return map[string]string{"provider": t.Provider(), "role": t.Exchange().Get("role"), "user": "DBT_" + strings.ToUpper(t.Name()), "schema": "marts"}
}

// access makes a review of a policy in a repository as it is checked out.
func (r *repository) access(records iter.Seq2[auditlog.Entry, error]) review.Access {
	r.t.Helper()
	in := r.input()
	a, err := review.NewAccess(r.t.Context(), review.AccessInput{
		Policy: in.Policy, Path: in.Path, Name: file, Environ: in.Environ, Now: today, Period: fourth(r.t), Login: login, Records: records,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// TestRuleHistory: who brought each rule, through all its edits, and who
// changed last what it gives.
func TestRuleHistory(t *testing.T) {
	t.Parallel()
	edited := strings.Replace(first, "refs/heads/main", "refs/heads/release", 1)
	for _, tt := range []struct {
		name    string
		history func(*repository)
		want    string // of each rule: added, changed
	}{
		{"one commit", func(r *repository) { r.commit("Ada", source("prod", first)) }, "prod 1: Ada 02, Ada 02"},
		{"an edit", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", edited))
		}, "prod 1: Ada 02, Bob 03"},
		{"another rule above", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", other+"\n"+first))
		}, "prod 1: Bob 03, Bob 03; prod 2: Ada 02, Ada 02"},
		{"moved, then edited", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", other+"\n"+first))
			r.commit("Eve", source("prod", other+"\n"+edited))
		}, "prod 1: Bob 03, Bob 03; prod 2: Ada 02, Eve 04"},
		{"another role for the target", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", strings.Replace(source("prod", first), "role/dbt", "role/admin", 1))
		}, "prod 1: Ada 02, Bob 03"},
		{"the date of a review", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", strings.ReplaceAll(source("prod", first), "2026-10-01", "2026-10-03"))
		}, "prod 1: Ada 02, Ada 02"},
		{"claims in another order", func(r *repository) {
			r.commit("Ada", source("prod", "- {repository_id: \"1\", repository: acme/a, ref: refs/heads/main}"))
			r.commit("Bob", source("prod", "- {ref: refs/heads/main, repository: acme/a, repository_id: '1'}"))
		}, "prod 1: Ada 02, Ada 02"},
		{"not committed", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.write(file, source("prod", first+"\n"+other))
		}, "prod 1: Ada 02, Ada 02; prod 2: changed since the last commit, changed since the last commit"},
		{"not in git", func(r *repository) { r.write(file, source("prod", first)) }, "prod 1: not in git, not in git"},
		{"another key of the issuer's", func(r *repository) {
			const keys = "identities:\n  github: {issuer: \"https://token.actions.githubusercontent.com\", kind: github, jwks_uri: \"https://keys.acme.example/1\"}\n"
			r.commit("Ada", source("prod", first)+keys)
			r.commit("Bob", source("prod", first)+strings.Replace(keys, "/1", "/2", 1))
		}, "prod 1: Ada 02, Bob 03"},
		{"brought back by a merge", func(r *repository) {
			broughtBack(r, "README")
		}, "prod 1: Ada 02, Ada 02; prod 2: Eve 05, Eve 05"},
		{"brought back by a merge of another version", func(r *repository) {
			broughtBack(r, file)
		}, "prod 1: Ada 02, Ada 02; prod 2: Eve 05, Eve 05"},
		{"deny", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", first)+"deny:\n  - {actor: mallory}\n")
		}, "prod 1: Ada 02, Ada 02; (deny) 1: Bob 03, Bob 03"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			tt.history(r)
			if got := histories(r.access(nil)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// broughtBack has a rule by Bob that Ada has removed, and that Eve brings back by a merge of what it was in: a branch of
// Bob's version, on which she has changed a file.
func broughtBack(r *repository, changed string) {
	r.commit("Ada", source("prod", first))
	r.commit("Bob", source("prod", first+"\n"+other))
	r.git("branch", "old")
	r.commit("Ada", source("prod", first))
	r.git("checkout", "-q", "old")
	text := "# old\n" + source("prod", first+"\n"+other)
	r.write(changed, text)
	r.git("add", changed)
	r.git("-c", "user.name=Eve", "commit", "-q", "-m", "a comment")
	r.git("checkout", "-q", "main")
	r.day++
	r.git("-c", "user.name=Eve", "merge", "-q", "--no-commit", "-s", "ours", "old")
	r.git("checkout", "-q", "old", "--", file)
	r.git("-c", "user.name=Eve", "commit", "-q", "-m", "merge")
}

func histories(a review.Access) string {
	one := func(c review.Change) string {
		if c.Unknown != "" {
			return c.Unknown
		}
		return c.Author + " " + c.Time.Format("02")
	}
	var lines []string
	for _, l := range a.Lines {
		lines = append(lines, fmt.Sprintf("%s %d: %s, %s", l.Target, l.Rule, one(l.Added), one(l.Changed)))
	}
	return strings.Join(lines, "; ")
}

// TestRuleHistoryOfAShallowClone: what the clone does not have is said.
func TestRuleHistoryOfAShallowClone(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first))
	r.commit("Bob", source("prod", first+"\n"+other))
	clone := &repository{t: t, dir: t.TempDir(), env: r.env, day: 20}
	clone.git("clone", "-q", "--depth=1", "file://"+r.dir, ".")
	const want = "prod 1: not in this shallow clone, not in this shallow clone; prod 2: not in this shallow clone, not in this shallow clone"
	if got := histories(clone.access(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A line is what a test writes of a record.
type line struct {
	id, at     string // at: day and hour, such as 10-05T12
	sha        string
	target     string
	rule       int
	decision   string
	outcome    string
	repository string
	detail     string
	mismatches []auditlog.Mismatch
}

func (l line) record() auditlog.Entry {
	at, err := time.Parse("2006-01-02T15", "2026-"+l.at)
	if err != nil {
		panic(err)
	}
	var e auditlog.Entry
	e.Record.Time = at.UnixMilli()
	e.Record.Metadata.CorrelationUID, e.Record.StatusDetail = l.id, l.detail
	u := &e.Record.Unmapped
	u.PolicySHA256, u.Target, u.Decision, u.Outcome, u.Mismatches = l.sha, l.target, l.decision, l.outcome, l.mismatches
	if l.rule > 0 {
		u.Rule = &auditlog.Rule{Index: l.rule - 1, Number: l.rule}
	}
	if l.repository != "" {
		u.Claims = map[string]string{"repository": l.repository}
	}
	return e
}

func records(lines ...line) iter.Seq2[auditlog.Entry, error] {
	return func(yield func(auditlog.Entry, error) bool) {
		for _, l := range lines {
			if l.id == "" {
				if !yield(auditlog.Entry{}, &auditlog.Fault{File: "a.jsonl", Line: 7, Err: errors.New("is no audit record")}) {
					return
				}
			} else if !yield(l.record(), nil) {
				return
			}
		}
	}
}

// TestCounts: records count for the rule that decided, wherever it was in the
// version of the policy that decided.
func TestCounts(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	before, now := source("prod", first), source("prod", other+"\n"+first)+"deny:\n  - {actor: mallory}\n"
	r.commit("Ada", before)
	r.commit("Bob", now)
	old, sha := parse(t, before).SHA256(), parse(t, now).SHA256()
	near := []auditlog.Mismatch{{Number: 1}, {Number: 1}, {Number: 2}}
	a := r.access(records(
		line{id: "1", at: "10-05T12", sha: old, target: "prod", rule: 1, decision: "allowed", repository: "acme/analytics"},
		line{id: "1", at: "10-05T13", target: "prod", outcome: "issued", repository: "acme/analytics"},
		line{id: "2", at: "11-05T12", sha: sha, target: "prod", rule: 2, decision: "allowed", repository: "acme/analytics"},
		line{id: "3", at: "11-06T12", sha: sha, target: "prod", rule: 2, decision: "allowed", repository: "acme/analytics"},
		line{id: "2", at: "11-06T13", target: "prod", outcome: "renewed", repository: "acme/analytics"},
		line{id: "3", at: "11-06T13", target: "prod", outcome: "failed", repository: "acme/analytics"},
		line{id: "4", at: "11-07T12", sha: sha, target: "prod", decision: "denied", mismatches: near, repository: "acme/shop"},
		line{id: "5", at: "11-08T12", sha: sha, decision: "denied", detail: `deny rule 1 (line 12) matches "x"`},
		line{id: "6", at: "11-08T12", sha: sha, decision: "denied", detail: "no rule of any target matches"},
		line{id: "7", at: "11-08T12", sha: "other", target: "prod", rule: 1, decision: "allowed"},
		line{id: "8", at: "11-08T13", target: "prod", outcome: "issued"},
		line{id: "9", at: "09-30T23", sha: sha, target: "prod", rule: 1, decision: "allowed"},
		line{},
	))
	var got []string
	for _, l := range a.Lines {
		got = append(got, fmt.Sprintf("%s %d: %d decisions, %d denials, %d uses, last %s, unused %t",
			l.Target, l.Rule, l.Use.Decisions, l.Use.Denials, l.Use.Uses, l.Use.Last.Format("01-02T15"), l.Unused()))
	}
	want := []string{
		"prod 1: 0 decisions, 0 denials, 0 uses, last 01-01T00, unused true",
		"prod 2: 3 decisions, 1 denials, 2 uses, last 11-06T12, unused false",
		"(deny) 1: 0 decisions, 1 denials, 0 uses, last 11-08T12, unused false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	s := a.Records
	if got, want := fmt.Sprintf("%d records from %s to %s, %d unreadable %q, %d elsewhere, %d former, %d denials, %d unmatched",
		s.Count, s.First.Format("01-02T15"), s.Last.Format("01-02T15"), s.Unreadable, s.Faults, s.Elsewhere, s.Former, s.Denials, s.Unmatched),
		`11 records from 10-05T12 to 11-08T13, 1 unreadable ["a.jsonl:7: is no audit record"], 1 elsewhere, 0 former, 1 denials, 1 unmatched`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	repositories := fmt.Sprintf("%s %d records on %d days, gap of %d from %s", s.Repositories[0].Name, s.Repositories[0].Records,
		s.Repositories[0].DaysWith, s.Repositories[0].Gap, s.Repositories[0].GapFirst.Format("01-02"))
	if want := "acme/analytics 6 records on 3 days, gap of 30 from 10-06"; repositories != want || len(s.Repositories) != 2 {
		t.Errorf("got %s of %d, want %s", repositories, len(s.Repositories), want)
	}
}

// TestCredentialsOfOtherDecisions: a credential whose decision was by another
// policy, by a rule that has gone, or before the period, has one; none of them
// counts for a rule of today.
func TestCredentialsOfOtherDecisions(t *testing.T) {
	t.Parallel()
	sha := parse(t, source("prod", first)).SHA256()
	for name, tt := range map[string]struct {
		decision line
		want     string
	}{
		"by another policy": {line{id: "1", at: "10-05T12", sha: "other", target: "prod", rule: 1, decision: "allowed"}, "1 elsewhere, 0 former, 0 unmatched"},
		"by a former rule":  {line{id: "1", at: "10-05T12", sha: sha, target: "prod", rule: 9, decision: "allowed"}, "0 elsewhere, 1 former, 0 unmatched"},
		"before the period": {line{id: "1", at: "09-30T23", sha: sha, target: "prod", rule: 1, decision: "allowed"}, "0 elsewhere, 0 former, 0 unmatched"},
		"denied elsewhere":  {line{id: "1", at: "10-05T12", sha: "other", target: "prod", decision: "denied"}, "1 elsewhere, 0 former, 1 unmatched"},
		"of another run":    {line{id: "2", at: "10-05T12", sha: "other", target: "prod", rule: 1, decision: "allowed"}, "1 elsewhere, 0 former, 1 unmatched"},
	} {
		a := reviewOf(t, source("prod", first), records(tt.decision, line{id: "1", at: "10-05T13", target: "prod", outcome: "issued"}))
		got := fmt.Sprintf("%d elsewhere, %d former, %d unmatched", a.Records.Elsewhere, a.Records.Former, a.Records.Unmatched)
		if got != tt.want || a.Lines[0].Use.Uses > 0 {
			t.Errorf("%s: %s, %d uses; want %s and none", name, got, a.Lines[0].Use.Uses, tt.want)
		}
	}
}

// TestBucketTarget: the target that writes audit records is marked.
func TestBucketTarget(t *testing.T) {
	t.Parallel()
	src := source("prod", first, "log", first) + "audit:\n  bucket: {target: log, url: \"s3://acme-audit/oidc-dbt/\"}\n"
	a, err := review.NewAccess(t.Context(), review.AccessInput{Policy: parse(t, src), Now: today, Period: fourth(t), Login: login})
	if err != nil {
		t.Fatal(err)
	}
	if a.Lines[0].Ships || !a.Lines[1].Ships {
		t.Errorf("got %t for prod, %t for log; want the second only", a.Lines[0].Ships, a.Lines[1].Ships)
	}
}

// hostile is what a commit, a token or a file may call something.
var hostile = []string{
	`=HYPERLINK("https://evil.example","x")`, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "＝1", "'=1", "'quoted'", " =1",
	"a,b\"c;d", "line\r\nbreak", "</script><script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "| x | **b** [a](https://evil.example) `c`",
	"::error::x ##[group]y", "\u202egnp.exe", "# period", "<!--", "]]>", "<style>*{}</style>", "javascript:alert(1)",
}

// attacked is a review in which every text from outside is hostile.
func attacked() review.Access {
	a := review.Access{
		Now: today, Policy: hostile[0], PolicySHA256: strings.Repeat("ab", 32), WithRecords: true, WithUsers: true,
		Records: review.Summary{Count: 3, First: today, Last: today, Unreadable: 1, Faults: []string{hostile[11]},
			Repositories: []review.Repository{{Name: hostile[12], Records: 3, First: today, Last: today, DaysWith: 1}}},
	}
	a.Period, _ = review.ParsePeriod("2026Q4")
	for i, text := range hostile {
		change := review.Change{Commit: strings.Repeat("7f93c5e6a1", 4), Author: text, Time: today,
			Merge: review.Merge{PullRequest: "#12", By: text, Reviewers: []string{text, "Eve"}}}
		a.Lines = append(a.Lines, review.Line{
			Kind: "allow", Target: "prod", Rule: i + 1, At: 10 + i, Identity: "github", IdentityKind: "github", Binds: "id", Recorded: true,
			Matches: []review.Match{{Claim: "ref", Patterns: []string{text}}}, Events: []string{"push"}, Environment: []string{text},
			Provider: "aws", Principal: text, User: text, Role: text, Schema: text, Lifetime: "1h", InWarehouse: text, Added: change,
			Changed: change, Use: review.Use{Decisions: i, Last: today}, Wide: i%2 == 0, Reviewed: today,
			Fingerprint: fmt.Sprintf("sha256:%032x", i),
			Decision:    review.Decision{Reviewer: text, Decision: "keep", On: "2026-11-28", Comment: text},
		})
	}
	a.Lines = append(a.Lines, review.Line{Kind: "user", User: hostile[0], InWarehouse: "there, by PASSWORD, and no rule", Fingerprint: "sha256:ff"})
	return a
}

// TestAccessFormats: what each format makes of hostile texts.
func TestAccessFormats(t *testing.T) {
	t.Parallel()
	for _, name := range review.AccessFormats() {
		text, err := review.AccessIn(name)(attacked())
		if err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, "testdata/access."+name, text)
	}
	if review.AccessIn("xml") != nil {
		t.Error("there is a format xml")
	}
}
