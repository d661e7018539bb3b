package adapter_test

import (
	"fmt"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dbtType, block, want string }{
		{"postgres", "{user: dbt}", "[] "},
		{"postgres", "{role: }", "[] "},
		{"postgres", "{role: Builder}", "[builder] role"},
		{"postgres", `{role: '"Builder"'}`, "[Builder] role"},
		{"postgres", `{role: "{{ env_var('ROLE') }}"}`, "[] role"},
		{"redshift", "{role: Builder}", "[builder] role"},
		{"snowflake", "{role: transformer}", "[TRANSFORMER] role"},
		{"trino", "{roles: {hive: builder, system: 'ROLE{Admin}', lake: ALL}}", "[hive=builder system=Admin lake=ALL] roles"},
		{"trino", "{roles: x, role: y}", "[] "},
		{"clickhouse", "{role: x, custom_settings: {max_threads: 1}}", "[] "},
		{"clickhouse", "{custom_settings: {role: Builder}}", "[Builder] custom_settings"},
		{"databricks", "{role: x}", "[] "},
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(tt.block), &doc); err != nil {
			t.Fatal(err)
		}
		roles, key := adapter.Roles(tt.dbtType, doc.Content[0])
		if got := fmt.Sprint(roles, " ", key); got != tt.want {
			t.Errorf("%s, %s: got %s, want %s", tt.dbtType, tt.block, got, tt.want)
		}
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dbtType, block, want string }{
		{"trino", "{user: dbt}", "dbt true"},
		{"trino", `{user: "{{ env_var('USER') }}"}`, " true"},
		{"trino", "{user: }", " false"},
		{"trino", "{host: h}", " false"},
		{"postgres", "{user: dbt}", " false"},
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(tt.block), &doc); err != nil {
			t.Fatal(err)
		}
		user, has := adapter.User(tt.dbtType, doc.Content[0])
		if got := fmt.Sprint(user, " ", has); got != tt.want {
			t.Errorf("%s, %s: got %q, want %q", tt.dbtType, tt.block, got, tt.want)
		}
	}
}
