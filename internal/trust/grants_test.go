package trust

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// TestGrants holds the grants to the cases in testdata/grants: the policy and
// the settings in, what each of its targets gets out, alone and with the others
// of its type.
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
			types, together := map[string][]Demand{}, map[string][]string{}
			for _, d := range logins(t, text, Options{Values: values}) {
				grants, err := Grants([]Demand{d})
				if err != nil {
					t.Fatal(err)
				}
				if again, err := Grants([]Demand{d}); err != nil || again != grants {
					t.Errorf("another time the grants are\n%s%v", again, err)
				}
				got = append(got, txtar.File{Name: "want/" + d.Name(), Data: []byte(grants)})
				dbtType := d.Case.Login.DBT.Type
				types[dbtType], together[dbtType] = append(types[dbtType], d), append(together[dbtType], grants)
			}
			for dbtType, list := range types {
				if all, err := Grants(list); err != nil || all != strings.Join(together[dbtType], "\n") {
					t.Errorf("%s: together the grants are\n%s%v", dbtType, all, err)
				}
			}
			golden.Case(t, path, archive, got...)
		})
	}
}

const grantsTarget = `version: 1
targets:
  prod:
    dbt: %s
    exchange: %s
` + "    allow: [{repository: acme/analytics, repository_id: \"487920697\", environment: production, ref: refs/heads/main}]\n"

const (
	grantsAWS   = `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`
	grantsVault = `{vault: {address: "https://vault.acme.example:8200", role: dbt-prod, audience: "https://vault.acme.example", secret: database/creds/dbt-prod}}`
)

// TestGrantsErrors are what there are no grants for, and what must be known.
func TestGrantsErrors(t *testing.T) {
	t.Parallel()
	const postgres = "{type: postgres, host: dw.acme.example, port: 5432, user: dbt, dbname: analytics, schema: marts}"
	for _, tt := range []struct {
		name, dbt, exchange string
		values              map[string]string
		err                 string
	}{
		{"good", postgres, grantsAWS, nil, ""},
		{"no type", "{from: profiles.yml}", grantsAWS, nil,
			`target "prod": the policy does not say the type of its warehouse, whose language grants are in`},
		{"athena", "{type: athena, region_name: eu-central-1, s3_staging_dir: s3://acme/, database: lake, schema: marts}", grantsAWS, nil,
			"target \"prod\": no grants are generated for type \"athena\": use `session_policy` of the exchange, and a workgroup that enforces " +
				"its configuration and a limit of bytes scanned"},
		{"duckdb", "{type: duckdb, path: a.duckdb, schema: marts}", grantsAWS, nil,
			"target \"prod\": no grants are generated for type \"duckdb\": use the bucket's policy or `session_policy` of the exchange"},
		{"no user", "{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, schema: marts}",
			strings.Replace(grantsVault, "}}", ", static: true}}", 1), nil, `target "prod": the policy does not say the user: add --set user=NAME`},
		{"no role", "{type: snowflake, account: acme-prod, user: DBT, database: A, warehouse: W, schema: marts}", "{oidc: {audience: snowflakecomputing.com}}",
			nil, `target "prod": the policy does not say the role: add --set role=NAME`},
		{"no warehouse", "{type: snowflake, account: acme-prod, user: DBT, role: R, database: A, schema: marts}", "{oidc: {audience: snowflakecomputing.com}}",
			nil, `target "prod": the policy does not say the warehouse: add --set warehouse=NAME`},
		{"a schema of dbt's", "{type: postgres, host: dw.acme.example, port: 5432, user: dbt, dbname: analytics, schema: \"{{ env_var('S') }}\"}", grantsAWS,
			nil, `target "prod": the policy does not say the schema: add --set schema=NAME`},
		{"claims complete the database", "{type: postgres, host: dw.acme.example, port: 5432, user: dbt, dbname: \"${environment}\", schema: marts}", grantsAWS,
			nil, `target "prod": database is "${environment}", which claims complete, and grants are for one: give each a target of its own`},
		{"claims complete the schema", "{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, schema: \"dbt_${environment}\"}", grantsVault,
			nil, `target "prod": its schema is "dbt_${environment}", which claims complete: add --set schemas=NAME,NAME with those that it may use`},
		{"and nothing else is in it", "{type: trino, host: trino.acme.example, port: 443, database: lake, schema: \"${environment}\"}", "{oidc: {audience: trino}}",
			nil, `target "prod": its schema is "${environment}", which claims complete: add --set schemas=NAME,NAME with those that it may use`},
		{"schemas by name", "{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, schema: \"dbt_${environment}\"}", grantsVault,
			map[string]string{"schemas": "dbt_prod"}, ""},
		{"a line break", postgres, grantsAWS, map[string]string{"sources": "raw,a\nb"},
			`target "prod": sources is "a\nb", which no grant is generated for: want printable characters, and no space at the ends`},
		{"a name that looks like another", postgres, grantsAWS, map[string]string{"user": "dbt\u202e"},
			`target "prod": user is "dbt\u202e", which no grant is generated for: want printable characters, and no space at the ends`},
		{"nothing between commas", postgres, grantsAWS, map[string]string{"schemas": "a,"},
			`target "prod": schemas is "", which no grant is generated for: want printable characters, and no space at the ends`},
		{"an unknown setting", postgres, grantsAWS, map[string]string{"source": "raw"},
			`flag --set: unknown name "source", valid names are ["builders" "database" "kind" "role" "schema" "schemas" "sources" "user"]: ` +
				`did you mean "sources"?`},
		{"a setting of another type", postgres, grantsAWS, map[string]string{"location": "EU"},
			`flag --set: unknown name "location", valid names are ["builders" "database" "kind" "role" "schema" "schemas" "sources" "user"]`},
		{"a setting with a flag of its own", postgres, grantsAWS, map[string]string{"principal-id": "1"}, ""},
		{"no location", strings.ReplaceAll(quotings["bigquery"].dbt, ", location: EU", ""), quotings["bigquery"].exchange, nil,
			`target "prod": the policy does not say the location: add --set location=NAME`},
		{"a location", strings.ReplaceAll(quotings["bigquery"].dbt, ", location: EU", ""), quotings["bigquery"].exchange,
			map[string]string{"location": "US"}, ""},
		{"an unknown kind", postgres, grantsAWS, map[string]string{"kind": "read"},
			`flag --set: unknown kind "read", valid kinds are ["reader" "builder"]`},
		{"a builder that only reads", postgres, grantsAWS + "\n    guard: {statements: read}", map[string]string{"kind": "builder"},
			`target "prod": kind is "builder", and its guards admit only reading: leave the kind out, or change the guard`},
		{"a reader that reads", postgres, grantsAWS + "\n    guard: {statements: read}", map[string]string{"kind": "reader"}, ""},
		{"a source of another database", postgres, grantsAWS, map[string]string{"sources": "raw,lake.stripe"},
			`target "prod": sources is "lake.stripe": want a schema's name without a dot`},
		{"a table", quotings["snowflake"].dbt, quotings["snowflake"].exchange, map[string]string{"sources": "RAW.STRIPE.ORDERS"},
			`target "prod": sources is "RAW.STRIPE.ORDERS": want SCHEMA or DATABASE.SCHEMA`},
		{"no schema after the dot", quotings["snowflake"].dbt, quotings["snowflake"].exchange, map[string]string{"sources": "RAW."},
			`target "prod": sources is "RAW.": want SCHEMA or DATABASE.SCHEMA`},
		{"a space after the dot", quotings["snowflake"].dbt, quotings["snowflake"].exchange, map[string]string{"sources": "RAW. STRIPE"},
			`target "prod": sources is "RAW. STRIPE": want SCHEMA or DATABASE.SCHEMA`},
		{"a schema of another database", quotings["snowflake"].dbt, quotings["snowflake"].exchange, map[string]string{"schemas": "RAW.STRIPE"},
			`target "prod": schemas is "RAW.STRIPE": want a schema's name without a dot`},
		{"a long name", postgres, grantsAWS, map[string]string{"role": strings.Repeat("r", 64)},
			`target "prod": role "` + strings.Repeat("r", 64) + `" has 64 bytes, and PostgreSQL takes 63`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := demand(t, fmt.Sprintf(grantsTarget, tt.dbt, tt.exchange), Options{Values: tt.values})
			text, err := Grants([]Demand{d})
			if got := fmt.Sprint(err); got != tt.err && (err != nil || tt.err != "") || (err == nil) != (text != "") {
				t.Errorf("got %q, want %q\n%s", got, tt.err, text)
			}
		})
	}
	for _, source := range []string{".", "raw.", ".raw", "..", "raw. ", "a..b", ". "} {
		for name, q := range quotings {
			d := demand(t, fmt.Sprintf(grantsTarget, q.dbt, q.exchange), Options{Values: map[string]string{"sources": source}})
			if text, err := Grants([]Demand{d}); err == nil || text != "" {
				t.Errorf("%s: source %q: got %s, %v", name, source, text, err)
			}
		}
	}
	list := []Demand{
		demand(t, fmt.Sprintf(grantsTarget, postgres, grantsAWS), Options{}),
		demand(t, fmt.Sprintf(grantsTarget, "{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, schema: marts}", grantsVault), Options{}),
	}
	const want = `grants for target "prod" are in the language of postgres, those for target "prod" in that of clickhouse: choose with --target`
	if _, err := Grants(list); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A quoting is how a dialect ends what is quoted, for a scanner that shares
// nothing with what writes it.
type quoting struct {
	dbt, exchange                    string
	open, end                        byte // of identifiers
	backslashInName, backslashInText bool
	doubled                          bool // a quote in a string is doubled
}

var quotings = map[string]quoting{
	"postgres":   {"{type: postgres, host: h.acme.example, port: 5432, user: u, dbname: d, schema: s}", grantsAWS, '"', '"', false, false, true},
	"redshift":   {"{type: redshift, host: h.acme.example, port: 5439, user: u, dbname: d, schema: s}", grantsVault, '"', '"', false, true, true},
	"snowflake":  {"{type: snowflake, account: acme-prod, user: u, role: r, database: d, warehouse: w, schema: s}", "{oidc: {audience: snowflakecomputing.com}}", '"', '"', false, true, true},
	"clickhouse": {"{type: clickhouse, host: h.acme.example, port: 8443, secure: true, user: u, schema: s}", grantsVault, '`', '`', true, true, true},
	"databricks": {"{type: databricks, host: dbc-a1b2c3d4-e5f6.cloud.databricks.com, http_path: /sql/1.0/warehouses/1, catalog: d, schema: s}",
		"{databricks: {client_id: 8a1b2c3d-0000-4000-8000-000000000001, audience: databricks-dbt}}", '`', '`', false, true, false},
	"sqlserver": {"{type: sqlserver, server: acme.database.windows.net, port: 1433, database: d, schema: s, driver: ODBC Driver 18 for SQL Server}",
		"{entra: {tenant: acme.onmicrosoft.com, client_id: 11111111-2222-3333-4444-555555555555}}", '[', ']', false, false, true},
	"bigquery": {"{type: bigquery, project: d, dataset: s, location: EU}", `{gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/acme, ` +
		`service_account: "dbt@acme-dbt.iam.gserviceaccount.com"}}`, '`', '`', true, true, false},
}

// skeleton is the statements without what is quoted, whose contents it also
// returns; code in a string is looked into. "" is for what does not end.
func (q quoting) skeleton(text string) (out string, quoted []string) {
	for i := 0; i < len(text); i++ {
		end, escapes, doubled := q.end, q.backslashInName, true
		switch c := text[i]; {
		case strings.HasPrefix(text[i:], "-- ") || c == '#':
			line, _, _ := strings.Cut(text[i:], "\n")
			out, i = out+"-- …", i+len(line)-1
			continue
		case c == '\'':
			end, escapes, doubled = '\'', q.backslashInText, q.doubled
		case c != q.open:
			out += string(c)
			continue
		}
		content := ""
		for i++; ; i++ {
			switch {
			case i >= len(text):
				return "", nil
			case escapes && text[i] == '\\':
				i++
				content += text[i : i+1]
				continue
			case text[i] != end:
				content += text[i : i+1]
				continue
			case doubled && i+1 < len(text) && text[i+1] == end:
				i++
				content += text[i : i+1]
				continue
			}
			break
		}
		if strings.HasPrefix(content, "BEGIN CREATE ROLE") || strings.HasPrefix(content, "CREATE SCHEMA") {
			inner, names := q.skeleton(content)
			out, quoted = out+"{"+inner+"}", append(quoted, names...)
			continue
		}
		out, quoted = out+"Q", append(quoted, content)
	}
	return out, quoted
}

var hostileNames = []string{
	`a"b`, `""`, `a'b`, `''; drop table x; --`, "a`b", "``", `a]b`, `]]; drop`, `a\`, `a\'b`, `\"; drop table x; --`, "\\`; drop", `a;b`, `-- a`, `a/*b`, `*/`, `# a`,
	`$$`, `$a$`, `{schema}`, `{'role}`, `{$user}`, `{login}`, "END", "$(touch made)", "`touch made`", "a.b", "é", "名", "a%sb", "E'a'", "a b", "&{a}", "<% a %>", "PUBLIC",
	"-a", "select", "*",
}

// TestGrantsHoldHostileNames: whatever names are, the statements are the same,
// and have the names as they are.
func TestGrantsHoldHostileNames(t *testing.T) {
	t.Parallel()
	values := func(dbtType, name string) map[string]string {
		out := map[string]string{}
		for _, key := range grantLanguages[dbtType].settings() {
			out[key] = strings.ReplaceAll(name, ",", "")
		}
		delete(out, "kind")
		out["schemas"] += " 2" // they are distinct
		out["sources"] += " 3"
		return out
	}
	for name, q := range quotings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, guard := range []string{"", "\n    guard: {statements: read}"} {
				set := map[string]string{}
				if (name == "databricks" || name == "sqlserver" || name == "bigquery") && guard != "" {
					guard, set["kind"] = "", "reader" // where none can be held
				}
				text := func(hostile string) string {
					all := values(name, hostile)
					maps.Copy(all, set)
					d := demand(t, fmt.Sprintf(grantsTarget, q.dbt, q.exchange+guard), Options{Values: all})
					text, err := Grants([]Demand{d})
					if err != nil {
						t.Fatalf("%q: %v", hostile, err)
					}
					if name == "bigquery" { // its shell is TestGrantsInShell's
						_, text, _ = strings.Cut(text, "<<'END'\n")
						text, _, _ = strings.Cut(text, "\nEND\n")
					}
					return text
				}
				want, quoted := q.skeleton(text("plain name"))
				if len(quoted) < 5 {
					t.Fatalf("only %q is quoted", quoted)
				}
				for _, hostile := range hostileNames {
					if name == "snowflake" && (identifier(hostile).Exact != hostile || !strings.HasPrefix(identifier(hostile).SQL, `"`)) ||
						strings.Contains(hostile, ".") || name == "bigquery" && hostile[0] == '-' ||
						grantLanguages[name].isReserved("role", hostile) {
						continue // it is another name there, or refused
					}
					got, names := q.skeleton(text(hostile))
					if got != want {
						t.Errorf("%q: got\n%s\nwant\n%s", hostile, got, want)
						continue
					}
					for i, plain := range quoted {
						if number, ok := strings.CutPrefix(plain, "plain name"); ok && names[i] != hostile+number {
							t.Errorf("%q: a name is %q", hostile, names[i])
						}
					}
				}
			}
		})
	}
}

// TestReservedNames: what is granted to a role that the warehouse has by itself,
// others get too.
func TestReservedNames(t *testing.T) {
	t.Parallel()
	const role, user = "role", "user"
	for _, tt := range []struct {
		dbt, key, warehouse string
		refused, admitted   []string
	}{
		{"postgres", role, "PostgreSQL", []string{"postgres", "pg_write_all_data", "rds_superuser", "rds_iam", "cloudsqlsuperuser",
			"azure_pg_admin", "public", "PUBLIC", "none"}, []string{"dbt", "pgadmin", "post"}},
		{"postgres", user, "PostgreSQL", []string{"public"}, []string{"dbt"}},
		{"redshift", role, "Redshift", []string{"sys:superuser", "sys:dba", "SYS:operator", "public"}, []string{"dbt", "system"}},
		{"snowflake", role, "Snowflake", []string{"ACCOUNTADMIN", "accountadmin", `"ACCOUNTADMIN"`, "SecurityAdmin", "SYSADMIN",
			"ORGADMIN", "GLOBALORGADMIN", "USERADMIN", "PUBLIC"}, []string{"TRANSFORMER", "ACCOUNTADMIN_DBT"}},
		{"databricks", user, "Databricks", []string{"account users", "users", "admins"}, []string{"analysts"}},
		{"bigquery", user, "BigQuery", []string{"allUsers", "allAuthenticatedUsers", "specialGroup:allUsers"},
			[]string{"serviceAccount:dbt@acme.iam.gserviceaccount.com"}},
		{"sqlserver", role, "SQL Server", []string{"db_owner", "db_datareader", "DB_OWNER", "public", "dbo"}, []string{"dbt", "owner"}},
	} {
		q := quotings[tt.dbt]
		grants := func(name string) error {
			values := map[string]string{"user": "dbt"}
			values[tt.key] = name
			_, err := Grants([]Demand{demand(t, fmt.Sprintf(grantsTarget, q.dbt, q.exchange), Options{Values: values})})
			return err
		}
		for _, name := range tt.refused {
			want := fmt.Sprintf("target \"prod\": %s is %q, which is %s's own: others would get the grants, or the login its rights: "+
				"name one that only this login has", tt.key, name, tt.warehouse)
			if got := fmt.Sprint(grants(name)); got != want {
				t.Errorf("%s: got %q, want %q", tt.dbt, got, want)
			}
		}
		for _, name := range tt.admitted {
			if err := grants(name); err != nil {
				t.Errorf("%s: %s %q: %v", tt.dbt, tt.key, name, err)
			}
		}
	}
	const policy = "{type: snowflake, account: acme-prod, user: DBT, role: sysadmin, database: A, warehouse: W, schema: marts}"
	_, err := Grants([]Demand{demand(t, fmt.Sprintf(grantsTarget, policy, quotings["snowflake"].exchange), Options{})})
	if err == nil || !strings.Contains(err.Error(), `role is "sysadmin", which is Snowflake's own`) {
		t.Errorf("the policy's own role: got %v", err)
	}
}

// TestOptionsInGrants: no name of a command's word is an option.
func TestOptionsInGrants(t *testing.T) {
	t.Parallel()
	q := quotings["bigquery"]
	for key, refused := range map[string]bool{
		"database": true, "execution_project": true, "location": true, "schema": false, "user": false, "sources": false,
	} {
		_, err := Grants([]Demand{demand(t, fmt.Sprintf(grantsTarget, q.dbt, q.exchange), Options{Values: map[string]string{key: "--quiet"}})})
		want := fmt.Sprintf(`target "prod": %s is "--quiet", which a command would take for an option`, key)
		if got := fmt.Sprint(err); refused != (got == want) || !refused && err != nil {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}
