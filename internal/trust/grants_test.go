package trust

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// TestGrants holds the grants to the cases in testdata/grants: the policy and
// the settings in, what each of its targets gets out.
func TestGrants(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("testdata", "grants", "*.txtar"))
	if err != nil || len(paths) < len(grantLanguages) {
		t.Fatalf("%d cases for %d languages: %v", len(paths), len(grantLanguages), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var text string
			values := map[string]string{}
			for _, f := range archive.Files {
				switch f.Name {
				case "policy.yml":
					text = string(f.Data)
				case "values.yml":
					if err := yaml.Unmarshal(f.Data, &values); err != nil {
						t.Fatal(err)
					}
				}
			}
			var got []txtar.File
			for _, d := range logins(t, text, Options{Values: values}) {
				grants, err := Grants([]Demand{d})
				if err != nil {
					t.Fatal(err)
				}
				if again, err := Grants([]Demand{d}); err != nil || again != grants {
					t.Errorf("another time the grants are\n%s%v", again, err)
				}
				got = append(got, txtar.File{Name: "want/" + d.Name(), Data: []byte(grants)})
			}
			golden.Case(t, path, archive, got...)
		})
	}
}
