package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMeant(t *testing.T) {
	t.Parallel()
	types := []string{"athena", "bigquery", "clickhouse", "databricks", "duckdb", "fabric", "postgres", "redshift", "snowflake", "spark", "sqlserver", "trino"}
	providers := []string{"aws", "databricks", "entra", "gcp", "identity_center", "oidc", "token_exchange", "vault"}
	for _, tt := range []struct {
		text  string
		names []string
		want  string
	}{
		{"postgresql", types, "postgres"}, {"aurora", types, "postgres"}, {"PostgreSQL", types, "postgres"}, {"postgress", types, "postgres"}, {"mssql", types, "sqlserver"}, {"azuresql", types, "sqlserver"},
		{"sql-server", types, "sqlserver"}, {"bq", types, "bigquery"}, {"presto", types, "trino"}, {"starburst", types, "trino"}, {"databricks-sql", types, "databricks"}, {"motherduck", types, "duckdb"},
		{"redshift-serverless", types, "redshift"}, {"snowflake_db", types, "snowflake"}, {"click_house", types, "clickhouse"}, {"oracle", types, ""}, {"mysql", types, ""}, {"", types, ""},
		{"google", providers, "gcp"}, {"azure", providers, "entra"}, {"sts", providers, "aws"}, {"azure-ad", providers, "entra"}, {"openbao", providers, "vault"}, {"sso", providers, "identity_center"},
		{"token-exchange", providers, "token_exchange"}, {"okta", providers, "token_exchange"}, {"oidcc", providers, "oidc"}, {"AWS", providers, "aws"}, {"ibm", providers, ""}, {"xyz", providers, ""},
		{"production", []string{"prod"}, ""}, {"prdo", []string{"staging", "prod"}, "prod"}, {"a", []string{"b"}, ""},
	} {
		if got := otherNames.Meant(tt.text, tt.names); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestEvents: every event of GitHub's is accepted, also one whose name is
// near another's, or new.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, event := range append([]string{"brand_new_event", "secret_scanning_alert", "installation", "marketplace_purchase"}, events...) {
		if why := eventForm(event); why != "" {
			t.Errorf("%s %s", event, why)
		}
	}
	for _, event := range defaultEvents {
		if !slices.Contains(events, event) {
			t.Errorf("%s is none of the events", event)
		}
	}
	for text, want := range map[string]string{
		"pul_request": "pull_request", "pull_requests": "pull_request", "pull_request_targets": "pull_request_target", "pullrequest": "pull_request", "workflow_dispach": "workflow_dispatch",
		"scheduled": "schedule", "manual": "workflow_dispatch", "merge_queue": "merge_group", "issue": "issues", "releases": "release", "pushed": "push",
	} {
		if got, want := eventForm(text), fmt.Sprintf("is not an event that starts a workflow: did you mean %q?", want); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestMisspeltClaims: of each claim of a kind whose claims are known, a letter
// less, one twice, two exchanged, hyphens, and the name without what is in front.
func TestMisspeltClaims(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		for _, claim := range k.claims {
			tail := claim[strings.LastIndexAny(claim, "/>")+1:]
			if strings.Trim(tail[len(tail)-1:], "_:") == "" || len(tail) < 4 {
				continue // the start of names, or too short to tell
			}
			head, middle := strings.TrimSuffix(claim, tail), len(tail)/2
			for _, text := range []string{
				head + tail[:middle] + tail[middle+1:], head + tail[:middle] + tail[middle:middle+1] + tail[middle:],
				head + tail[:middle-1] + tail[middle:middle+1] + tail[middle-1:middle] + tail[middle+1:],
				head + strings.ReplaceAll(tail, "_", "-"), strings.ReplaceAll(tail, "-", "_"), strings.ToUpper(claim),
			} {
				if near := nearest(text, k.claims); !k.has(text) && (near == "" || !k.has(near)) {
					t.Errorf("%s: %q for %q, got %q", name, text, claim, near)
				}
			}
		}
	}
}
