package trust

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// An agreement compares, over random policies and tokens, what the policy
// decides, what the generator says that its documents admit, and what an
// implementation of the provider's language, which is not ours, makes of them.
type agreement struct {
	exchange string // the block under `exchange`
	options  Options
	policies int
	tokens   int // for each policy
	// evaluate returns whether the provider would admit a token.
	evaluate func(d Demand, w Wall, claims map[string]any) (bool, error)
}

var agreeNow = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)

func (a agreement) run(t *testing.T) {
	t.Helper()
	a.policies = max(a.policies/sampling.Share, 2)
	random := rand.New(rand.NewPCG(1, 2))
	admitted, wider, narrower, made := 0, 0, 0, 0
	for made < a.policies {
		text := "version: 1\ntargets:\n  prod:\n    exchange: " + a.exchange + "\n    allow:\n" + randomRules(random)
		p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs(), Now: agreeNow})
		if err != nil {
			continue // a rule that binds nothing, say
		}
		target, _ := p.Target("prod")
		d := Demands(p, target, a.options)[0]
		w, err := Generate(d)
		if err != nil {
			continue // over a limit
		}
		made++
		formula, said := d.PolicyFormula(), explained(d, w)
		for range a.tokens {
			claims := randomToken(random, d)
			got, err := a.evaluate(d, w, claims)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, text, documents(w))
			}
			_, allowed := p.Decides("prod", plainClaims(claims), agreeNow)
			want := a.judge(d, w, formula, said, claims, allowed, got)
			if want != "" {
				t.Fatalf("%s\ntoken %v\n%s\n%+v\n%s", want, claims, text, w.Rules, documents(w))
			}
			if got {
				admitted++
			}
			if right := claims["aud"] == d.Audience(); got && (!allowed || !right) {
				wider++
			} else if !got && allowed && right {
				narrower++
			}
		}
	}
	t.Logf("%d tokens, %d admitted, %d of them wider than the policy as said, %d not admitted as said", a.policies*a.tokens, admitted, wider, narrower)
	if admitted == 0 && sampling.Share <= 4 {
		t.Error("no token was admitted: the test shows nothing")
	}
}

// judge says what is wrong with a verdict, "" for nothing.
func (a agreement) judge(d Demand, w Wall, formula, said logic.Formula, claims map[string]any, allowed, got bool) string {
	texts := map[string]string{}
	for name, value := range claims {
		texts[name] = value.(string)
	}
	if f := formula.Eval(texts) == logic.True; f != (allowed && texts["aud"] == d.Audience()) {
		return fmt.Sprintf("the policy allows: %t, its formula says %t", allowed, f)
	}
	if admits := w.Admits.Eval(texts); (admits == logic.True) != got {
		return fmt.Sprintf("the documents admit: %t, the generator says %v", got, admits)
	}
	allowed = allowed && texts["aud"] == d.Audience()
	switch {
	case got && !allowed && said.Eval(texts) != logic.True:
		return "admitted, denied by the policy, and not said"
	case !got && allowed && d.known().Eval(texts) == logic.True && !narrows(d, w, texts):
		return "allowed by the policy, not admitted, and not said"
	}
	return ""
}

// explained is met by the tokens that the reports say are admitted.
func explained(d Demand, w Wall) logic.Formula {
	parts := make([]logic.Formula, len(d.Rules))
	for i, r := range d.Rules {
		var gaps []string
		for _, g := range w.Rules[i].WiderBy {
			gaps = append(gaps, g.Claim)
		}
		parts[i] = r.Without(gaps...).Formula()
	}
	return logic.Or(parts...)
}

func narrows(d Demand, w Wall, token map[string]string) bool {
	for i, r := range d.Rules {
		if r.Formula().Eval(token) == logic.True && len(w.Rules[i].Narrower) > 0 {
			return true
		}
	}
	return false
}

func documents(w Wall) string {
	var b strings.Builder
	for _, doc := range w.Documents {
		b.WriteString("-- " + doc.Suffix + " --\n" + doc.Text + "\n")
	}
	return b.String()
}

// plainClaims are claims that are all texts, without the way through JSON that
// unverified takes: a hundred thousand tokens a language come this way.
type plainClaims map[string]any

func (c plainClaims) String(name string) (string, bool) {
	text, ok := c[name].(string)
	return text, ok
}
func (plainClaims) Strings(string) ([]string, bool) { return nil, false }
func (c plainClaims) Value(name string) any         { return c[name] }
func (c plainClaims) Has(name string) bool          { _, ok := c[name]; return ok }
func (plainClaims) Unknown(string) bool             { return false }
func (c plainClaims) Names() []string               { return slices.Sorted(maps.Keys(c)) }
func (c plainClaims) Issuer() string                { text, _ := c.String("iss"); return text }
func (c plainClaims) Subject() string               { text, _ := c.String("sub"); return text }
func (c plainClaims) IsZero() bool                  { return len(c) == 0 }

func unverified(t *testing.T, claims map[string]any) policy.ClaimSet {
	t.Helper()
	token, err := idtoken.NewUnverified(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Pools of values that are near each other.
var pools = map[string][]string{
	"repository":          {"acme/analytics", "acme/analytics-x", "acme/an", "acme-evil/analytics", "Acme/analytics", "other/x"},
	"repository_id":       {"101", "102", "1011"},
	"repository_owner_id": {"7", "77"},
	"environment":         {"production", "prod/eu", "prod/eu/1", "staging", "production2", ""},
	"ref":                 {"refs/heads/main", "refs/heads/main2", "refs/heads/release/1", "refs/heads/release/1/2", "refs/tags/v1", "refs/pull/7/merge", "refs/heads/x@refs/tags/v3"},
	"event_name":          {"push", "push", "schedule", "pull_request", "pull_request_target", "workflow_run", "release"},
	"job_workflow_ref": {
		"acme/platform/.github/workflows/dbt.yml@refs/tags/v3", "acme/platform/.github/workflows/dbt.yml@refs/tags/v3/x",
		"acme/platform/.github/workflows/dbt.yml@refs/heads/x@refs/tags/v3", "acme/analytics/.github/workflows/dbt.yml@refs/heads/main",
		"other/x/.github/workflows/dbt.yml@refs/tags/v3",
	},
	"actor":              {"mona", "dependabot[bot]", "Copilot"},
	"actor_id":           {"583231", "9"},
	"runner_environment": {"github-hosted", "self-hosted"},
	"ref_type":           {"branch", "tag"},
	"repo_property_team": {"finance", "sales,finance", ""},
}

// patternPool are what rules may say beyond the values themselves.
var patternPool = map[string][]string{
	"repository":       {"acme/*", "acme/analytics*", "acme/a*s"},
	"environment":      {"prod/*", "prod**", "*duction"},
	"ref":              {"refs/heads/release/*", "refs/heads/**", "refs/tags/v*", "refs/heads/*"},
	"job_workflow_ref": {"acme/platform/.github/workflows/*@refs/tags/v3", "acme/platform/.github/workflows/dbt.yml@refs/tags/*", "acme/**@refs/heads/**"},
	"sub": {"repo:acme/analytics:environment:production", "repo:acme/analytics:ref:refs/heads/main", "repo:acme@7/analytics@101:environment:*",
		"repo:acme/analytics:pull_request", "repo:acme/*:environment:prod**", "repo:acme/analytics:**"},
	"actor_kind":         {"user", "bot", "agent"},
	"repo_property_team": {"*finance"},
	"repository_owner":   {"acme", "acme-evil"},
}

func pick(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

func randomRules(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(3) {
		b.WriteString("      - {")
		for _, claim := range []string{"repository", "repository_owner", "repository_id", "repository_owner_id", "environment", "ref", "event_name",
			"job_workflow_ref", "sub", "actor", "actor_id", "actor_kind", "runner_environment", "repo_property_team"} {
			often := map[string]int{"repository": 2, "repository_id": 2, "environment": 2, "ref": 2}[claim]
			if often == 0 {
				often = 5
			}
			if r.IntN(often) > 0 {
				continue
			}
			var values []string
			for range 1 + r.IntN(2)*r.IntN(2) {
				from := pools[claim]
				if extra := patternPool[claim]; len(extra) > 0 && (len(from) == 0 || r.IntN(3) == 0) {
					from = extra
				}
				if v := pick(r, from); v != "" && !strings.Contains(strings.Join(values, "|")+"|", fmt.Sprintf("%q|", v)) {
					values = append(values, fmt.Sprintf("%q", v))
				}
			}
			if len(values) > 0 {
				fmt.Fprintf(&b, "%s: [%s], ", claim, strings.Join(values, ", "))
			}
		}
		b.WriteString("}\n")
	}
	return strings.ReplaceAll(b.String(), ", }", "}")
}

// randomToken returns the claims of a token such as GitHub issues, near what a
// rule admits.
func randomToken(r *rand.Rand, d Demand) map[string]any {
	claims := map[string]any{"iss": "https://token.actions.githubusercontent.com", "aud": d.Audience()}
	rule := d.Rules[r.IntN(len(d.Rules))]
	for _, claim := range slices.Sorted(maps.Keys(pools)) {
		values := pools[claim]
		value := pick(r, values)
		if c := rule.Of(claim); c.Claim != "" && r.IntN(8) > 0 {
			if p := pick(r, c.Patterns); !strings.Contains(p, "*") {
				value = p
			} else {
				value = strings.ReplaceAll(strings.ReplaceAll(p, "**", pick(r, []string{"x", "x/y"})), "*", pick(r, []string{"x", "x/y", ""}))
			}
		}
		if value != "" {
			claims[claim] = value
		}
	}
	if c := rule.Of("repository"); c.Claim == "" && rule.Names("repository_owner") && r.IntN(4) > 0 {
		claims["repository"] = pick(r, rule.Of("repository_owner").Patterns) + "/analytics"
	}
	if owner, name, ok := strings.Cut(claims["repository"].(string), "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		claims["repository"] = "acme/x"
	}
	claims["repository_owner"], _, _ = strings.Cut(claims["repository"].(string), "/")
	if _, ok := claims["event_name"]; !ok {
		claims["event_name"] = "push"
	}
	for !real(map[string]string{"event_name": claims["event_name"].(string), "ref": claims["ref"].(string)}) {
		claims["event_name"] = pick(r, pools["event_name"])
	}
	claims["ref_type"] = map[bool]string{true: "tag", false: "branch"}[strings.HasPrefix(claims["ref"].(string), "refs/tags/")]
	claims["workflow_ref"] = claims["repository"].(string) + "/.github/workflows/dbt.yml@" + claims["ref"].(string)
	if r.IntN(20) == 0 {
		claims["aud"] = "other"
	}
	claims["sub"] = subjectOf(d.Options.SubTemplate, claims, r.IntN(2) == 0)
	return claims
}

// subjectOf is GitHub's `sub` by a template, with ids or without.
func subjectOf(template []string, claims map[string]any, ids bool) string {
	if len(template) == 0 {
		template = []string{"repo", "context"}
	}
	var parts []string
	text := func(name string) string { s, _ := claims[name].(string); return strings.ReplaceAll(s, ":", "%3A") }
	for _, key := range template {
		switch key {
		case "repo":
			owner, repo, _ := strings.Cut(text("repository"), "/")
			if ids {
				owner, repo = owner+"@"+text("repository_owner_id"), repo+"@"+text("repository_id")
			}
			parts = append(parts, "repo:"+owner+"/"+repo)
		case "context":
			switch {
			case text("environment") != "":
				parts = append(parts, "environment:"+text("environment"))
			case text("event_name") == "pull_request":
				parts = append(parts, "pull_request")
			default:
				parts = append(parts, "ref:"+text("ref"))
			}
		default:
			parts = append(parts, key+":"+text(key))
		}
	}
	return strings.Join(parts, ":")
}

// TestFormulas holds what this package understands of rules to what the policy
// decides.
func TestFormulas(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	allowed := 0
	for made := 0; made < 1000/sampling.Share; {
		text := "version: 1\ntargets:\n  prod:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-central-1}}\n    allow:\n" + randomRules(random)
		p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs(), Now: agreeNow})
		if err != nil {
			continue
		}
		made++
		target, _ := p.Target("prod")
		d := Demands(p, target, Options{})[0]
		formula := d.PolicyFormula()
		for range 100 {
			claims := randomToken(random, d)
			texts := map[string]string{}
			for name, value := range claims {
				texts[name] = value.(string)
			}
			_, ok := p.Decides("prod", unverified(t, claims), agreeNow)
			ok = ok && texts["aud"] == d.Audience()
			if got := formula.Eval(texts) == logic.True; got != ok {
				t.Fatalf("the policy allows: %t, its formula: %t\n%v\n%s", ok, got, claims, text)
			}
			if ok {
				allowed++
			}
		}
	}
	t.Logf("%d of %d tokens are allowed", allowed, 100_000/sampling.Share)
}
