package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

func overlapPolicy(t *testing.T, a, b string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("p.yml", []byte(overlapSource(a, b)), catalog())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// overlapSource is a policy of two targets with one rule each.
func overlapSource(a, b string) string {
	src := "version: 1\ntargets:\n"
	for i, rule := range []string{a, b} {
		src += fmt.Sprintf("  t%d:\n    dbt: {type: duckdb, path: x}\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/r\", region: eu-west-1}}\n"+
			"    allow:\n      - %s\n", i, rule)
	}
	return src
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, a, b, witness string }{
		{"environments apart", `{repository: o/r, environment: prod}`, `{repository: o/r, environment: dev}`, ""},
		{"environment missing", `{repository: o/r, environment: prod}`, `{repository: o/r, ref: refs/heads/main}`,
			"environment=prod ref=refs/heads/main repository=o/r sub=repo:o/r:environment:prod"},
		{"owner and repository", `{repository_owner: p, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`, `{repository: o/r}`, ""},
		{"owner of the repository", `{repository_owner: o, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`, `{repository: o/r}`,
			"repository=o/r sub=repo:o/r:ref:refs/heads/x"},
		{"wildcards that meet", `{repository: o/r, ref: refs/heads/release/*}`, `{repository: o/r, ref: refs/heads/**/7}`,
			"ref=refs/heads/release/7"},
		{"wildcards that do not", `{repository: o/r, ref: refs/heads/*-a}`, `{repository: o/r, ref: refs/heads/*-b}`, ""},
		{"subject and environment", `{repository: o/r, sub: "repo:o/r:environment:prod"}`, `{repository: o/r, environment: dev}`, ""},
		{"subject and other repository", `{repository: o/r, sub: "repo:o/*:environment:prod"}`, `{repository: o/q, environment: prod}`, ""},
		{"subject on a ref", `{repository: o/r, sub: "repo:o/r:ref:refs/heads/main"}`, `{repository: o/r, ref: refs/heads/dev}`, ""},
		{"subject on a ref, job in an environment", `{repository: o/r, sub: "repo:o/r:ref:refs/heads/main"}`, `{repository: o/r, environment: prod}`, ""},
		{"subject in the other form", `{repository: o/r, sub: "repo:o@7/r@8:environment:prod"}`, `{repository_id: "8", environment: prod}`,
			"repository_id=8 repository_owner_id=7"},
		{"ids that differ", `{repository: o/r, sub: "repo:o@7/r@8:environment:prod"}`, `{repository_id: "9", environment: prod}`, ""},
		{"customised subjects", `{repository: o/r, sub: "repository_owner_id:1:ref:refs/heads/*"}`, `{repository: o/r, sub: "repository_owner_id:1:**"}`,
			"sub=repository_owner_id:1:ref:refs/heads/"},
		{"default events and another", `{repository: o/r, event_name: pull_request}`, `{repository: o/r}`, ""},
		{"a pull request's ref", `{repository: o/r, event_name: [pull_request, push], pull_number: "12"}`, `{repository: o/r, ref: refs/pull/*/merge, event_name: pull_request}`,
			"event_name=pull_request ref=refs/pull/12/merge"},
		{"a tag is no branch", `{repository: o/r, ref_type: tag}`, `{repository: o/r, ref: refs/heads/**}`, ""},
		{"a release has a tag", `{repository: o/r, event_name: release}`, `{repository: o/r, event_name: [release, push], ref: refs/heads/main}`, ""},
		{"a workflow of another repository", `{repository: o/r, workflow_ref: "o/r/.github/workflows/a.yml@refs/heads/main"}`,
			`{repository_owner: o, workflow_ref: "o/q/.github/workflows/a.yml@refs/heads/main", job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`, ""},
		{"bots and people", `{repository: o/r, actor_kind: bot}`, `{repository: o/r, actor: "deploy*"}`, "actor=deploy[bot]"},
		{"bots and a person", `{repository: o/r, actor_kind: bot}`, `{repository: o/r, actor: alice}`, ""},
		{"agents", `{repository: o/r, actor_kind: [agent, user]}`, `{repository: o/r, actor: "claude*"}`, "actor=claude"},
		{"lists of many", `{repository: [o/a, o/b, o/c], environment: [x, y]}`, `{repository: [o/d, o/c], environment: [z, y]}`,
			"environment=y repository=o/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := overlapPolicy(t, c.a, c.b)
			found, undecided := p.Overlaps()
			if undecided > 0 {
				t.Errorf("%d undecided", undecided)
			}
			if c.witness == "" {
				if len(found) > 0 {
					t.Errorf("overlap by %v", found[0].Witness)
				}
				return
			}
			if len(found) != 1 {
				t.Fatal("no overlap")
			}
			for _, want := range strings.Fields(c.witness) {
				claim, value, _ := strings.Cut(want, "=")
				if got := found[0].Witness[claim]; got != value {
					t.Errorf("%s is %q, want %q in %v", claim, got, value, found[0].Witness)
				}
			}
		})
	}
}

// TestOverlapsByTokens compares with random tokens: what one of them shows is
// found, and each witness is a token that GitHub could issue.
func TestOverlapsByTokens(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	overlaps, pairs := 0, 0
	for range 1_000 / sampling.Share {
		a, b := randomRule(pick), randomRule(pick)
		p := overlapPolicy(t, a, b)
		found, undecided := p.Overlaps()
		if undecided > 0 {
			t.Fatalf("undecided: %s and %s", a, b)
		}
		pairs++
		if len(found) > 0 {
			overlaps++
			if why := impossibleToken(found[0].Witness); why != "" {
				t.Fatalf("%s and %s: witness %v: %s", a, b, found[0].Witness, why)
			}
			continue
		}
		for range 200 {
			token := randomToken(pick)
			claims, err := idtoken.NewUnverified(token)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Matching(claims)) == 2 {
				t.Fatalf("%s and %s: not found, but %v matches both", a, b, token)
			}
		}
	}
	t.Logf("%d of %d pairs overlap", overlaps, pairs)
	if overlaps < pairs/20 || overlaps > pairs*19/20 {
		t.Error("the test says little")
	}
}

func randomRule(pick func(...string) string) string {
	rule := "{repository: " + pick("o/r", "o/q", "o/*", "o/r*, repository_id: '1'", "'*/r', repository_id: '1'")
	if strings.Contains(rule, "o/*") {
		rule += ", job_workflow_ref: " + pick("o/w/.github/workflows/x.yml@refs/tags/v1", "o/w/.github/workflows/*@refs/tags/*")
	}
	for _, more := range []string{
		pick("", "", "environment: prod", "environment: dev", "environment: 'p*'"),
		pick("", "", "ref: refs/heads/main", "ref: 'refs/heads/*'", "ref: 'refs/tags/**'", "ref: 'refs/heads/**/x'", "ref: 'refs/pull/*/merge'"),
		pick("", "", "", "sub: 'repo:o/r:environment:*'", "sub: 'repo:o/*:ref:refs/heads/main'", "sub: 'repo:o/**'", "sub: 'repo:o@1/r@1:**'",
			"sub: 'repo:*/r:pull_request'"),
		pick("", "", "event_name: push", "event_name: [pull_request, release]", "event_name: pull_request"),
		pick("", "", "", "actor: alice", "actor: 'a*'", "actor_kind: bot", "actor_kind: [user, agent]"),
		pick("", "", "", "ref_type: tag", "ref_type: branch"),
	} {
		if more != "" && strings.Contains(more, ":") {
			rule += ", " + more
		}
	}
	return rule + "}"
}

// randomToken is a token as GitHub makes them.
func randomToken(pick func(...string) string) map[string]any {
	owner, name, id := pick("o", "o", "p"), pick("r", "q", "rx"), pick("1", "2")
	claims := map[string]any{
		"iss": "https://token.actions.githubusercontent.com", "repository_owner": owner, "repository": owner + "/" + name, "repository_id": id,
		"repository_owner_id": "1", "event_name": pick("push", "push", "release", "pull_request"), "ref": pick("refs/heads/main", "refs/heads/a/x"),
		"actor": pick("alice", "bob", "a[bot]", "Copilot"), "ref_type": "branch",
		"job_workflow_ref": pick("o/w/.github/workflows/x.yml@refs/tags/v1", "o/w/.github/workflows/y.yml@refs/tags/v2"),
	}
	if claims["event_name"] == "release" || claims["event_name"] == "push" && pick("", "x") == "" {
		claims["ref"], claims["ref_type"] = pick("refs/tags/v1", "refs/tags/a/b"), "tag"
	}
	if claims["event_name"] == "pull_request" {
		claims["ref"] = "refs/pull/3/merge"
	}
	context := fmt.Sprint("ref:", claims["ref"])
	if claims["event_name"] == "pull_request" {
		context = "pull_request"
	}
	if environment := pick("", "prod", "dev", "p"); environment != "" {
		claims["environment"], context = environment, "environment:"+environment
	}
	subject := "repo:" + owner + "/" + name + ":"
	if pick("", "ids") == "ids" {
		subject = "repo:" + owner + "@1/" + name + "@" + id + ":"
	}
	claims["sub"] = subject + context
	return claims
}

// impossibleToken says why GitHub would not issue such a token, "" where it could.
func impossibleToken(claims map[string]any) string {
	text := func(claim string) string { s, _ := claims[claim].(string); return s }
	owner, name, _ := strings.Cut(text("repository"), "/")
	switch {
	case owner == "" || name == "" || strings.ContainsAny(name, "/:@") || owner != text("repository_owner"):
		return "repository and owner"
	case text("event_name") == "release" && !strings.HasPrefix(text("ref"), "refs/tags/"):
		return "a release's ref"
	case text("ref_type") == "tag" != strings.HasPrefix(text("ref"), "refs/tags/") && text("ref_type") != "":
		return "ref_type and ref"
	}
	rest, ok := strings.CutPrefix(text("sub"), "repo:"+text("repository")+":")
	if !ok {
		rest, ok = strings.CutPrefix(text("sub"), "repo:"+owner+"@"+text("repository_owner_id")+"/"+name+"@"+text("repository_id")+":")
	}
	environment, hasEnvironment := claims["environment"].(string)
	switch {
	case !ok && strings.HasPrefix(text("sub"), "repo:"):
		return "subject and repository"
	case strings.HasPrefix(rest, "environment:") && (!hasEnvironment || rest != "environment:"+environment),
		strings.HasPrefix(rest, "ref:") && (hasEnvironment || rest != "ref:"+text("ref")),
		rest == "pull_request" && (hasEnvironment || !strings.HasPrefix(text("event_name"), "pull_request")):
		return "subject and " + rest
	}
	return ""
}

func TestShadows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, first, second string
		shadowed            bool
	}{
		{"the same", `{repository: o/r}`, `{repository: o/r}`, true},
		{"one of several", `{repository: [o/r, o/q]}`, `{repository: o/q, environment: prod}`, true},
		{"a wildcard", `{repository: o/r, ref: "refs/heads/**"}`, `{repository: o/r, ref: "refs/heads/release/*"}`, true},
		{"a narrower wildcard first", `{repository: o/r, ref: "refs/heads/*"}`, `{repository: o/r, ref: "refs/heads/**"}`, false},
		{"the owner", `{repository_owner: o, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`,
			`{repository: o/r, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`, true},
		{"another owner", `{repository_owner: p, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`,
			`{repository: o/r, job_workflow_ref: o/w/.github/workflows/x.yml@refs/tags/v1}`, false},
		{"more events", `{repository: o/r}`, `{repository: o/r, event_name: [push, pull_request]}`, false},
		{"fewer events", `{repository: o/r, event_name: [push, pull_request]}`, `{repository: o/r, event_name: pull_request}`, true},
		{"a claim more", `{repository: o/r, environment: prod}`, `{repository: o/r}`, false},
		{"wildcards that start and end otherwise", `{repository: o/r, ref: "refs/heads/*-a"}`, `{repository: o/r, ref: "refs/heads/*-b"}`, false},
		{"a wildcard that ends alike", `{repository: o/r, ref: "refs/heads/*a"}`, `{repository: o/r, ref: "refs/heads/b*-a"}`, true},
		{"both forms of a subject", `{repository: o/r, sub: "repo:o/**"}`, `{repository: o/r, sub: "repo:o/r:environment:prod"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := fmt.Sprintf("version: 1\ntargets:\n  t:\n    dbt: {type: duckdb, path: x}\n"+
				"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/r\", region: eu-west-1}}\n    allow:\n      - %s\n      - %s\n", c.first, c.second)
			p, err := policy.Parse("p.yml", []byte(src), catalog())
			if err != nil {
				t.Fatal(err)
			}
			if list, skipped := p.Shadows(); len(list) == 1 != c.shadowed || skipped > 0 {
				t.Errorf("shadows: %v, %d skipped", list, skipped)
			}
		})
	}
}

// TestShadowedGuards: where another guard would hold if the hidden rule came first.
func TestShadowedGuards(t *testing.T) {
	t.Parallel()
	const wide, narrow = `repository_id: "1", ref: "refs/heads/*"`, `repository_id: "1", ref: refs/heads/main`
	for name, c := range map[string]struct{ target, first, second, want string }{
		"a tighter one hides":  {"{statements: build}", wide + ", guard: {statements: read}", narrow, "tighter"},
		"a wider one hides":    {"{statements: build}", wide, narrow + ", guard: {statements: read}", "wider"},
		"no guard hides":       {"", wide, narrow + ", guard: {statements: read}", "wider"},
		"a guard hides none":   {"", wide + ", guard: {statements: read}", narrow, "tighter"},
		"other classes hide":   {"{statements: build, also: [grant, run]}", wide + ", guard: {also: grant}", narrow + ", guard: {also: run}", "different"},
		"an enforcing one":     {"{statements: read, mode: observe}", wide + ", guard: {mode: enforce}", narrow, "tighter"},
		"the same":             {"{statements: build}", wide + ", guard: {statements: read}", narrow + ", guard: {statements: read}", ""},
		"none":                 {"", wide, narrow, ""},
		"of all the same jobs": {"{statements: build}", narrow + ", guard: {statements: read}", narrow, ""},
	} {
		p := parse(t, guarding(c.target, "{"+c.first+"}", "{"+c.second+"}"))
		list, _ := p.Shadows()
		if len(list) != 1 || list[0].Guard != c.want {
			t.Errorf("%s: shadows are %v, want one with the guard %q", name, list, c.want)
		}
	}
}

// TestDeniedShadows: which rules `deny` leaves without effect.
func TestDeniedShadows(t *testing.T) {
	t.Parallel()
	const rule = `{repository: o/r, repository_id: "1", environment: [prod, dev], ref: "refs/heads/release/*"}`
	for _, c := range []struct {
		deny, rule string
		denied     bool
	}{
		{`{repository_id: "1"}`, rule, true},
		{`{repository_id: ["2", "1"]}`, rule, true},
		{`{repository_owner: o}`, rule, true},
		{`{environment: [dev, staging, prod]}`, rule, true},
		{`{ref: "refs/heads/**"}`, rule, true},
		{`{repository_id: "1", event_name: [push, schedule, workflow_dispatch, merge_group, release]}`, rule, true},
		{`{repository_id: "1"}`, `{repository_id: "1", event_name: [issues, pull_request]}`, true},
		{`{repository_id: "2"}`, rule, false},
		{`{environment: prod}`, rule, false},
		{`{repository_id: "1", event_name: push}`, rule, false},
		{`{repository_id: "1", event_name: pull_request}`, rule, false},
		{`{repository_id: "1", actor: mallory}`, rule, false},
		{`{ref: "refs/heads/*"}`, rule, false},
	} {
		src := fmt.Sprintf("version: 1\ndeny:\n  - %s\ntargets:\n  t:\n    dbt: {type: duckdb, path: x}\n"+
			"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/r\", region: eu-west-1}}\n    allow:\n      - %s\n", c.deny, c.rule)
		p, err := policy.Parse("p.yml", []byte(src), catalog())
		if err != nil {
			t.Fatal(err)
		}
		var want []policy.Shadow
		if c.denied {
			want = []policy.Shadow{{Target: "t", Rule: policy.Rule{Line: 9}, By: policy.Rule{Line: 3}, Denied: true}}
		}
		if list, _ := p.Shadows(); !slices.Equal(list, want) {
			t.Errorf("deny %s and allow %s: shadows are %v, want %v", c.deny, c.rule, list, want)
		}
	}
}

// TestManyAlike: rules that only the middle of a pattern tells apart are not
// compared for ever, and it is said how many were not; those that their starts
// or ends tell apart are all compared.
func TestManyAlike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		decided    bool
	}{
		{"by their starts", `environment: "%d-*"`, true},
		{"by their ends", `environment: "*-%d"`, true},
		{"by one claim of two", `environment: "%d", repository_id: ["` + strings.Join(strings.Fields(strings.Repeat("1 2 3 4 5 6 7 8 9 ", 10)), `", "`) + `"]`, true},
		{"by long middles", `environment: "*` + strings.Repeat("a*", 30) + `%d*"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := "version: 1\ntargets:\n"
			for i := range 20 {
				src += fmt.Sprintf("  t%d:\n    dbt: {type: duckdb, path: x}\n"+
					"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/r\", region: eu-west-1}}\n    allow:\n", i)
				for j := range 40 {
					src += fmt.Sprintf("      - {repository: o/r, ref: refs/heads/main, "+c.rule+"}\n", 100+i*40+j)
				}
			}
			p, err := policy.Parse("p.yml", []byte(src), catalog())
			if err != nil {
				t.Fatal(err)
			}
			if found, undecided := p.Overlaps(); len(found) > 0 && c.decided || (undecided == 0) != c.decided {
				t.Errorf("%d overlaps, %d undecided", len(found), undecided)
			}
			if list, skipped := p.Shadows(); len(list) > 0 || skipped > 0 {
				t.Errorf("%d shadows, %d skipped", len(list), skipped)
			}
		})
	}
}
