package lint_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

// TestLimits: what is found says what enforces a limit, once for each place that gives one.
func TestLimits(t *testing.T) {
	t.Parallel()
	const src = `version: 1
targets:
  prod:
    dbt: %s
    exchange: {oidc: {audience: %s}}
    guard: %s
    allow:
      - {repository_id: "1", environment: production, ref: refs/heads/main, actor_id: "5"%s}
      - {repository_id: "1", environment: production, ref: refs/heads/main}
`
	const snowflake, trino = "{type: snowflake, account: acme-prod, user: DBT, database: A, schema: B}", "{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}"
	const warehouse = "set STATEMENT_TIMEOUT_IN_SECONDS on the warehouse, too: the lower of the two counts"
	const unknown = "admit no more than the run needs: `unknown` of `also`, and `statements: any`, let everything pass"
	for _, tt := range []struct{ dbt, audience, guard, rule, want string }{
		{snowflake, "snowflakecomputing.com", "{statements: build}", "", ""},
		{snowflake, "snowflakecomputing.com", "{statements: build, limits: {statement_timeout: 1h}}", "", "6:32 " + warehouse},
		{snowflake, "snowflakecomputing.com", "{statements: build, limits: {statement_timeout: 1h}}", ", guard: {limits: {statement_timeout: 1m}}", "6:32 " + warehouse + "; 8:100 " + warehouse},
		{trino, "trino.acme.example", "{statements: build, limits: {statement_timeout: 1h}}", "", ""},
		{trino, "trino.acme.example", "{statements: any, limits: {scan: 1TB}}", "", "6:30 " + unknown},
		{trino, "trino.acme.example", "{statements: any, limits: {scan: 1TB}}", ", guard: {statements: build, also: [unknown]}", "6:30 " + unknown},
		{trino, "trino.acme.example", "{statements: build, also: [unknown], limits: {scan: 1TB}}", ", guard: {statements: read}", "6:49 " + unknown},
	} {
		dir := repository(t, map[string]string{".github/oidc-dbt.yml": fmt.Sprintf(src, tt.dbt, tt.audience, tt.guard, tt.rule)})
		report, err := lint.Run(t.Context(), env(dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range report.Findings {
			switch f.Name {
			case "limit-not-enforced":
				got = append(got, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Fix))
			case "policy-error":
				t.Errorf("%s: %s", tt.guard, f.Message)
			}
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s%s: got %s, want %s", tt.guard, tt.rule, text, tt.want)
		}
	}
}
