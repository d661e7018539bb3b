package docs

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seedFolder has the dbt package's seeds.
const seedFolder = "../dbt/integration_tests/seeds"

// vendorLogs are the columns that a vendor documents for its log, by the seed that stands in for it. A field of a
// structure has its path.
var vendorLogs = map[string]string{
	// https://docs.snowflake.com/en/sql-reference/account-usage/login_history, and for the ids of factors
	// https://docs.snowflake.com/en/release-notes/bcr-bundles/2025_04/bcr-1966
	"seed_snowflake_logins": `reader_account_name event_id event_timestamp event_type user_name client_ip reported_client_type
		reported_client_version first_authentication_factor second_authentication_factor is_success error_code error_message
		related_event_id connection client_private_link_id first_authentication_factor_id second_authentication_factor_id`,
	// https://docs.snowflake.com/en/sql-reference/account-usage/query_history
	"seed_snowflake_queries": `query_id query_text database_id database_name schema_id schema_name query_type session_id authn_event_id
		user_name role_name warehouse_id warehouse_name warehouse_size warehouse_type cluster_number query_tag execution_status
		error_code error_message start_time end_time total_elapsed_time bytes_scanned rows_produced`,
	// https://docs.snowflake.com/en/sql-reference/account-usage/sessions
	"seed_snowflake_sessions": `session_id created_on user_name authentication_method login_event_id client_application_version
		client_application_id client_environment client_build_id client_version closed_reason`,
	// https://docs.cloud.google.com/bigquery/docs/reference/auditlogs, as a log sink writes it: the names of
	// https://docs.cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog below protopayload_auditlog
	"seed_bigquery_log": `logname timestamp receivetimestamp severity insertid protopayload_auditlog.servicename
		protopayload_auditlog.methodname protopayload_auditlog.resourcename protopayload_auditlog.authenticationinfo.principalemail
		protopayload_auditlog.authenticationinfo.principalsubject protopayload_auditlog.authenticationinfo.serviceaccountkeyname
		protopayload_auditlog.requestmetadata.callerip protopayload_auditlog.requestmetadata.callersupplieduseragent`,
	// https://docs.aws.amazon.com/redshift/latest/dg/SYS_CONNECTION_LOG.html
	"seed_redshift_logins": `event record_time remote_host remote_port session_id database_name user_name auth_method duration ssl_version
		ssl_cipher mtu ssl_compression ssl_expansion iam_auth_guid application_name driver_version os_version plugin_name
		protocol_version`,
	// https://docs.databricks.com/aws/en/admin/system-tables/audit-logs; its examples write the fields of structures as
	// JSON, in camel case, and its queries as the table has them
	"seed_databricks_log": `account_id workspace_id version event_time event_date source_ip_address user_agent session_id
		user_identity.email user_identity.subject_name service_name action_name request_id request_params response.status_code
		response.error_message response.result audit_level event_id identity_metadata.run_by identity_metadata.run_as`,
	// https://docs.aws.amazon.com/athena/latest/ug/create-cloudtrail-table-partition-projection.html
	"seed_cloudtrail": `eventversion useridentity.type useridentity.principalid useridentity.arn useridentity.accountid
		useridentity.invokedby useridentity.accesskeyid useridentity.username useridentity.sessioncontext.sessionissuer.type
		useridentity.sessioncontext.sessionissuer.principalid useridentity.sessioncontext.sessionissuer.arn
		useridentity.sessioncontext.sessionissuer.accountid useridentity.sessioncontext.sessionissuer.username eventtime eventsource
		eventname awsregion sourceipaddress useragent errorcode errormessage requestparameters responseelements additionaleventdata
		requestid eventid readonly resources eventtype apiversion recipientaccountid`,
	// https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
	"seed_postgres_log": `log_time user_name database_name process_id connection_from session_id session_line_num command_tag
		session_start_time virtual_transaction_id transaction_id error_severity sql_state_code message detail hint internal_query
		internal_query_pos context query query_pos location application_name backend_type leader_pid query_id`,
	// https://clickhouse.com/docs/operations/system-tables/session_log
	"seed_clickhouse_logins": `hostname type auth_id session_id event_date event_time event_time_microseconds user auth_type profiles roles
		settings client_address client_port interface client_hostname client_name client_revision client_version_major
		client_version_minor client_version_patch failure_reason`,
	// https://clickhouse.com/docs/operations/system-tables/query_log
	"seed_clickhouse_queries": `hostname type event_date event_time event_time_microseconds query_start_time query_start_time_microseconds
		query_duration_ms current_database query formatted_query normalized_query_hash query_kind databases tables columns
		exception_code exception is_initial_query user query_id address port initial_user initial_query_id interface
		http_user_agent log_comment`,
	// The table is the user's own; its column is what Trino's listener posts: see trinoEvent.
	"seed_trino_events": `event`,
}

// ownSeeds are of this project's own form.
var ownSeeds = words("seed_inventory seed_own_logins seed_own_queries seed_records seed_reviews seed_statements")

// trinoEvent are the fields of the events that the HTTP event listener posts
// (https://trino.io/docs/current/admin/event-listeners-http.html), which are the properties of QueryCreatedEvent,
// QueryCompletedEvent, QueryContext and QueryMetadata in io.trino.spi.eventlistener:
// https://github.com/trinodb/trino/tree/master/core/trino-spi/src/main/java/io/trino/spi/eventlistener
var trinoEvent = map[string]string{
	"": "createTime context metadata endTime executionStartTime statistics ioMetadata failureInfo warnings",
	"context": `user originalUser principal enabledRoles groups traceToken remoteClientAddress userAgent clientInfo clientTags
		clientCapabilities source timezone catalog schema resourceGroupId sessionProperties resourceEstimates serverAddress
		serverVersion environment queryType retryPolicy`,
	"metadata": `queryId transactionId encoding query updateType preparedQuery queryState tables routines uri plan jsonPlan payload`,
}

// TestSeedsOfVendorsLogs: a seed that stands in for a vendor's log has none but the columns that the vendor documents.
func TestSeedsOfVendorsLogs(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(seedFolder + "/*.csv")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".csv")
		columns, vendor := vendorLogs[name]
		switch {
		case ownSeeds[name]:
		case !vendor:
			t.Errorf("%s: say which vendor's log it stands in for, with its columns, or that it is one of this project's own", name)
		default:
			found++
			for _, column := range header(t, path) {
				if !documented(column, strings.Fields(columns)) {
					t.Errorf("%s: the log has no column %q", name, column)
				}
			}
		}
	}
	if found != len(vendorLogs) {
		t.Errorf("there are %d seeds of vendors' logs, want %d", found, len(vendorLogs))
	}
}

// documented reports whether a seed's column is one of the log's: the names of it, which __ divides, lead to the field.
func documented(column string, columns []string) bool {
	return slices.ContainsFunc(columns, func(path string) bool {
		names := strings.Split(column, "__")
		fields := strings.Split(path, ".")
		if names[len(names)-1] != fields[len(fields)-1] {
			return false
		}
		for _, field := range fields {
			if len(names) > 0 && names[0] == field {
				names = names[1:]
			}
		}
		return len(names) == 0
	})
}

// TestTrinoEvents: the seed's events have none but the fields of Trino's.
func TestTrinoEvents(t *testing.T) {
	t.Parallel()
	rows := rowsOfSeed(t, seedFolder+"/seed_trino_events.csv")
	if len(rows) < 2 {
		t.Fatal("there are no events")
	}
	check := func(of string, event map[string]json.RawMessage) {
		for name := range event {
			if !slices.Contains(strings.Fields(trinoEvent[of]), name) {
				t.Errorf("an event of Trino's has no field %q in %q", name, of)
			}
		}
	}
	for _, row := range rows[1:] {
		var event map[string]json.RawMessage
		if err := json.Unmarshal([]byte(row[0]), &event); err != nil {
			t.Fatal(err)
		}
		check("", event)
		for _, part := range []string{"context", "metadata"} {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(event[part], &fields); err != nil {
				t.Fatal(err)
			}
			check(part, fields)
		}
	}
}

func header(t *testing.T, path string) []string {
	t.Helper()
	return rowsOfSeed(t, path)[0]
}

func rowsOfSeed(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return rows
}
