package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// mapped returns a policy whose role is made by maps from rules.
func mapped(role string, rules ...string) string {
	const tables = `maps:
  team:
    repository_id: {"487920697": ANALYTICS, "2": SALES}
  size:
    environment: {production: XL, staging: S}
  who:
    actor_kind: {user: people, bot: machines}
`
	src := strings.Replace(policyOf(rules...), "targets:", tables+"targets:", 1)
	return strings.Replace(src, "role/dbt", "role/"+role, 1)
}

// TestMaps: what a map makes of a claim is filled in alike when a run is
// authorised and when it is explained.
func TestMaps(t *testing.T) {
	t.Parallel()
	const ids = `repository_id: ["487920697", "2"]`
	for _, tt := range []struct {
		name, role, rule string
		changes          map[string]any
		want             string
	}{
		{"by an id", "dbt-${team}", `{` + ids + `}`, nil, "dbt-ANALYTICS"},
		{"by another id", "dbt-${team}", `{` + ids + `}`, map[string]any{"repository_id": "2"}, "dbt-SALES"},
		{"two maps and a claim", "${team}-${size}-${environment}", `{` + ids + `, environment: [production, staging]}`, nil, "ANALYTICS-XL-production"},
		{"by a derived claim", "dbt-${who}", `{` + ids + `, actor_kind: [user, bot]}`, map[string]any{"actor": "renovate[bot]"}, "dbt-machines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := parse(t, mapped(tt.role, tt.rule)), claims(t, tt.changes)
			g, err := p.Authorize("prod", c, reviewDay)
			if err != nil {
				t.Fatal(err)
			}
			want := "arn:aws:iam::123456789012:role/" + tt.want
			e := p.Explain(c, reviewDay)
			if got, explained := g.Exchange().Get("role"), e.Targets[0].Login.Exchange.Get("role"); got != want || explained != want {
				t.Errorf("role is %q, explained as %q, want %q", got, explained, want)
			}
			target, err := p.Target("prod")
			if err != nil {
				t.Fatal(err)
			}
			if got := target.Exchange().Get("role"); !strings.HasSuffix(got, tt.role) {
				t.Errorf("the policy's role is %q after the decision", got)
			}
		})
	}
}

// TestMapsBlock: a map is filled into the dbt block, too, and placeholders take
// its place where there is no token.
func TestMapsBlock(t *testing.T) {
	t.Parallel()
	src := strings.Replace(mapped("dbt", `{repository_id: "2"}`), "    exchange:", "    dbt: {type: duckdb, path: x, schema: \"s_${team}\"}\n    exchange:", 1)
	p := parse(t, src)
	g, err := p.Authorize("prod", claims(t, map[string]any{"repository_id": "2"}), reviewDay)
	if err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, n := range g.DBT().Block.Content {
		got = append(got, n.Value)
	}
	if want := "type duckdb path x schema s_SALES"; strings.Join(got, " ") != want {
		t.Errorf("block is %v, want %s", got, want)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	block := target.Outline().DBT().Block.Content
	if got := block[len(block)-1].Value; got != "s_placeholder" {
		t.Errorf("without a token the schema is %q", got)
	}
}

// TestMapsNeverGuess: claims that no rule was parsed for get no value.
func TestMapsNeverGuess(t *testing.T) {
	t.Parallel()
	p := parse(t, mapped("dbt-${team}", `{repository_id: "2"}`))
	for _, c := range []idtoken.Unverified{unverified(t, nil), unverified(t, map[string]any{"repository_id": []string{"2", "487920697"}})} {
		if e := p.Explain(c, reviewDay); e.Targets[0].Allowed() || e.Targets[0].Login.Provider != "" {
			t.Errorf("allowed with %+v", e.Targets[0].Login)
		}
	}
}
