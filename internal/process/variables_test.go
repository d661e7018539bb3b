package process_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// clients maps names of clients in testdata/variables.txt to the kinds of
// credential and route that they log in with.
var clients = map[string][]string{
	"aws":               {"aws_session", "aws_container"},
	"google":            {"google_access_token"},
	"azure":             {"azure_federated_token_file", "azure_managed_identity"},
	"databricks":        {"access_token", "databricks_metadata"},
	"snowflake":         {"id_token", "snowflake"},
	"postgres":          {"database_login", "postgres"},
	"redshift":          {"database_login", "postgres"},
	"duckdb":            {"aws_session", "s3"},
	"duckdb_extensions": {"aws_session", "s3", "azure_federated_token_file", "azure_managed_identity"},
	"trino":             {"id_token", "trino"},
	"http":              {"id_token", "trino"},
	"clickhouse":        {"access_token", "clickhouse"},
	"spark":             {"database_login", "lease"},
	"sqlserver":         {"access_token", "azure_managed_identity"},
}

// TestEachVariableHasItsVerdict: a command gets those of the clients' variables
// that the list allows. (e2e/variables compares the list with installed clients.)
func TestEachVariableHasItsVerdict(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/variables.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		if len(fields) != 3 || clients[fields[0]] == nil {
			t.Errorf("line %q: want CLIENT NAME VERDICT", line)
			continue
		}
		client, name, verdict := fields[0], fields[1], fields[2]
		seen[client] = true
		reason, kept := strings.CutPrefix(verdict, "kept: ")
		if verdict != "removed" && (!kept || reason == "") {
			t.Errorf("line %q: the verdict is neither `removed` nor `kept: REASON`", line)
		}
		_, removed := process.Environment([]string{name + "=x"}, nil, clients[client], []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"})
		if slices.Contains(removed, name) == kept {
			t.Errorf("line %q: a command does not get it: %t", line, !kept == false)
		}
	}
	for client := range clients {
		if !seen[client] {
			t.Errorf("nothing is said of client %q", client)
		}
	}
}
