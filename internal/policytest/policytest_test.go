package policytest_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
)

const shop = `version: 1
targets:
  prod:
    dbt: {type: duckdb, path: x.duckdb}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-${environment}", region: eu-west-1}}
    allow:
      - {repository: acme/analytics, repository_id: "7", environment: production, ref: refs/heads/main}
      - {repository: acme/analytics, repository_id: "7", environment: production, ref: refs/tags/*}
  dev:
    dbt: {type: duckdb, path: x.duckdb}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-dev", region: eu-west-1}}
    allow:
      - {repository: acme/analytics, repository_id: "7", environment: staging}
deny:
  - actor: mallory
`

func load(t testing.TB) func(string) (*policy.Policy, error) {
	t.Helper()
	return func(path string) (*policy.Policy, error) {
		if path != policytest.DefaultPolicy {
			return nil, fmt.Errorf("no policy %q", path)
		}
		return policy.Parse(path, []byte(shop), job.Catalog())
	}
}

var day = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const mainProd = `claims: {repository: acme/analytics, repository_id: "7", environment: production, ref: refs/heads/main}`

const mallory = `claims: {repository: acme/analytics, repository_id: "7", environment: production, ref: refs/heads/main, actor: mallory}`

func TestCases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, message string }{
		{"allowed", mainProd + "\n    allow: prod", ""},
		{"allowed, by its login", mainProd + "\n    allow: prod\n    login: {provider: aws, role: \"arn:aws:iam::123456789012:role/dbt-production\"}", ""},
		{"another login", mainProd + "\n    allow: prod\n    login: {role: x}",
			`login of "prod": role is "arn:aws:iam::123456789012:role/dbt-production", want "x"`},
		{"not allowed", mainProd + "\n    allow: dev", `want "dev" allowed, got denied: no rule of target "dev" matches "repo:acme/analytics:environment:production"`},
		{"also allowed", mainProd + "\n    allow: [prod, dev]", `want "dev" allowed, got denied: no rule of target "dev" matches "repo:acme/analytics:environment:production"`},
		{"not denied", mainProd + "\n    deny: prod", `want "prod" denied, got allowed by rule 1 (line 7)`},
		{"not all denied", mainProd + "\n    deny: all", `want "prod" denied, got allowed by rule 1 (line 7)`},
		{"denied", mainProd + "\n    deny: dev", ""},
		{"denied because", mainProd + "\n    deny: dev\n    because: environment", ""},
		{"denied because of another", mainProd + "\n    deny: dev\n    because: [environment, ref]",
			`"dev" is denied because of "environment" (rule 1, line 13), want because of "environment", "ref"`},
		{"denied because of a deny rule", mallory + "\n    deny: all\n    because: actor", ""},
		{"denied because of another than a deny rule", mallory + "\n    deny: prod\n    because: environment",
			`denied because of "actor" (deny rule 1, line 15), want because of "environment"`},
		{"not allowed by a deny rule", mallory + "\n    allow: prod",
			`want "prod" allowed, got denied: deny rule 1 (line 15) matches "repo:acme/analytics:environment:production"`},
		{"a derived claim", `claims: {repository: acme/analytics, actor_kind: bot}` + "\n    deny: dev",
			"actor_kind is made from actor, and no token has it: give actor"},
		{"a claim that is not known, and near none", `claims: {repository: acme/analytics, colour: green}` + "\n    deny: dev", ""},
		{"no such token", `claims: {repository: "-"}` + "\n    deny: dev", `repository is "-", want OWNER/REPOSITORY`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := policytest.Parse("p.test.yml", []byte("version: 1\ncoverage: none\ncases:\n  - name: one\n    "+c.text+"\n"), load(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Run(day).Results[0].Message; got != c.message {
				t.Errorf("message\n%s\nwant\n%s", got, c.message)
			}
		})
	}
}

// guarded is a policy in which named people build, and everyone else reads.
const guarded = `version: 1
targets:
  prod:
    dbt: {type: snowflake, account: acme, user: DBT, database: ANALYTICS, schema: marts}
    exchange: {oidc: {audience: snowflakecomputing.com}}
    guard: {statements: build, stop_after: 20}
    allow:
      - {repository: acme/analytics, repository_id: "7", ref: refs/heads/main, actor_id: "583231"}
      - {repository: acme/analytics, repository_id: "7", ref: refs/heads/main, guard: {statements: read}}
  free:
    dbt: {type: duckdb, path: x.duckdb}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-dev", region: eu-west-1}}
    allow:
      - {repository: acme/analytics, repository_id: "7", ref: refs/heads/free}
`

// TestGuards: a case holds the guard, so that rules in another order fail it.
func TestGuards(t *testing.T) {
	t.Parallel()
	const (
		people   = `claims: {repository: acme/analytics, repository_id: "7", ref: refs/heads/main, actor_id: "583231"}` + "\n    allow: prod"
		everyone = `claims: {repository: acme/analytics, repository_id: "7", ref: refs/heads/main, actor_id: "1"}` + "\n    allow: prod"
		free     = `claims: {repository: acme/analytics, repository_id: "7", ref: refs/heads/free}` + "\n    allow: free"
	)
	lines := strings.SplitAfter(guarded, "\n")
	lines[7], lines[8] = lines[8], lines[7]
	swapped := strings.Join(lines, "")
	for _, c := range []struct{ name, policy, text, message string }{
		{"a person's", guarded, people + "\n    guard: \"statements: build, stop_after: 20\"", ""},
		{"everyone's", guarded, everyone + "\n    guard: \"statements: read, stop_after: 20\"", ""},
		{"a part of it", guarded, everyone + "\n    guard: \"statements: read\"",
			`guard of "prod" is "statements: read, stop_after: 20" by rule 2 (line 9), want "statements: read"`},
		{"swapped", swapped, people + "\n    guard: \"statements: build, stop_after: 20\"",
			`guard of "prod" is "statements: read, stop_after: 20" by rule 1 (line 8), want "statements: build, stop_after: 20"`},
		{"swapped, unsaid", swapped, people, ""},
		{"none", guarded, free + "\n    guard: none", ""},
		{"none, and there is one", guarded, everyone + "\n    guard: none",
			`guard of "prod" is "statements: read, stop_after: 20" by rule 2 (line 9), want "none"`},
		{"one, and there is none", guarded, free + "\n    guard: \"statements: read\"",
			`guard of "free" is "none" by rule 1 (line 14), want "statements: read"`},
	} {
		p, err := policy.Parse(policytest.DefaultPolicy, []byte(c.policy), job.Catalog())
		if err != nil {
			t.Fatal(err)
		}
		f, err := policytest.Parse("p.test.yml", []byte("version: 1\ncoverage: none\ncases:\n  - name: one\n    "+c.text+"\n"),
			func(string) (*policy.Policy, error) { return p, nil })
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Run(day).Results[0].Message; got != c.message {
			t.Errorf("%s: message\n%s\nwant\n%s", c.name, got, c.message)
		}
		if c.name != "everyone's" {
			continue
		}
		report := policytest.Report{Mutants: f.Mutate(day)}
		var text, asJSON strings.Builder
		if err := errors.Join(policytest.Write(&text, "text", []policytest.Report{report}), policytest.Write(&asJSON, "json", []policytest.Report{report})); err != nil {
			t.Fatal(err)
		}
		if want := "! one: with no actor_id it is still allowed, by rule 2 (line 9; guard: statements: read, stop_after: 20)\n"; !strings.Contains(text.String(), want) {
			t.Errorf("mutants are\n%s\nwant one of\n%s", text.String(), want)
		}
		if want := `"guard": "statements: read, stop_after: 20"`; !strings.Contains(asJSON.String(), want) {
			t.Errorf("the JSON is\n%s\nwant %s", asJSON.String(), want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const head = "version: 1\ncases:\n  - name: one\n    "
	for _, c := range []struct{ name, text, err string }{
		{"no version", "cases: []", `p.test.yml:1:1: a policy test has no version: want ` + "`version: 1`"},
		{"another version", "version: 2\ncases: []", "p.test.yml:1:10: version is 2, this build reads version 1"},
		{"a typing error", "version: 1\ncases: []\ncase: []", `p.test.yml:3:1: unknown key "case" in a policy test, valid keys are ["version" "policy" "cases" "coverage"]: did you mean "cases"?`},
		{"no cases", "version: 1\ncases: []", "p.test.yml:2:8: cases is empty"},
		{"cases are no list", "version: 1\ncases: {a: b}", "p.test.yml:2:8: cases: want a list, got a mapping"},
		{"an absolute policy", "version: 1\npolicy: /p.yml\ncases: []", `p.test.yml:2:9: policy "/p.yml": want a path relative to this file, with /`},
		{"coverage", "version: 1\ncoverage: lines\ncases: []", `p.test.yml:2:11: coverage is "lines", valid values are ["rules" "none"]`},
		{"no claims", head + "allow: prod", "p.test.yml:3:5: a case has no claims"},
		{"a target with a typing error", head + mainProd + "\n    allow: prid", `p.test.yml:5:12: allow: unknown target "prid", the policy has ["prod" "dev"]: did you mean "prod"?`},
		{"a claim with a typing error", head + "claims: {repository: acme/analytics, enviroment: staging}\n    deny: all",
			`p.test.yml:4:42: "enviroment" is not a claim: did you mean "environment"?`},
		{"a claim by another name", head + "claims: {repo: acme/analytics}\n    deny: all",
			`p.test.yml:4:14: "repo" is not a claim: did you mean "repository"?`},
		{"a reason with a typing error", head + mainProd + "\n    deny: dev\n    because: [environment, rev]",
			`p.test.yml:6:28: "rev" is not a claim: did you mean "ref"?`},
		{"all with a typing error", head + mainProd + "\n    deny: al",
			`p.test.yml:5:11: deny: unknown target "al", the policy has ["prod" "dev"]: did you mean "all"?`},
		{"all in a list", head + mainProd + "\n    deny: [prod, all]", "p.test.yml:5:18: all is not for a list: write `deny: all`"},
		{"no expectation", head + mainProd, "p.test.yml:3:5: a case has no allow or deny: add the target that the token gets, or one that it must not get"},
		{"both", head + mainProd + "\n    allow: prod\n    deny: dev", "p.test.yml:6:11: allow and deny exclude each other: allow means no other target; write two cases"},
		{"a number", head + "claims: {repository_id: 7}\n    deny: all", `p.test.yml:4:29: repository_id: is a number, and tokens have strings: write "7"`},
		{"no value", head + "claims: {ref: }\n    deny: all", "p.test.yml:4:19: ref: want a string, got null; leave out a claim that the token does not have"},
		{"an identity", head + "identity: gitlab\n    " + mainProd + "\n    deny: all", `p.test.yml:4:15: unknown identity "gitlab", the policy has ["github"]: did you mean "github"?`},
		{"because of an allowed one", head + mainProd + "\n    allow: prod\n    because: ref", "p.test.yml:6:14: because requires deny"},
		{"a login of a denied one", head + mainProd + "\n    deny: all\n    login: {role: x}", "p.test.yml:6:12: login requires allow"},
		{"a guard of a denied one", head + mainProd + "\n    deny: all\n    guard: none", "p.test.yml:6:12: guard requires allow"},
		{"a guard as in the policy", head + mainProd + "\n    allow: prod\n    guard: {statements: read}",
			"p.test.yml:6:12: guard is a mapping, want a string"},
		{"a name twice", head + mainProd + "\n    deny: dev\n  - name: one\n    " + mainProd + "\n    deny: dev",
			`p.test.yml:6:5: duplicate name "one", line 3 has it too`},
		{"an alias", head + "claims: *x\n    deny: all", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := policytest.Parse("p.test.yml", []byte(c.text+"\n"), load(t))
			if err == nil || fault.ClassOf(err) != fault.Usage {
				t.Fatalf("err is %v, want one of class Usage", err)
			}
			if got := strings.Split(err.Error(), "\n"); c.err != "" && got[1] != c.err {
				t.Errorf("err\n%s\nwant\n%s", got[1], c.err)
			}
		})
	}
}

func TestCoverageAndMutants(t *testing.T) {
	t.Parallel()
	f, err := policytest.Parse("p.test.yml", []byte("version: 1\ncases:\n  - name: one\n    "+mainProd+"\n    allow: prod\n"+
		"  - name: two\n    claims: {repository: acme/analytics, repository_id: \"7\", environment: staging, actor: bob}\n    allow: dev\n"), load(t))
	if err != nil {
		t.Fatal(err)
	}
	report := f.Run(day)
	if len(report.Uncovered) != 1 || report.Uncovered[0].String() != `target "prod", rule 2 (line 8)` || !report.Failed() {
		t.Errorf("uncovered are %v", report.Uncovered)
	}
	var survivors []string
	for _, m := range f.Mutate(day) {
		survivors = append(survivors, m.String())
	}
	want := []string{
		`! one: with ref "refs/tags/another" it is still allowed, by rule 2 (line 8)`,
		`! two: with no actor it is still allowed, by rule 1 (line 13)`,
		`! two: with actor "bob-evil" it is still allowed, by rule 1 (line 13)`,
		`! two: with actor "Bob" it is still allowed, by rule 1 (line 13)`,
		`! two: with ref "refs/heads/another" it is still allowed, by rule 1 (line 13)`,
		`! two: with ref "refs/tags/another" it is still allowed, by rule 1 (line 13)`,
	}
	if strings.Join(survivors, "\n") != strings.Join(want, "\n") {
		t.Errorf("mutants\n%s\nwant\n%s", strings.Join(survivors, "\n"), strings.Join(want, "\n"))
	}
}

// TestHostileNames: a case's name prints no line of its own, and its JUnit is
// XML whatever it has.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	f, err := policytest.Parse("p.test.yml", []byte("version: 1\ncoverage: none\ncases:\n"+
		"  - name: \"a\\n::error::b\"\n    "+mallory+"\n    deny: all\n"+
		"  - name: \"##[error]c ]]> <&\\t\"\n    "+mallory+"\n    allow: dev\n"), load(t))
	if err != nil {
		t.Fatal(err)
	}
	reports := []policytest.Report{f.Run(day)}
	for format, wants := range map[string][]string{
		"text":  {"✓ \"a\\n::error::b\"\n"},
		"json":  {`"name": "a\n::error::b"`, `"name": "##\u005berror]c ]]\u003e \u003c\u0026\t"`},
		"junit": {`<testcase name="a&#xA;::error::b" `, `<testcase name="##&#91;error]c ]]&gt; &lt;&amp;&#x9;" `},
	} {
		var b strings.Builder
		if err := policytest.Write(&b, format, reports); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s has no %q in\n%s", format, want, b.String())
			}
		}
		if format == "junit" {
			if err := xml.Unmarshal([]byte(b.String()), new(struct{ XMLName xml.Name })); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestNoMutants: that no changed token is allowed is said too.
func TestNoMutants(t *testing.T) {
	t.Parallel()
	f, err := policytest.Parse("p.test.yml", []byte("version: 1\ncoverage: none\ncases:\n  - name: one\n    "+mallory+"\n    deny: all\n"), load(t))
	if err != nil {
		t.Fatal(err)
	}
	report := f.Run(day)
	report.Mutants = f.Mutate(day)
	var b strings.Builder
	if err := policytest.Write(&b, "text", []policytest.Report{report}); err != nil {
		t.Fatal(err)
	}
	if want := "✓ one\n1 passed, 0 failed, 0 rules without a case, 0 changed tokens still allowed\n"; b.String() != want {
		t.Errorf("text\n%s\nwant\n%s", b.String(), want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\ncases:\n  - name: one\n    " + mainProd + "\n    allow: prod\n"))
	f.Add([]byte("version: 1\ncases: [{name: a, claims: {groups: [x, y], b: true}, deny: all, because: [groups]}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := policytest.Parse("p.test.yml", text, load(t))
		if err != nil {
			if fault.ClassOf(err) != fault.Usage && !strings.HasPrefix(err.Error(), "no policy") {
				t.Fatalf("class %v: %v", fault.ClassOf(err), err)
			}
			return
		}
		report := file.Run(day)
		if len(report.Results) != len(file.Cases) {
			t.Fatal("a case has no result")
		}
	})
}
