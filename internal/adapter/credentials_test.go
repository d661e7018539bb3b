package adapter_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
)

// enforced are keys that are required here although the credentials class has
// a default for them, and why.
var enforced = map[string]map[string]string{
	"bigquery":   {"database": "google-auth would ask the resource manager for the project"},
	"databricks": {"host": "dbt-databricks refuses a profile without", "http_path": "dbt-databricks refuses a profile without", "schema": "nothing can be built without"},
	"spark":      {"host": "dbt-spark refuses a profile without", "schema": "dbt-spark refuses a profile without", "method": "dbt-spark refuses a profile without"},
	"sqlserver":  {"database": "the default would be the login's own", "schema": "nothing can be built without"},
}

// TestCredentialsClasses: the keys' names are those of the adapters' own
// credentials classes, and what is required is what they require. The end-to-end
// tests hold testdata/credentials.json to the installed adapters.
func TestCredentialsClasses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/credentials.json")
	if err != nil {
		t.Fatal(err)
	}
	var classes map[string]struct {
		Aliases          map[string]string
		Required, Fields []string
	}
	if err := json.Unmarshal(text, &classes); err != nil {
		t.Fatal(err)
	}
	specs := adapter.Specs()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(specs)), slices.Sorted(maps.Keys(classes))); diff != "" {
		t.Errorf("types (-ours +theirs)\n%s", diff)
	}
	for name, class := range classes {
		spec := specs[name]
		if len(class.Aliases)+len(spec.Aliases) > 0 {
			if diff := cmp.Diff(class.Aliases, spec.Aliases); diff != "" {
				t.Errorf("%s: aliases (-theirs +ours)\n%s", name, diff)
			}
		}
		for _, key := range spec.Required {
			if !slices.Contains(class.Required, key) && enforced[name][key] == "" {
				t.Errorf("%s: %s is required, and the adapter has a default", name, key)
			}
			if spec.Canonical(key) != key {
				t.Errorf("%s: %s is an alias", name, key)
			}
		}
		for key := range enforced[name] {
			if !slices.Contains(spec.Required, key) || slices.Contains(class.Required, key) {
				t.Errorf("%s: %s needs no reason", name, key)
			}
		}
		for _, key := range spec.Required {
			if !slices.Contains(class.Fields, key) {
				t.Errorf("%s: the adapter has no key %s", name, key)
			}
		}
	}
}
