package dbtpackage

import (
	"fmt"
	"strings"
	"time"
)

// stamp writes a time as most logs do.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// logs are the warehouses' logs, with a login for each of the requests, and ten
// whose id begins with "bad": that is what the package must find. The columns are
// those of the vendors' pages that the staging models name; where those are
// structures, the names are joined by two underscores.
func logs() map[string][][]string {
	all := map[string][][]string{
		"seed_snowflake_logins": {{"event_id", "event_timestamp", "event_type", "user_name", "client_ip", "reported_client_type", "reported_client_version",
			"first_authentication_factor", "second_authentication_factor", "is_success", "error_code", "error_message", "first_authentication_factor_id"}},
		"seed_snowflake_sessions": {{"session_id", "login_event_id", "user_name"}},
		"seed_snowflake_queries":  {{"query_id", "query_text", "query_type", "session_id", "user_name", "role_name", "query_tag", "start_time"}},
		"seed_bigquery_log": {{"insertid", "timestamp", "servicename", "methodname", "principalemail", "principalsubject", "serviceaccountkeyname",
			"callerip", "callersupplieduseragent"}},
		"seed_redshift_logins": {{"event", "record_time", "remote_host", "session_id", "database_name", "user_name", "auth_method", "iam_auth_guid", "application_name"}},
		"seed_databricks_log": {{"event_id", "event_time", "source_ip_address", "user_agent", "user_identity__email", "user_identity__subject_name", "service_name",
			"action_name", "response__status_code"}},
		"seed_cloudtrail": {{"eventid", "eventtime", "eventsource", "eventname", "sourceipaddress", "useragent", "errorcode", "responseelements",
			"useridentity__type", "useridentity__arn", "useridentity__accesskeyid", "useridentity__sessionissuer__arn"}},
		"seed_postgres_log": {{"log_time", "user_name", "database_name", "connection_from", "session_id", "session_line_num", "command_tag",
			"error_severity", "message", "application_name"}},
		"seed_trino_events":       {{"event"}},
		"seed_clickhouse_logins":  {{"type", "auth_id", "session_id", "event_time_microseconds", "user", "auth_type", "client_address", "interface", "failure_reason"}},
		"seed_clickhouse_queries": {{"type", "query_id", "event_time_microseconds", "user", "query_kind", "query"}},
		"seed_own_logins": {{"login_id", "logged_in_at", "user_name", "session_name", "principal_subject", "run_id", "factor", "factor_id", "is_secret",
			"client_ip", "client"}},
		"seed_own_queries": {{"query_id", "started_at", "user_name", "login_id", "target", "run_id", "query_type", "query_sha256"}},
		"seed_inventory": {
			{"repository", "stored_user", "key_id"},
			{"acme/analytics", "DBT_OLD", ""},        // used at night
			{"acme/analytics", "DBT_GONE", ""},       // nothing uses it any more
			{"acme/analytics", "DBT_SHARED", ""},     // shared with a repository that still needs it
			{"acme/warehouse", "DBT_SHARED", ""},     // not migrated
			{"acme/finance", serviceAccount, "4f2a"}, // one key of a user that has recorded credentials, too
		},
		"seed_reviews": {
			{"target", "rule_number", "reviewer", "reviewed_at", "decision"},
			{"snow", "2", "grace", "2026-11-05 00:00:00", "keep"},
		},
	}
	l := logOf{all}
	for i, r := range requests() {
		l.good(i, r)
	}
	l.bad()
	return all
}

// A logOf adds rows to logs.
type logOf struct{ all map[string][][]string }

func (l logOf) add(name string, row ...string) { l.all[name] = append(l.all[name], row) }

func (l logOf) snowflake(id string, at time.Time, user, factor, success string) {
	l.add("seed_snowflake_logins", id, stamp(at), "LOGIN", user, "203.0.113.7", "PYTHON_DRIVER", "4.8.1", factor, "", success, "", "", "")
}

func (l logOf) bigQuery(id string, at time.Time, key string) {
	if key != "" {
		key = "//iam.googleapis.com/projects/acme-dbt/serviceAccounts/" + serviceAccount + "/keys/" + key
	}
	l.add("seed_bigquery_log", id, stamp(at), "bigquery.googleapis.com", "google.cloud.bigquery.v2.JobService.InsertJob", serviceAccount, "", key, "203.0.113.7", "dbt-bigquery-1.12.1")
}

func (l logOf) redshift(event string, session int, at time.Time, method, guid string) {
	l.add("seed_redshift_logins", event, stamp(at), "::ffff:203.0.113.7", fmt.Sprint(session), "dev", "IAMR:dbt-prod", method, guid, "dbt")
}

func (l logOf) databricks(id string, at time.Time, action string) {
	l.add("seed_databricks_log", id, stamp(at), "203.0.113.7", "dbt", application, "", "accounts", action, "200")
}

func (l logOf) cloudTrail(id string, at time.Time, kind, arn, key, role string) {
	l.add("seed_cloudtrail", id, at.UTC().Format(time.RFC3339), "athena.amazonaws.com", "StartQueryExecution", "203.0.113.7", "Boto3/1.40", "",
		`{"queryExecutionId":"`+id+`"}`, kind, arn, key, role)
}

// postgres adds the lines that PostgreSQL writes for a login and a statement.
func (l logOf) postgres(id string, at time.Time, user, statement string) {
	for i, message := range []string{
		"connection received: host=127.0.0.1 port=50000",
		fmt.Sprintf(`connection authenticated: identity="%s" method=scram-sha-256 (/srv/pg_hba.conf:1)`, user),
		fmt.Sprintf("connection authorized: user=%s database=postgres application_name=oidc-dbt target=pg SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)", user),
		"statement: " + statement,
	} {
		l.add("seed_postgres_log", stamp(at.Add(time.Duration(i)*time.Millisecond)), user, "postgres", "127.0.0.1:50000", id, fmt.Sprint(i+1),
			[]string{"", "authentication", "authentication", "SELECT"}[i], "LOG", message, []string{"", "", "", "oidc-dbt target=pg"}[i])
	}
}

func (l logOf) trino(id string, at time.Time, tags ...string) {
	for i, tag := range tags {
		tags[i] = `"` + tag + `"`
	}
	l.add("seed_trino_events", fmt.Sprintf(`{"createTime":"%s","context":{"user":"dbt","principal":"dbt","source":"dbt-trino-1.11.0","clientTags":[%s],"remoteClientAddress":"203.0.113.7","queryType":"SELECT"},`+
		`"metadata":{"queryId":"%s","query":"select 1 as trino","queryState":"FINISHED"}}`, stamp(at), strings.Join(tags, ","), id))
}

func (l logOf) clickHouse(kind, id string, at time.Time, method string) {
	l.add("seed_clickhouse_logins", kind, id, "", stamp(at), "dbt-prod", method, "203.0.113.7", "HTTP", "")
}

// good adds the login of a request, a minute after it began.
func (l logOf) good(i int, r request) {
	at, id := r.at.Add(time.Minute), fmt.Sprintf("good-%d", i)
	switch r.target {
	case "snow":
		l.snowflake(id, at, "DBT_PROD", "WORKLOAD_IDENTITY", "YES")
		l.add("seed_snowflake_sessions", "s-"+id, id, "DBT_PROD")
		l.add("seed_snowflake_queries", "q-"+id, "select 1 as snow", "SELECT", "s-"+id, "DBT_PROD", "TRANSFORMER", "oidc-dbt target=snow", stamp(at))
	case "bq":
		l.bigQuery(id, at, "")
	case "rs":
		l.redshift("authenticated", i, at, "IAM AssumeUser", "f3e1c2d4-0000-4000-8000-000000000000")
		l.redshift("initiating session", i, at, "IAM AssumeUser", "f3e1c2d4-0000-4000-8000-000000000000")
	case "dbx":
		l.databricks(id, at, "oidcTokenAuthorization")
	case "lake":
		l.cloudTrail(id, at, "AssumedRole", r.session, r.accessKey(), "arn:aws:iam::123456789012:role/dbt-prod")
	case "pg":
		l.postgres(id, at, "v-jwt-dbt-"+r.run, "select 1 as pg")
	case "trino":
		l.trino(id, at, "oidc-dbt", "target=trino", "run="+r.run)
	case "ch":
		l.clickHouse("LoginSuccess", id, at, "JWT")
		l.add("seed_clickhouse_queries", "QueryStart", "q-"+id, stamp(at), "dbt-prod", "Select", "select 1 as ch")
	}
}

// bad adds the logins that no record explains, and such as look like it and are none.
func (l logOf) bad() {
	night := noon.Add(14 * time.Hour)
	l.snowflake("bad-01", noon.Add(time.Minute), "DBT_PROD", "RSA_KEYPAIR", "YES") // in a run's time, with the old key
	l.snowflake("bad-02", night, "DBT_PROD", "PASSWORD", "YES")
	l.snowflake("refused", night, "DBT_PROD", "PASSWORD", "NO")
	l.snowflake("person", night, "ADA", "SAML2_ASSERTION", "YES")
	l.bigQuery("bad-03", night, "4f2a")
	l.redshift("authenticated", 904, night, "password", "")
	l.databricks("bad-05", noon.AddDate(0, 0, 1).Add(time.Minute), "tokenLogin") // in a run's time, with a personal access token
	l.cloudTrail("bad-06", night, "IAMUser", "arn:aws:iam::123456789012:user/dbt-old", "AKIA0000000000000006", "")
	l.postgres("bad-07", night, "dbt_old", "select 1")
	l.postgres("bad-08", noon.Add(30*time.Minute), "v-jwt-dbt-16055860050", "select 1") // a stolen lease, after its end
	l.trino("bad-09", noon.Add(time.Minute), "tableau")
	l.clickHouse("LoginSuccess", "bad-10", noon.Add(time.Minute), "SHA256_PASSWORD")
	killed := noon.Add(time.Hour + time.Minute) // those of the requests without an outcome
	l.snowflake("bad-11", killed, "DBT_PROD", "WORKLOAD_IDENTITY", "YES")
	l.cloudTrail("bad-12", killed, "AssumedRole", "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-marketing@16055869479-1",
		"ASIA0000000000000012", "arn:aws:iam::123456789012:role/dbt-prod")
	l.clickHouse("LoginFailure", "refused", night, "SHA256_PASSWORD")
	l.add("seed_own_logins", "own-good", stamp(noon.Add(2*time.Minute)), "dbt_prod", "", "", "", "token", "", "false", "203.0.113.7", "dbt")
	l.add("seed_own_queries", "own-query", stamp(noon.Add(2*time.Minute)), "dbt_prod", "own-good", "snow", "", "SELECT", "")
}
