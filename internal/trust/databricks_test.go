package trust

import "testing"

func TestDatabricks(t *testing.T) {
	t.Parallel()
	goldens(t, "databricks")
}
