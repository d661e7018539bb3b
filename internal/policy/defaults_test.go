package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// defaulted is a policy whose targets leave much to its defaults.
const defaulted = `version: 1
defaults:
  dbt: {type: duckdb, path: x, schema: marts, settings: {threads: 4, memory: 1GB}, extensions: [httpfs, parquet]}
  exchange:
    aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x, then_assume: {role: "arn:aws:iam::123456789012:role/lake"}}
  lifetime: 30m
  max_lifetime: 1h
  trust_reviewed: 2026-10-01
  profiles: {elementary: {schema: e}}
targets:
  all:
    allow: [{repository_id: "1"}]
  some:
    dbt: {schema: "s_${environment}", settings: {threads: 8}, extensions: [iceberg]}
    exchange: {aws: {region: y}}
    lifetime: 1h
    trust_reviewed: 2026-11-01
    profiles: {elementary: {threads: 2}, other: {schema: o}}
    allow: [{repository_id: "1", environment: prod}]
  nothing-of-aws:
    exchange: {aws: }
    allow: [{repository_id: "1"}]
`

// TestDefaults: what each target comes to.
func TestDefaults(t *testing.T) {
	t.Parallel()
	const block = `{type: duckdb, path: x, schema: marts, settings: {threads: 4, memory: 1GB}, extensions: [httpfs, parquet]}`
	p := parse(t, defaulted)
	for _, tt := range []struct {
		target, block, region, profiles string
		lifetime                        time.Duration
		reviewed                        string
	}{
		{"all", block, "x", "elementary={schema: e}", 30 * time.Minute, "2026-10-01"},
		{"some", `{type: duckdb, path: x, schema: "s_${environment}", settings: {memory: 1GB, threads: 8}, extensions: [iceberg]}`, "y",
			"elementary={schema: e, threads: 2} other={schema: o}", time.Hour, "2026-11-01"},
		{"nothing-of-aws", block, "x", "elementary={schema: e}", 30 * time.Minute, "2026-10-01"},
	} {
		target, err := p.Target(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		if err := yaml.Unmarshal([]byte(tt.block), &want); err != nil {
			t.Fatal(err)
		}
		if err := target.DBT().Block.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: block (-want +got):\n%s", tt.target, diff)
		}
		var profiles []string
		for _, p := range target.DBT().Profiles {
			var keys []string
			for i := 0; i+1 < len(p.Keys.Content); i += 2 {
				keys = append(keys, p.Keys.Content[i].Value+": "+p.Keys.Content[i+1].Value)
			}
			profiles = append(profiles, p.Name+"={"+strings.Join(keys, ", ")+"}")
		}
		if got := strings.Join(profiles, " "); got != tt.profiles {
			t.Errorf("%s: profiles are %s, want %s", tt.target, got, tt.profiles)
		}
		e := target.Exchange()
		if e.Get("region") != tt.region || e.Get("role") != "arn:aws:iam::123456789012:role/dbt" ||
			e.Get("then_assume.role") != "arn:aws:iam::123456789012:role/lake" || target.TrustReviewed().Format(time.DateOnly) != tt.reviewed {
			t.Errorf("%s: exchange is %v, reviewed %s", tt.target, e, target.TrustReviewed())
		}
	}
}

// TestDefaultsAreReplaced: a target of another kind does not take what only
// goes with the default.
func TestDefaultsAreReplaced(t *testing.T) {
	t.Parallel()
	const gcp = `gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/p/providers/g}`
	const head = "version: 1\ndefaults:\n  dbt: {type: snowflake, account: acme, role: R}\n  exchange: {oidc: {audience: x}}\n  trust_reviewed: 2026-10-01\n" +
		"targets:\n  rest:\n    allow: [{repository_id: \"1\"}]\n  t:\n"
	for _, tt := range []struct {
		name, target   string
		provider, keys string
	}{
		{"another provider and type", "dbt: {type: bigquery, project: p, dataset: d}\n    exchange: {" + gcp + "}", "gcp", "type project dataset"},
		{"from a file", "dbt: {from: profiles.yml, output: prod}", "oidc", ""},
		{"another client", "client: snowflake", "oidc", "type"},
		{"a key of its own", "dbt: {account: other}", "oidc", "type role account"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, head+"    "+tt.target+"\n    allow: [{repository_id: \"1\"}]\n")
			target, err := p.Target("t")
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			if b := target.DBT().Block; b != nil {
				for i := 0; i < len(b.Content); i += 2 {
					keys = append(keys, b.Content[i].Value)
				}
			}
			if got := strings.Join(keys, " "); got != tt.keys || target.Provider() != tt.provider || target.DBT().Client != strings.HasPrefix(tt.target, "client") {
				t.Errorf("provider %q, keys %q", target.Provider(), got)
			}
		})
	}
}

// TestDefaultsFill: ${claim} of a default is filled in for each target.
func TestDefaultsFill(t *testing.T) {
	t.Parallel()
	src := "version: 1\nidentities:\n  github: {issuer: " + issuer.URL() + ", kind: github}\ndefaults:\n" +
		"  exchange: {aws: {role: \"arn:aws:iam::123456789012:role/${environment}\", region: x}}\ntargets:\n" +
		"  a:\n    allow: [{repository_id: \"487920697\", environment: production}]\n  b:\n    allow: [{repository_id: \"2\", environment: staging}]\n"
	p := parse(t, src)
	g, err := p.Authorize("a", claims(t, nil), reviewDay)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Exchange().Get("role"); got != "arn:aws:iam::123456789012:role/production" {
		t.Errorf("role is %q", got)
	}
}
