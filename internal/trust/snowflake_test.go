package trust

import "testing"

func TestSnowflake(t *testing.T) {
	t.Parallel()
	goldens(t, "snowflake")
}
