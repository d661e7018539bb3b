package policy

import (
	"fmt"
	"slices"
	"strings"
)

// otherNames are what people call keys, claims, types and providers elsewhere,
// by the names here that they may mean.
var otherNames = map[string][]string{
	"postgres": {"postgresql", "pg", "pgsql", "psql", "aurora", "aurora_postgres", "aurora_postgresql", "rds",
		"cloudsql", "cloud_sql", "alloydb", "lakebase", "timescale", "timescaledb", "neon", "supabase"},
	"sqlserver":        {"mssql", "azuresql", "azure_sql", "tsql", "ms_sql"},
	"synapse":          {"azure_synapse", "azuresynapse"},
	"fabric":           {"msfabric", "ms_fabric", "microsoft_fabric", "fabric_warehouse", "fabricwarehouse"},
	"bigquery":         {"bq", "google_bigquery", "gbq"},
	"trino":            {"presto", "prestodb", "prestosql", "starburst", "starburst_galaxy", "galaxy"},
	"databricks":       {"databricks_sql", "dbsql", "databrickssql", "dbx", "delta"},
	"snowflake":        {"snow", "sf"},
	"redshift":         {"redshift_serverless", "aws_redshift", "amazon_redshift"},
	"athena":           {"aws_athena", "amazon_athena"},
	"duckdb":           {"motherduck", "duck"},
	"clickhouse":       {"ch", "clickhouse_cloud"},
	"spark":            {"pyspark", "sparksql", "spark_sql", "spark_thrift", "thrift"},
	"gcp":              {"google", "gcloud", "google_cloud", "wif", "workload_identity", "workload_identity_federation", "service_account"},
	"entra":            {"azure", "azuread", "azure_ad", "aad", "microsoft", "entra_id", "entraid", "managed_identity"},
	"aws":              {"sts", "amazon", "iam", "assume_role", "iam_role", "web_identity"},
	"identity_center":  {"sso", "aws_sso", "iam_identity_center", "idc"},
	"vault":            {"hashicorp", "hashicorp_vault", "openbao", "bao"},
	"oidc":             {"jwt", "id_token", "idtoken", "snowflake", "trino", "starburst"},
	"token_exchange":   {"rfc8693", "oauth", "oauth2", "keycloak", "okta", "auth0", "jwt_bearer", "client_assertion"},
	"environment":      {"env", "environment_name"},
	"ref":              {"branch", "branch_name", "git_ref", "ref_name", "tag"},
	"ref_path":         {"branch", "branch_name", "git_ref", "ref_name", "tag"}, // GitLab's
	"repository":       {"repo", "repo_name", "repository_name"},
	"repository_id":    {"repo_id"},
	"repository_owner": {"owner", "org", "organization", "organisation"},
	"event_name":       {"event", "events", "trigger", "on"},
	"sub":              {"subject"},
	"iss":              {"issuer"},
	"aud":              {"audience"},
	"job_workflow_ref": {"workflow_path", "reusable_workflow", "workflow_file"},
	"actor":            {"user", "username", "login", "triggering_actor"},
	"sha":              {"commit", "commit_sha"},
	"pull_number":      {"pr", "pr_number", "pull_request", "pull_request_number", "number"},
	"github":           {"gh", "github_actions", "actions"},
	"azure_pipelines":  {"azure_devops", "ado", "azure"},
	"kubernetes":       {"k8s"},
	"people":           {"person", "human", "users", "okta", "sso"},
	"targets":          {"outputs", "environments", "credentials"},
	"identities":       {"issuers", "providers"},
	"allow":            {"rules", "rule", "allowed", "permissions", "when", "trust"},
	"exchange":         {"provider", "providers", "auth", "authentication", "credential"},
	"dbt":              {"profile", "profiles", "output"},
	"lifetime":         {"ttl", "duration", "expires_in", "session_duration"},
	"max_lifetime":     {"max_ttl", "max_duration"},
	"requires":         {"required_version", "min_version", "require_dbt_version"},
	"jwks_uri":         {"jwks", "jwks_url"},

	"pull_request":      {"pr", "pull", "merge_request"},
	"schedule":          {"scheduled", "cron"},
	"workflow_dispatch": {"manual", "dispatch"},
	"merge_group":       {"merge_queue"},
	"release":           {"released", "published"},
}

// meant returns the one of names that a text probably stands for, "" where
// none is near.
func meant(text string, names []string) string {
	if len(text) > maxName {
		return ""
	}
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	got := fold(text)
	for _, name := range names { // letter case and hyphens are the nearest
		if fold(name) == got {
			return name
		}
	}
	for _, name := range names {
		if slices.Contains(otherNames[name], got) {
			return name
		}
	}
	best, nearest := "", 1+min(3, max(1, len(got)/3))
	for _, name := range names {
		if d := distance(got, fold(name)); d < nearest && d < len(name) {
			best, nearest = name, d
		}
	}
	return best
}

// maxName bounds what is compared: no name here is nearly as long.
const maxName = 64

// didYouMean is what an error adds of a near name, "" where none is near.
func didYouMean(text string, names []string) string {
	if name := meant(text, names); name != "" {
		return fmt.Sprintf(": did you mean %q?", name)
	}
	return ""
}

// distance is how many letters two texts are apart: left out, added, another,
// or exchanged with the next one (Damerau and Levenshtein, optimal alignment).
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	rows := make([][]int, len(from)+1)
	for i := range rows {
		rows[i] = make([]int, len(to)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(from); i++ {
		for j := 1; j <= len(to); j++ {
			change := 1
			if from[i-1] == to[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(from)][len(to)]
}
