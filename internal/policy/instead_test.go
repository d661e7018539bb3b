package policy

import (
	"strings"
	"testing"
)

// TestSynapse: Synapse is a warehouse of dbt-sqlserver's, and its own adapter's
// type says so.
func TestSynapse(t *testing.T) {
	t.Parallel()
	const text = "version: 1\ntargets:\n  prod:\n    dbt: {type: synapse, database: d, schema: s}\n    exchange: {}\n    allow: [{repository: acme/analytics}]\n"
	_, err := Parse("policy.yml", []byte(text), Catalog{Adapters: map[string]Adapter{"sqlserver": {}}})
	if want := `unknown type "synapse", valid types are ["sqlserver"]: connect to it with type "sqlserver"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want one with %s", err, want)
	}
}
