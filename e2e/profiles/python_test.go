//go:build e2e

package profiles

import (
	"os"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// python returns the environment of all end-to-end tests.
func python(t *testing.T) pyenv.Python {
	t.Helper()
	requirements, err := os.ReadFile("../requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pyenv.Ensure(t.Context(), "e2e", requirements, "from duckdb_extensions import import_extension; import_extension('httpfs')", t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
