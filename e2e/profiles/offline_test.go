//go:build e2e

package profiles

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// An offlineCase is a case for offline.py.
type offlineCase struct {
	Project string            `json:"project"`
	Env     map[string]string `json:"env"`
	Dialect string            `json:"dialect"` // "" for no SQLFluff
}

// An offlineResult is its result.
type offlineResult struct {
	Error    string
	LS       []string
	Attempts []string // to connect
	AWS      string   // the key that boto3 finds if AWS's variables are set
	Lint     *struct {
		Status   int
		Output   string
		Attempts []string
	}
}

// dialects are SQLFluff's names of dialects, by type.
var dialects = map[string]string{
	"athena": "athena", "bigquery": "bigquery", "clickhouse": "clickhouse", "databricks": "databricks", "duckdb": "duckdb", "fabric": "tsql",
	"postgres": "postgres", "redshift": "redshift", "snowflake": "snowflake", "spark": "sparksql", "sqlserver": "tsql", "trino": "trino",
}

// offlineLint are the types whose projects SQLFluff's dbt templater lints
// without a server. It first lists the warehouse's relations: DuckDB has them on
// this machine, and dbt-spark assumes none if it gets no reply.
var offlineLint = []string{"duckdb", "spark"}

// TestProfileOnly runs dbt parse for the pairs of three types (nightly: of all),
// and dbt list and SQLFluff with the dbt templater once for each of these types,
// without a network, with the profile of a step that requested no ID token.
func TestProfileOnly(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	var names, types []string
	var cases []offlineCase
	tried := []string{"duckdb", "spark", "snowflake"}
	for _, dbtType := range adapter.Types() {
		if !slices.Contains(tried, dbtType) {
			tried = append(tried, dbtType)
		}
	}
	tried = setup.Few(3, tried...)
	for _, dbtType := range tried {
		linting := false
		for _, provider := range adapter.Specs()[dbtType].Providers {
			c := offlineCase{Project: setup.Project(t, issuer, standin.PairBlock(dbtType, provider), standin.Exchange(dbtType, provider))}
			setup.Write(t, c.Project, "models/customers.sql", "select\n    customer,\n    count(*) as orders\nfrom {{ ref('raw_orders') }}\ngroup by customer\n")
			if !linting && standin.PairBlock(dbtType, provider) == standin.Block(dbtType) {
				linting = true
				if c.Dialect = dialects[dbtType]; c.Dialect == "" {
					t.Errorf("type %q has no dialect", dbtType)
				}
			}
			step, err := standin.RunStep(t.Context(), standin.StepConfig{
				Binary: setup.Binary(t), Root: t.TempDir(), Workspace: c.Project, Env: map[string]string{"GITHUB_EVENT_NAME": "pull_request"},
				Inputs: map[string]string{"target": "prod", "profile-only": "true"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if step.Status != 0 || strings.Contains(step.Raw, "::add-mask::") {
				t.Fatalf("%s × %s: the step ended with status %d:\n%s", dbtType, provider, step.Status, step.Raw)
			}
			if err := json.Unmarshal([]byte(step.Outputs["env"]), &c.Env); err != nil {
				t.Fatal(err)
			}
			names, types, cases = append(names, dbtType+" × "+provider), append(types, dbtType), append(cases, c)
		}
	}
	var linted []string
	for i, got := range offline(t, cases) {
		if got.Error != "" || len(got.Attempts) > 0 {
			t.Errorf("%s: %s; attempts to connect %q", names[i], got.Error, got.Attempts)
			continue
		}
		if _, ok := cases[i].Env["AWS_ACCESS_KEY_ID"]; ok && got.AWS != "oidc-dbt-placeholder" {
			t.Errorf("%s: boto3 finds the key %q, want the placeholder", names[i], got.AWS)
		}
		if got.Lint == nil {
			continue
		}
		if diff := cmp.Diff([]string{"customers", "not_null_customers_customer", "raw_orders"}, slices.Sorted(slices.Values(got.LS))); diff != "" {
			t.Errorf("%s: dbt ls (-want +got):\n%s", names[i], diff)
		}
		t.Logf("%s: SQLFluff ended with %d after attempts to connect to %q:\n%s", names[i], got.Lint.Status, got.Lint.Attempts, got.Lint.Output)
		if got.Lint.Status == 0 {
			linted = append(linted, types[i])
		}
	}
	want := slices.DeleteFunc(slices.Clone(offlineLint), func(dbtType string) bool { return !slices.Contains(tried, dbtType) })
	slices.Sort(linted)
	if diff := cmp.Diff(want, linted); diff != "" {
		t.Errorf("linted (-want +got):\n%s", diff)
	}
	if issued := issuer.Issued(); len(issued) > 0 {
		t.Errorf("%d ID tokens were issued", len(issued))
	}
}

func offline(t *testing.T, cases []offlineCase) []offlineResult {
	t.Helper()
	ambient := setup.Write(t, t.TempDir(), "credentials", "[default]\naws_access_key_id = AMBIENT\naws_secret_access_key = ambient\n")
	return script[offlineCase, offlineResult](t, setup.Python(t), "offline.py", cases, "AWS_SHARED_CREDENTIALS_FILE="+ambient, "AWS_PROFILE=default")
}
