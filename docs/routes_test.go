package docs

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// ways say what a route is to the person who runs dbt.
var ways = map[route.Kind]string{
	route.AWSContainer:         "container credentials, which every AWS SDK asks for",
	route.AzureManagedIdentity: "the endpoint of a managed identity, which Azure's SDKs ask",
	route.AzureTokenFile:       "the ID token in a file that is rewritten, which Azure's SDKs exchange",
	route.DatabricksMetadata:   "the metadata service, which Databricks' SDK asks",
	route.FederatedTokenURL:    "the ID token from a URL, which dbt-fabric asks and exchanges",
	route.GoogleADC:            "application default credentials, by which Google's libraries ask",
	route.PasswordFile:         "a password file that is rewritten, which libpq reads",
	route.TokenEndpoint:        "an OAuth token endpoint, which dbt-redshift asks",
	route.ClickHouse:           "a proxy for ClickHouse's HTTP interface",
	route.GoogleStorage:        "a proxy for Cloud Storage",
	route.Postgres:             "a proxy for PostgreSQL's protocol",
	route.S3:                   "a proxy for S3, and container credentials",
	route.Snowflake:            "a proxy for Snowflake",
	route.Trino:                "a proxy for Trino",
	route.Lease:                "the lease is renewed; dbt keeps its login",
}

// TestEveryPairIsWhole names all that a pair lacks outside its row, next to
// the tests that fail for the lack of it.
func TestEveryPairIsWhole(t *testing.T) {
	t.Parallel()
	all := pages(t)
	golden := goldenPairs(t)
	_, outlives, _ := strings.Cut(all["../docs/evidence.md"], "\n## Runs that outlive their credential\n")
	table := all["../docs/warehouses/README.md"]
	for dbtType, spec := range adapter.Specs() {
		for _, name := range spec.Providers {
			lacks := func(what, where string) { t.Errorf("%s × %s lacks %s in %s", dbtType, name, what, where) }
			for _, what := range standin.Lacks(dbtType, name) {
				lacks("a line of "+what, "internal/standin/fixtures.go")
			}
			row := fmt.Sprintf("| %s × `%s` |", dbtType, name)
			for _, want := range []struct {
				there       bool
				what, where string
			}{
				{golden[dbtType+" "+name], "a golden profile", "internal/profile/testdata/inline"},
				{strings.Contains(all["../docs/evidence.md"], row), "a row", "docs/evidence.md"},
				{strings.Contains(outlives, row), "a row under \"Runs that outlive their credential\"", "docs/evidence.md"},
				{strings.Contains(table, fmt.Sprintf("| %s | `%s`", dbtType, name)), "a row", "docs/warehouses/README.md"},
				{all["../docs/warehouses/"+dbtType+".md"] != "", "a page", "docs/warehouses"},
			} {
				if !want.there {
					lacks(want.what, want.where)
				}
			}
		}
	}
}

// goldenPairs returns the pairs that have a golden profile.
func goldenPairs(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../internal/profile/testdata/inline/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden profiles: %v", err)
	}
	pairs := map[string]bool{}
	for _, path := range files {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var name string
		var block struct{ Type string }
		for _, f := range a.Files {
			switch f.Name {
			case "provider":
				name = strings.TrimSpace(string(f.Data))
			case "dbt":
				if err := yaml.Unmarshal(f.Data, &block); err != nil {
					t.Fatal(err)
				}
			}
		}
		pairs[block.Type+" "+name] = true
	}
	return pairs
}

// TestEveryPairHasItsRoute: how dbt stays logged in with each pair, in a table
// of long-runs.md and on the warehouse's page, and a proof of it in evidence.md.
func TestEveryPairHasItsRoute(t *testing.T) {
	t.Parallel()
	all := pages(t)
	_, evidence, ok := strings.Cut(all["../docs/evidence.md"], "\n## Runs that outlive their credential\n")
	if !ok {
		t.Fatal("evidence.md has no section for runs that outlive their credential")
	}
	seen := map[route.Kind]bool{}
	var table strings.Builder
	table.WriteString("| `type` | provider | route |\n| --- | --- | --- |\n")
	specs := adapter.Specs()
	specs[""] = policy.Adapter{Providers: provider.Names()}
	for _, dbtType := range slices.Sorted(maps.Keys(specs)) {
		if page := all["../docs/warehouses/"+dbtType+".md"]; dbtType != "" {
			_, lifetime, _ := strings.Cut(page, "\n## Lifetime and long runs\n")
			lifetime, _, _ = strings.Cut(lifetime, "\n## ")
			for _, way := range []string{"`run:`", "`keep-fresh`", "`oidc-dbt exec`"} {
				if !strings.Contains(lifetime, way) {
					t.Errorf("%s.md does not say in Lifetime and long runs how runs by %s outlive a credential", dbtType, way)
				}
			}
		}
		for _, name := range specs[dbtType].Providers {
			r, err := routeOf(t, dbtType, name)
			if err != nil {
				if dbtType != "" {
					t.Errorf("%s × %s: %v", dbtType, name, err)
				}
				continue
			}
			seen[r.Kind] = true
			way, shown := ways[r.Kind], "`"+dbtType+"`"
			switch {
			case dbtType == "" && r.Kind == route.None:
				way, shown = "nothing: the variables are read once", "(none)"
			case dbtType == "":
				shown = "(none)"
			case r.Kind == route.None:
				t.Errorf("%s × %s has no route", dbtType, name)
			default:
				if row := fmt.Sprintf("| %s × `%s` |", dbtType, name); !strings.Contains(evidence, row) {
					t.Errorf("evidence.md, runs that outlive their credential: no row %q", row)
				}
			}
			fmt.Fprintf(&table, "| %s | `%s` | %s |\n", shown, name, way)
		}
	}
	seen[route.PasswordFile] = true // with `proxy: false`
	for kind := range ways {
		if !seen[kind] {
			t.Errorf("no pair has the route %q", kind)
		}
	}
	golden.Table(t, "long-runs.md", "routes", table.String())
}

// routeOf returns the route of a target with a good block and a good exchange.
func routeOf(t *testing.T, dbtType, name string) (route.Route, error) {
	t.Helper()
	dbt := ""
	if dbtType != "" {
		dbt = "    dbt: " + standin.PairBlock(dbtType, name) + "\n"
	}
	kind, rule := standin.Identity(standin.Exchange(dbtType, name))
	text := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: \"https://id.acme.example\", %s}\ntargets:\n  prod:\n%s    exchange: %s\n    allow:\n      - %s\n",
		kind, dbt, standin.Exchange(dbtType, name), rule)
	pol, err := policy.Parse("policy", []byte(text), job.Catalog())
	if err != nil {
		return route.Route{}, err
	}
	target, err := pol.Target("prod")
	if err != nil {
		return route.Route{}, err
	}
	return adapter.Route(dbtType, name, target.Exchange(), target.DBT().Block)
}
