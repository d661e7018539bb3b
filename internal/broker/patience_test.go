package broker

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestPatienceIsDocumented: the page on long runs says how long clients wait.
func TestPatienceIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/long-runs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		clients  string
		patience []time.Duration
		waits    string
	}{
		{"PostgreSQL, Redshift by a proxy; Databricks", []time.Duration{patience, databricksPatience}, "9 s"},
		{"Trino, DuckDB on Cloud Storage, Fabric", []time.Duration{proxyPatience, fabricPatience}, "25 s"},
		{"Snowflake", []time.Duration{snowflakePatience}, "45 s"},
		{"BigQuery and Google's libraries", []time.Duration{googlePatience}, "100 s"},
		{"ClickHouse, Azure's libraries, Redshift with Identity Center", []time.Duration{clickHousePatience, azurePatience, redshiftPatience}, "2 min"},
		{"DuckDB on S3", []time.Duration{s3Patience}, "4 s"},
		{"AWS SDKs", []time.Duration{awsPatience}, "0.9 s"},
	} {
		if want := fmt.Sprintf("| %s | %s", row.clients, row.waits); !strings.Contains(string(page), want) {
			t.Errorf("docs/long-runs.md has no row %q", want)
		}
		says, err := time.ParseDuration(strings.ReplaceAll(strings.TrimSuffix(row.waits, "in"), " ", ""))
		for _, d := range row.patience {
			if err != nil || d != says {
				t.Errorf("%s: they wait %s, the page says %s", row.clients, d, row.waits)
			}
		}
	}
}
