package policy_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// denying returns a policy with rules of `deny`, whose one target the token of
// standin.GitHubClaims may have.
func denying(rules ...string) string {
	deny := "deny:\n  - " + strings.Join(rules, "\n  - ") + "\n"
	return strings.Replace(policyOf(`{repository_id: "487920697"}`), "targets:", deny+"targets:", 1)
}

func TestDeny(t *testing.T) {
	t.Parallel()
	const subject = `"repo:acme/analytics:environment:production"`
	type changes = map[string]any
	for _, tt := range []struct {
		name    string
		rules   []string
		changes changes
		reason  string
	}{
		{"another actor", []string{`{actor: mallory}`}, nil, ""},
		{"the actor", []string{`{actor: octocat}`}, nil, "deny rule 1 (line 5) matches " + subject},
		{"the second rule", []string{`{actor: mallory}`, `{repository: acme/*, environment: [staging, production]}`}, nil,
			"deny rule 2 (line 6) matches " + subject},
		{"all of a rule", []string{`{actor: octocat, environment: staging}`}, nil, ""},
		{"a wildcard", []string{`{repository: "*/analytics"}`}, nil, "deny rule 1 (line 5) matches " + subject},
		{"any event", []string{`{actor: octocat}`}, changes{"event_name": "issues"}, "deny rule 1 (line 5) matches " + subject},
		{"an event", []string{`{actor: octocat, event_name: schedule}`}, nil, ""},
		{"a derived claim", []string{`{actor_kind: [bot, agent]}`}, changes{"actor": "claude[bot]"}, "deny rule 1 (line 5) matches " + subject},
		{"the other form of a subject", []string{`{sub: "repo:acme@9919/analytics@487920697:**"}`}, changes{"repository_owner_id": "9919"},
			"deny rule 1 (line 5) matches " + subject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := parse(t, denying(tt.rules...)), claims(t, tt.changes)
			_, err := p.Authorize("prod", c, reviewDay)
			_, chooseErr := p.Choose(c)
			e := p.Explain(c, reviewDay)
			_, decides := p.Decides("prod", c, reviewDay)
			if tt.reason == "" {
				if err != nil || chooseErr != nil || !decides || e.Allowed() != "prod" || e.Deny != nil {
					t.Errorf("denied: %v, %v, %t, %s", err, chooseErr, decides, e.Reason())
				}
				return
			}
			const hint = "deny comes before every target: to allow such a run again, remove the rule or narrow it"
			for _, err := range []error{err, chooseErr, e.Denial, e.Targets[0].Denial} {
				if err == nil || err.Error() != "denied by policy: "+tt.reason || fault.ClassOf(err) != fault.Denied || fault.Hint(err) != hint {
					t.Errorf("error is %v (%s, %q)", err, fault.ClassOf(err), fault.Hint(err))
				}
			}
			if decides || e.Allowed() != "" || e.Chosen != "" || e.Targets[0].Login.Provider != "" {
				t.Errorf("decides %t, chosen %q, login %+v", decides, e.Chosen, e.Targets[0].Login)
			}
			if e.Deny == nil || !e.Deny.Matched || e.Targets[0].Refused != e.Deny.Rule {
				t.Errorf("deny rule is %+v, of the target %+v", e.Deny, e.Targets[0].Refused)
			}
		})
	}
}

func TestDenyUnknownTarget(t *testing.T) {
	t.Parallel()
	_, err := parse(t, denying(`{actor: octocat}`)).Authorize("prd", claims(t, nil), reviewDay)
	if want := `unknown target "prd", policy.yml has ["prod"]: did you mean "prod"?`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestDenyWarns: a claim that no token is known to have stops nobody.
func TestDenyWarns(t *testing.T) {
	t.Parallel()
	var got []string
	for _, w := range parse(t, denying(`{colour_of_runner: green}`)).Warnings() {
		if strings.HasPrefix(w, "deny: ") {
			got = append(got, w)
		}
	}
	want := []string{`deny: rule 1 (line 5) names "colour_of_runner", a claim that no token of kind "github" has, and never matches`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestDenyOfUnknownClaims: where a claim decides that is not known, nothing is allowed.
func TestDenyOfUnknownClaims(t *testing.T) {
	t.Parallel()
	part := unverified(t, nil).Without("actor").Without("ref_type").Partial()
	const depends = `deny rule 1 (line 5) may match "repo:acme/analytics:environment:production": that depends on `
	for _, tt := range []struct {
		rule, reason     string
		allowed, unknown bool
	}{
		{`{actor: mallory}`, depends + "actor, which is not known", false, true},
		{`{actor_kind: bot, environment: production, ref_type: branch}`, depends + "actor_kind, ref_type, which is not known", false, true},
		{`{actor: mallory, environment: staging}`, "", true, false},
		{`{environment: production}`, `deny rule 1 (line 5) matches "repo:acme/analytics:environment:production"`, false, false},
	} {
		p := parse(t, denying(tt.rule))
		e := p.Explain(part, reviewDay)
		target := e.Targets[0]
		if target.Allowed() != tt.allowed || target.Unknown != tt.unknown || target.Reason() != tt.reason || e.Reason() != tt.reason {
			t.Errorf("%s: allowed %t, unknown %t, reason %q, chosen %q", tt.rule, target.Allowed(), target.Unknown, target.Reason(), e.Reason())
		}
		if _, ok := p.Decides("prod", part, reviewDay); ok != tt.allowed {
			t.Errorf("%s: decides %t", tt.rule, ok)
		}
	}
	p := parse(t, denying(`{actor: mallory}`))
	e := p.Explain(part.With("repository_id", "1"), reviewDay)
	if e.Targets[0].Unknown || !strings.HasPrefix(e.Targets[0].Reason(), `no rule of target "prod" matches`) {
		t.Errorf("unknown %t, reason %q: no rule of the target matches anyway", e.Targets[0].Unknown, e.Targets[0].Reason())
	}
}

// TestDenyOnlyDenies: over random policies and claims, rules of `deny` take
// targets away and never give one, and those that match take all of them.
func TestDenyOnlyDenies(t *testing.T) {
	t.Parallel()
	g := generator{rand.New(rand.NewPCG(3, 4))}
	tokens := make([]pair, 100)
	for i := range tokens {
		tokens[i] = g.token(t)
	}
	var taken, kept int
	for taken+kept < 20_000/sampling.Share {
		src := g.policy()
		free, err := policy.Parse("policy.yml", []byte(src), catalog())
		if err != nil {
			continue
		}
		p, err := policy.Parse("policy.yml", []byte(strings.Replace(src, "targets:", g.deny()+"targets:", 1)), catalog())
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			c := g.pickToken(tokens)
			e := p.Explain(c.verified, reviewDay)
			for _, name := range p.Targets() {
				_, before := free.Authorize(name, c.verified, reviewDay)
				_, after := p.Authorize(name, c.verified, reviewDay)
				if before != nil && after == nil || (after == nil) != (before == nil && e.Deny == nil) {
					t.Fatalf("without deny: %v, with it: %v\n%s", before, after, g.deny())
				}
				if before == nil && after != nil {
					taken++
				} else {
					kept++
				}
			}
		}
	}
	if taken < 500/sampling.Share {
		t.Errorf("%d of %d decisions are taken back: the test says little", taken, taken+kept)
	}
}

func (g generator) pickToken(tokens []pair) pair { return tokens[g.IntN(len(tokens))] }

// deny returns rules of `deny`, whose matchers need no binding.
func (g generator) deny() string {
	rules := "deny:\n"
	for range 1 + g.IntN(2) {
		rules += "  - {" + g.pick(`actor: "renovate*"`, `actor_kind: [bot, agent]`, `environment: staging`, `repository: "*/finance"`,
			`event_name: pull_request`, `ref: "refs/tags/**"`, `sub: "repo:acme/analytics:environment:*"`, `repository_id: "2", ref: refs/heads/dev`,
			`identity: team, groups: guests`) + "}\n"
	}
	return rules
}

// TestDenyAndOverlaps: a token that `deny` refuses shows no overlap.
func TestDenyAndOverlaps(t *testing.T) {
	t.Parallel()
	const a, b = `{repository: o/r, ref: "refs/heads/*"}`, `{repository: o/r, environment: "p*"}`
	for _, tt := range []struct {
		name, deny string
		overlaps   bool
	}{
		{"all of it", `{repository: o/r}`, false},
		{"all of it by the environment", `{environment: "p*"}`, false},
		{"something else", `{environment: dev}`, true},
		{"what stands for any ref", `{ref: refs/heads/x}`, true},
		{"an event", `{event_name: push}`, true},
		{"another repository", `{repository_id: "1"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := strings.Replace(overlapSource(a, b), "targets:", "deny:\n  - "+tt.deny+"\ntargets:", 1)
			p := parse(t, src)
			found, undecided := p.Overlaps()
			if len(found) > 0 != tt.overlaps || undecided > 0 {
				t.Fatalf("%d overlaps, %d undecided", len(found), undecided)
			}
			for _, o := range found {
				c, err := idtoken.NewUnverified(o.Witness)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range o.Targets {
					if _, ok := p.Decides(name, c, reviewDay); !ok {
						t.Errorf("the witness %v may not have %s", o.Witness, name)
					}
				}
			}
		})
	}
}
