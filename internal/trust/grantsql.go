package trust

import "strings"

// grantLanguages are by dbt's type. What is not here has no grants that a text
// could give.
var grantLanguages = map[string]grantLanguage{
	"bigquery":   bigqueryGrants,
	"clickhouse": clickhouseGrants,
	"databricks": databricksGrants,
	"fabric":     tsqlGrants("Fabric"),
	"postgres":   postgresGrants,
	"redshift":   redshiftGrants,
	"snowflake":  snowflakeGrants,
	"sqlserver":  tsqlGrants("SQL Server"),
	"trino":      trinoGrants,
}

// grantLogins are how the user is made, by dbt's type and the provider, where
// the warehouse has a statement of its own for it.
var grantLogins = map[string]string{
	"postgres aws":        "CREATE USER {user}; GRANT rds_iam TO {user};",
	"postgres databricks": "CREATE EXTENSION IF NOT EXISTS databricks_auth; SELECT databricks_create_role({'user}, 'SERVICE_PRINCIPAL');",
	"postgres entra":      "SELECT * FROM pgaadauth_create_principal({'user}, false, false); in the database postgres",
	"postgres gcp":        "gcloud sql users create {$user} --instance INSTANCE --type cloud_iam_service_account",
	"postgres login":      "SELECT * FROM pgaadauth_create_principal({'user}, false, false); in the database postgres",
	"redshift aws":        "CREATE USER {user} PASSWORD DISABLE;",
	"fabric entra":        "CREATE USER {user} FROM EXTERNAL PROVIDER;",
	"fabric login":        "CREATE USER {user} FROM EXTERNAL PROVIDER;",
	"sqlserver entra":     "CREATE USER {user} FROM EXTERNAL PROVIDER;",
	"sqlserver login":     "CREATE USER {user} FROM EXTERNAL PROVIDER;",
}

// Comments that several languages have.
const (
	sourcesLine = "# Sources, which --set sources=NAME,NAME names, are only read:"
	openLine    = "# Claims complete its schemas, which dbt creates: it owns those, and has no right in others."
	customLine  = "# A custom schema of the project is not made by dbt: name it by --set schemas=NAME,NAME."
	staysLine   = "# What others have built in the schema stays theirs, and dbt cannot replace it until the role owns it."
	loginLine   = "# The user, once: {login}"
	laterLine   = "# What its builder makes later:"
	memberLine  = "# What its builder makes later (who runs this must be a member of that role):"
	checkLine   = "# Check:"
)

// (PostgreSQL 18: GRANT, ALTER DEFAULT PRIVILEGES, Schemas: usage patterns)
var postgresGrants = grantLanguage{
	warehouse: "PostgreSQL", comment: "-- ", needs: []string{"database"}, role: true, longest: 63, name: pgIdentifier, literal: pgLiteral,
	// "public" is everyone, quoted too. (PostgreSQL: Predefined roles; RDS, Cloud
	// SQL, AlloyDB, Azure, Databricks, Neon: their administrators)
	reserved: map[string][]string{"user": {"public"}, "role": strings.Fields("public none postgres pg_* rds* " +
		"cloudsql* alloydb* azure* databricks_* neon_*")},
	lines: []grantLine{
		{always, "# Run it by psql in the database {database}, as its owner and as a role that may create roles. It may be run again."},
		{toUser, loginLine},
		{always, "BEGIN;"},
		{always, "DO {'create role};"},
		{toUser, "GRANT {role} TO {user};"},
		{toLeased, "# The user is new with each lease. In the creation_statements of Vault's role, which also makes the role the owner:"},
		{toLeased, `# CREATE ROLE "{{name}}" … IN ROLE {role}; ALTER ROLE "{{name}}" SET ROLE {role};`},
		{always, "GRANT CONNECT ON DATABASE {database} TO {role};"},
		{toBuilder, "GRANT TEMPORARY ON DATABASE {database} TO {role};"},
		{toBuilder | toOpen, openLine},
		{toBuilder | toOpen, "GRANT CREATE ON DATABASE {database} TO {role};"},
		{toBuilder | toFixed, customLine},
		{toBuilder | toFixed, staysLine},
		{toBuilder, "CREATE SCHEMA IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"},
		{toReader, "GRANT USAGE ON SCHEMA {schema} TO {role};"},
		{toReader, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"},
		{toReader, memberLine},
		{toReader, "ALTER DEFAULT PRIVILEGES FOR ROLE {builder} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role};"},
		{always, sourcesLine},
		{always, "GRANT USAGE ON SCHEMA {source} TO {role};"},
		{always, "GRANT SELECT ON ALL TABLES IN SCHEMA {source} TO {role};"},
		{always, memberLine},
		{always, "ALTER DEFAULT PRIVILEGES FOR ROLE {loader} IN SCHEMA {source} GRANT SELECT ON TABLES TO {role};"},
		{always, "# Everybody's, in databases that were made before PostgreSQL 15:"},
		{always, "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"},
		{toReader, "# Temporary tables are everybody's until: REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;"},
		{always, "COMMIT;"},
		{always, checkLine},
		{always, "SELECT nspname, has_schema_privilege({'role}, oid, 'USAGE') AS reads, has_schema_privilege({'role}, oid, 'CREATE') AS creates"},
		{always, "  FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY nspname;"},
		{always, "SELECT table_schema, privilege_type, count(*) FROM information_schema.role_table_grants"},
		{always, "  WHERE grantee = {'role} GROUP BY 1, 2 ORDER BY 1, 2;"},
	},
}

// (Redshift: GRANT, CREATE ROLE, ALTER DEFAULT PRIVILEGES)
var redshiftGrants = grantLanguage{
	warehouse: "Redshift", comment: "-- ", needs: []string{"database"}, role: true, longest: 127, name: pgIdentifier, literal: sqlLiteral,
	// (Redshift: System-defined roles)
	reserved: map[string][]string{"user": {"public"}, "role": {"public", "sys:*"}},
	lines: []grantLine{
		{always, "# Run it in the database {database}, as a superuser. To run it again, leave out CREATE ROLE."},
		{toUser, loginLine},
		{always, "BEGIN;"},
		{always, "CREATE ROLE {role};"},
		{toUser, "GRANT ROLE {role} TO {user};"},
		{toLeased, "# The user is new with each lease. In the creation_statements of Vault's role, after CREATE USER:"},
		{toLeased, `# GRANT ROLE {role} TO "{{name}}";`},
		{toBuilder, "GRANT TEMPORARY ON DATABASE {database} TO ROLE {role};"},
		{toBuilder | toOpen, openLine},
		{toBuilder | toOpen, "GRANT CREATE ON DATABASE {database} TO ROLE {role};"},
		{toBuilder | toFixed, customLine},
		{toBuilder | toFixed, staysLine},
		{toBuilder, "CREATE SCHEMA IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT USAGE, CREATE ON SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT USAGE ON SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, laterLine},
		{toReader, "ALTER DEFAULT PRIVILEGES FOR USER {builder} IN SCHEMA {schema} GRANT SELECT ON TABLES TO ROLE {role};"},
		{always, sourcesLine},
		{always, "GRANT USAGE ON SCHEMA {source} TO ROLE {role};"},
		{always, "GRANT SELECT ON ALL TABLES IN SCHEMA {source} TO ROLE {role};"},
		{always, laterLine},
		{always, "ALTER DEFAULT PRIVILEGES FOR USER {loader} IN SCHEMA {source} GRANT SELECT ON TABLES TO ROLE {role};"},
		{always, "# Everybody's, unless it was taken away:"},
		{always, "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"},
		{toReader, "# Temporary tables are everybody's until: REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;"},
		{always, "COMMIT;"},
		{always, checkLine},
		{always, "SELECT namespace_name, privilege_type FROM svv_schema_privileges WHERE identity_name = {'role} ORDER BY 1, 2;"},
		{always, "SELECT namespace_name, relation_name, privilege_type FROM svv_relation_privileges"},
		{always, "  WHERE identity_name = {'role} ORDER BY 1, 2, 3;"},
	},
}

// (Snowflake: Access control privileges, GRANT <privileges>, ALTER USER)
var snowflakeGrants = grantLanguage{
	warehouse: "Snowflake", comment: "-- ", needs: []string{"database", "warehouse"}, role: true, roleKey: true, qualified: true, longest: 255,
	name: func(text string) string { return identifier(text).SQL }, literal: sqlLiteral,
	// (Snowflake: System-defined roles)
	reserved: map[string][]string{"role": strings.Fields("accountadmin globalorgadmin orgadmin public securityadmin sysadmin useradmin")},
	lines: []grantLine{
		{always, "# Run it as a role that owns the database and may create roles and grant on the sources. It may be run again."},
		{always, "CREATE ROLE IF NOT EXISTS {role};"},
		{toUser, "GRANT ROLE {role} TO USER {user};"},
		{toUser, "# A session may take any role that its user has: give it no other."},
		{toUser, "ALTER USER {user} SET DEFAULT_ROLE = {role} DEFAULT_SECONDARY_ROLES = ();"},
		{toLeased, "# The user is new with each lease. In the creation_statements of Vault's role, after CREATE USER:"},
		{toLeased, `# GRANT ROLE {role} TO USER "{{name}}";`},
		{always, "GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role};"},
		{always, "GRANT USAGE ON DATABASE {database} TO ROLE {role};"},
		{toBuilder | toOpen, openLine},
		{toBuilder | toOpen, "GRANT CREATE SCHEMA ON DATABASE {database} TO ROLE {role};"},
		{toBuilder | toFixed, customLine},
		{toBuilder | toFixed, staysLine},
		{toBuilder, "CREATE SCHEMA IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT USAGE, CREATE TABLE, CREATE VIEW, CREATE MATERIALIZED VIEW, CREATE DYNAMIC TABLE ON SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT USAGE ON SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON FUTURE TABLES IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON ALL VIEWS IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON FUTURE VIEWS IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON ALL DYNAMIC TABLES IN SCHEMA {schema} TO ROLE {role};"},
		{toReader, "GRANT SELECT ON FUTURE DYNAMIC TABLES IN SCHEMA {schema} TO ROLE {role};"},
		{always, sourcesLine},
		{always, "GRANT USAGE ON DATABASE {source database} TO ROLE {role};"},
		{always, "GRANT USAGE ON SCHEMA {source} TO ROLE {role};"},
		{always, "GRANT SELECT ON ALL TABLES IN SCHEMA {source} TO ROLE {role};"},
		{always, "GRANT SELECT ON FUTURE TABLES IN SCHEMA {source} TO ROLE {role};"},
		{always, "GRANT SELECT ON ALL VIEWS IN SCHEMA {source} TO ROLE {role};"},
		{always, "GRANT SELECT ON FUTURE VIEWS IN SCHEMA {source} TO ROLE {role};"},
		{always, checkLine},
		{always, "SHOW GRANTS TO ROLE {role};"},
		{always, "SHOW FUTURE GRANTS TO ROLE {role};"},
		{toUser, "SHOW GRANTS TO USER {user};"},
	},
}

// clickhouseName quotes a name as GoogleSQL does, too: what is escaped in a
// string is escaped there. (ClickHouse: Syntax, Identifiers; GoogleSQL: Lexical
// structure and syntax, Quoted identifiers)
func clickhouseName(text string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(text) + "`"
}

// backslashLiteral escapes by backslashes only, where a doubled quote would be
// two strings.
func backslashLiteral(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

// (ClickHouse: GRANT, CREATE SETTINGS PROFILE, Constraints on settings)
var clickhouseGrants = grantLanguage{
	warehouse: "ClickHouse", comment: "-- ", role: true, name: clickhouseName, literal: backslashLiteral,
	lines: []grantLine{
		{always, "# Run it as a user with access management, whose grants are in the server and not in users.xml. It may be run again."},
		{always, "CREATE ROLE IF NOT EXISTS {role};"},
		{toUser, "GRANT {role} TO {user};"},
		{toUser, "SET DEFAULT ROLE {role} TO {user};"},
		{toLeased, "# The user is new with each lease. In the creation_statements of Vault's role, after CREATE USER:"},
		{toLeased, "# GRANT {role} TO '{{name}}';"},
		{toBuilder | toFixed, customLine},
		{toBuilder, "CREATE DATABASE IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT SHOW, SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE TABLE, CREATE VIEW, CREATE DICTIONARY, DROP TABLE, DROP VIEW, " +
			"DROP DICTIONARY, TRUNCATE, OPTIMIZE ON {schema}.* TO {role};"},
		{toReader, "GRANT SHOW, SELECT ON {schema}.* TO {role};"},
		{toReader, "# It cannot change a setting either, as with the guard's own readonly=1."},
		{toReader, "CREATE SETTINGS PROFILE OR REPLACE {role} SETTINGS readonly = 1 CONST, allow_ddl = 0 CONST TO {role};"},
		{always, sourcesLine},
		{always, "GRANT SHOW, SELECT ON {source}.* TO {role};"},
		{always, checkLine},
		{always, "SHOW GRANTS FOR {role};"},
		{always, "SELECT user_name, granted_role_name FROM system.role_grants WHERE granted_role_name = {'role};"},
	},
}

// databricksName has no other escape than the doubled backtick. (Databricks:
// Identifiers)
func databricksName(text string) string { return "`" + strings.ReplaceAll(text, "`", "``") + "`" }

// (Databricks: Unity Catalog privileges and securable objects)
var databricksGrants = grantLanguage{
	warehouse: "Databricks", comment: "-- ", needs: []string{"database"}, qualified: true, name: databricksName, literal: backslashLiteral,
	reserved: map[string][]string{"user": {"account users", "admins", "users"}}, // (Databricks: System groups)
	lines: []grantLine{
		{always, "# Run it as the owner of the catalog {database}, which must be one of Unity Catalog. It may be run again."},
		{always, "# The login also needs CAN USE on its SQL warehouse: databricks permissions update warehouses ID."},
		{always, "GRANT USE CATALOG ON CATALOG {database} TO {user};"},
		{toBuilder | toOpen, openLine},
		{toBuilder | toOpen, "GRANT CREATE SCHEMA ON CATALOG {database} TO {user};"},
		{toBuilder | toFixed, customLine},
		{toBuilder | toFixed, staysLine},
		{toBuilder, "CREATE SCHEMA IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT USE SCHEMA, SELECT, MODIFY, CREATE TABLE, CREATE MATERIALIZED VIEW ON SCHEMA {schema} TO {user};"},
		{toReader, "GRANT USE SCHEMA, SELECT ON SCHEMA {schema} TO {user};"},
		{always, sourcesLine},
		{always, "GRANT USE CATALOG ON CATALOG {source database} TO {user};"},
		{always, "GRANT USE SCHEMA, SELECT ON SCHEMA {source} TO {user};"},
		{always, checkLine},
		{always, "SHOW GRANTS {user} ON CATALOG {database};"},
		{always, "SHOW GRANTS {user} ON SCHEMA {schema};"},
	},
}

// (BigQuery: GRANT, IAM roles and permissions; bq query reads standard input)
var bigqueryGrants = grantLanguage{
	warehouse: "BigQuery", comment: "# ", needs: []string{"database", "location"}, qualified: true,
	name: clickhouseName, literal: backslashLiteral,
	reserved: map[string][]string{"user": {"allauthenticatedusers", "allusers", "specialgroup:*"}}, // (IAM: Principal identifiers)
	lines: []grantLine{
		{always, "# Run it by bash, as an owner of the projects. It may be run again."},
		{always, "set -euo pipefail"},
		{toBuilder | toOpen, "# Claims complete its datasets, which dbt creates: it owns those, and has no right in others."},
		{toBuilder | toOpen, "gcloud projects add-iam-policy-binding {$database} --member={$user} --role roles/bigquery.user --condition None"},
		{always, "# Jobs, which have no rights of their own:"},
		{always, "gcloud projects add-iam-policy-binding {$execution_project} --member={$user} --role roles/bigquery.jobUser --condition None"},
		{toBuilder | toFixed, customLine},
		{always, sourcesLine},
		{always, `bq query --use_legacy_sql=false --project_id {$execution_project} --location {$location} <<'END'`},
		{toBuilder, "CREATE SCHEMA IF NOT EXISTS {schema};"},
		{toBuilder, "GRANT `roles/bigquery.dataEditor` ON SCHEMA {schema} TO {'user};"},
		{toReader, "GRANT `roles/bigquery.dataViewer` ON SCHEMA {schema} TO {'user};"},
		{always, "GRANT `roles/bigquery.dataViewer` ON SCHEMA {source} TO {'user};"},
		{always, "SELECT SESSION_USER() AS granted_by;"},
		{always, "END"},
		{always, checkLine},
		{always, "bq show --format=prettyjson {$database}:{$schema}"},
	},
}

// tsqlGrants are those of SQL Server, Azure SQL and Fabric's warehouse.
// (Microsoft: GRANT schema permissions, CREATE ROLE; Fabric: Security for data
// warehousing)
func tsqlGrants(warehouse string) grantLanguage {
	return grantLanguage{
		warehouse: warehouse, comment: "-- ", needs: []string{"database"}, role: true, longest: 128,
		// (SQL Server: Database-level roles)
		reserved: map[string][]string{
			"user": {"public"}, "role": strings.Fields("public db_* dbo guest sys information_schema loginmanager dbmanager ##*"),
		},
		name:    func(text string) string { return "[" + strings.ReplaceAll(text, "]", "]]") + "]" },
		literal: func(text string) string { return "N" + pgLiteral(text) },
		lines: []grantLine{
			{always, "# Run it in the database {database}, as its owner. It may be run again."},
			{toUser, loginLine},
			{always, "IF DATABASE_PRINCIPAL_ID({'role}) IS NULL CREATE ROLE {role};"},
			{toUser, "ALTER ROLE {role} ADD MEMBER {user};"},
			{toLeased, "# The user is new with each lease. In the creation_statements of Vault's role, after CREATE USER:"},
			{toLeased, `# ALTER ROLE {role} ADD MEMBER [{{name}}];`},
			{toBuilder, "# It may create tables, and only where it may also alter the schema:"},
			{toBuilder, "GRANT CREATE TABLE, CREATE VIEW TO {role};"},
			{toBuilder | toFixed, customLine},
			{toBuilder, "IF SCHEMA_ID({'schema}) IS NULL EXEC({create schema});"},
			{toBuilder, "GRANT ALTER, SELECT, INSERT, UPDATE, DELETE, REFERENCES ON SCHEMA::{schema} TO {role};"},
			{toReader, "GRANT SELECT ON SCHEMA::{schema} TO {role};"},
			{always, sourcesLine},
			{always, "GRANT SELECT ON SCHEMA::{source} TO {role};"},
			{always, checkLine},
			{always, "SELECT permission_name, class_desc, SCHEMA_NAME(CASE class WHEN 3 THEN major_id END) AS [schema]"},
			{always, "  FROM sys.database_permissions"},
			{always, "  WHERE grantee_principal_id = DATABASE_PRINCIPAL_ID({'role});"},
		},
	}
}
