//go:build e2e && linux && amd64

package dbtpackage

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// tables are those that the vendors document for their logs, as far as the package reads them: PostgreSQL's csvlog,
// Trino's HTTP event listener, ClickHouse's session_log and query_log.
// https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
const tables = `create schema audit; create table audit.postgres_log (
  log_time timestamp(3) with time zone, user_name text, database_name text, process_id integer, connection_from text,
  session_id text, session_line_num bigint, command_tag text, session_start_time timestamp with time zone,
  virtual_transaction_id text, transaction_id bigint, error_severity text, sql_state_code text, message text,
  detail text, hint text, internal_query text, internal_query_pos integer, context text, query text, query_pos integer,
  location text, application_name text, backend_type text, leader_pid integer, query_id bigint,
  primary key (session_id, session_line_num));
create table audit.trino_events (event jsonb);
create table audit.session_log (type text, auth_id text, event_time_microseconds timestamp with time zone, "user" text,
  auth_type text, client_address text, interface text);
create table audit.query_log (type text, query_id text, event_time_microseconds timestamp with time zone, "user" text,
  query_kind text, query text);
create table audit.records_file (record jsonb); create table audit.records_bucket (record jsonb);
create table audit.records_collector (record jsonb)`

// trips is how many runs TestRoundTrip has.
func trips(t *testing.T) int {
	t.Helper()
	text := os.Getenv("OIDC_DBT_ROUND_TRIPS")
	if text == "" {
		return 15
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 15 || n%len(systems) != 0 {
		t.Fatalf("OIDC_DBT_ROUND_TRIPS is %q, want a multiple of %d from 15 on", text, len(systems))
	}
	return n
}

// A warehouse is a target of the policy and the log of its logins.
type warehouse struct{ target, log string }

var warehouses = []warehouse{{"pg", "postgres"}, {"trino", "trino"}, {"ch", "clickhouse"}}

// at is where a run logs in: each system logs in everywhere.
func at(run int) warehouse { return warehouses[run/len(systems)%len(warehouses)] }

// each runs one of the runs.
func (c *company) each(t *testing.T, run int) {
	t.Helper()
	c.run(t, systems[run%len(systems)], at(run).target, fmt.Sprint(16055869000+run))
}

// A finding is what the package says of a login that has no record.
type finding struct{ log, user, reason string }

// TestRoundTrip: runs of five CI systems log in to three warehouses with credentials of which the product keeps
// records, and ten logins have none. The records arrive by a collector, a bucket and the jobs' file alike, and the
// package finds these ten in the warehouses' own logs, by each of them.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c, n := newCompany(t), trips(t)
	c.each(t, 0) // logins before the first record are not looked at
	t.Run("runs", func(t *testing.T) {
		for i, s := range systems {
			t.Run(s.kind, func(t *testing.T) {
				t.Parallel()
				for run := i; run < n; run += len(systems) {
					if run > 0 {
						c.each(t, run)
					}
					if run/len(systems) == 2 && i == 0 { // this system has been everywhere, and others are there
						c.intrude(t)
					}
				}
			})
		}
	})

	all, shipped := c.inFile(t)
	if len(shipped) != 2*n {
		t.Fatalf("the file has %d records of %d runs, want a decision and an outcome of each", len(shipped), n)
	}
	bucket, collector := c.inBucket(t), c.atCollector(t, 2*n)
	if !slices.Equal(bucket, shipped) {
		t.Errorf("the bucket has other records (%d) than the file (%d)", len(bucket), len(shipped))
	}
	if !slices.Equal(collector, shipped) {
		t.Errorf("the collector has other records (%d) than the file (%d)", len(collector), len(shipped))
	}
	c.load(t, n, map[string][]string{"file": all, "bucket": bucket, "collector": collector})

	p := newProject(t, map[string]string{
		"OIDC_DBT_PORT": fmt.Sprint(c.postgres.Port), "OIDC_DBT_PASSWORD": c.postgres.Password,
	})
	for _, way := range setup.Few(1, "file", "bucket", "collector") { // all have the same records
		c.build(t, p, way)
		c.found(t, way)
		c.matched(t, n, way)
	}
}

// build builds the package with the records of one way; with those of the file, its tests run, too.
func (c *company) build(t *testing.T, p project, way string) {
	t.Helper()
	c.postgres.SQL(t, "create or replace view audit.oidc_dbt_records as select record from audit.records_"+way)
	command := []string{"run", "--select", "+oidc_dbt__unmatched_logins", "+oidc_dbt__fleet"}
	if way == "file" {
		command = []string{"build", "--select", "package:oidc_dbt_audit", "--exclude", "package:oidc_dbt_integration",
			"--indirect-selection", "cautious"}
	}
	p.dbt(t, append(command, "--target", "postgres", "--vars", "{oidc_dbt_logs: [postgres, trino, clickhouse], "+
		"oidc_dbt_users: {pg: v-jwt-*}, oidc_dbt_watched: [dbt_old], oidc_dbt_delay_minutes: 0, "+
		"oidc_dbt_inventory: null, oidc_dbt_reviews: null}")...)
}

// found holds what the package finds to the ten logins.
func (c *company) found(t *testing.T, way string) {
	t.Helper()
	got := map[finding]int{}
	rows := c.postgres.SQL(t, `select log_kind, regexp_replace(user_name, '^v-jwt-.*', 'v-jwt-*'), reason, login_id
from audit.oidc_dbt__unmatched_logins`)
	for _, row := range rows {
		got[finding{row[0], row[1], row[2]}]++
	}
	want := map[finding]int{
		{"postgres", "dbt_old", "no_credential"}: 2, {"postgres", "v-jwt-*", "no_credential"}: 2,
		{"trino", trinoUser, "no_run"}: stolen, {"clickhouse", clickHouseUser, "another_factor"}: stolen,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("by the %s, these logins have no record: %v\nwant %v\n%q", way, got, want, rows)
	}
}

// matched holds that every run has its login, and what the package says of the run.
func (c *company) matched(t *testing.T, n int, way string) {
	t.Helper()
	want := map[string]int{}
	for run := range n {
		want[at(run).log]++
	}
	rows := c.postgres.SQL(t, `select log_kind, count(distinct run_id), count(distinct login_id), count(*)
from audit.oidc_dbt__login_matches where factor_fits group by log_kind`)
	got := map[string]int{}
	for _, row := range rows {
		got[row[0]], _ = strconv.Atoi(row[1])
		// ClickHouse's client logs in several times, and of runs at the same time, a login's own is not known there.
		if row[0] != "clickhouse" && (row[2] != row[1] || row[3] != row[1]) {
			t.Errorf("by the %s, of the runs, logins and matches at %s: %q, want as many of each", way, row[0], row[1:])
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("by the %s, runs with a login: %v, want %v\n%q", way, got, want, rows)
	}
	rows = c.postgres.SQL(t, "select distinct repository, runs, is_migrated from audit.oidc_dbt__fleet")
	for _, s := range systems {
		want := []string{s.repository, fmt.Sprint(n / len(systems)), "t"}
		if !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, want) }) {
			t.Errorf("by the %s, the fleet is %q, want %q", way, rows, want)
		}
	}
	rows = c.postgres.SQL(t, `select stored_user, advice from audit.oidc_dbt__fleet
where repository = 'acme/analytics' order by 1`)
	const stored = "[[dbt_clickhouse still used] [dbt_trino still used] [v-jwt-* still used]]"
	if fmt.Sprint(rows) != stored {
		t.Errorf("by the %s, what is stored for a repository: %v, want %s", way, rows, stored)
	}
}

// stolen is how often a stolen token, and a stored password, is used at Trino and at ClickHouse.
const stolen = 3

// intrude logs in ten times without a record: with a stored password, or with what was stolen.
func (c *company) intrude(t *testing.T) {
	t.Helper()
	for range 2 {
		login(t, c.postgres, "dbt_old", "old-"+c.postgres.Password)
		user, password := c.steal(t)
		login(t, c.postgres, user, password)
	}
	for range stolen {
		if _, err := c.trino.Query(t.Context(), trinoUser, c.access("trino"), "select 1"); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.clickHouse+"/?query=select+1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(clickHouseUser, c.password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("ClickHouse: status %s", resp.Status)
		}
	}
}

// steal gets a login from OpenBao with a token of the issuer, without the product.
func (c *company) steal(t *testing.T) (user, password string) {
	t.Helper()
	token := map[string]string{"role": "dbt-prod", "jwt": c.issuers["github"].Sign(audience, nil)}
	reply, err := c.bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/login", token)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.bao.Request(t.Context(), reply.Auth.ClientToken, http.MethodGet, "database/creds/dbt-prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Username, Password string }
	if err := json.Unmarshal(lease.Data, &made); err != nil {
		t.Fatal(err)
	}
	return made.Username, made.Password
}

// login logs in once.
func login(t *testing.T, server *setup.PostgresServer, user, password string) {
	t.Helper()
	conn, err := server.Connect(t.Context(), user, password)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// copied is how the package's README loads a line of JSON as it is.
const copied = `copy audit.%s from '%s' with (format csv, quote e'\x01', delimiter e'\x02', on_error ignore)`

// load loads the records by each way, and the logs of the warehouses. PostgreSQL writes a line of its log, and Trino
// posts an event, after it has replied.
func (c *company) load(t *testing.T, n int, records map[string][]string) {
	t.Helper()
	folder := t.TempDir()
	for way, lines := range records {
		file := setup.Write(t, folder, way+".jsonl", strings.Join(lines, "\n")+"\n")
		c.postgres.SQL(t, fmt.Sprintf(copied, "records_"+way+" (record)", file))
	}
	c.postgres.SQL(t, fmt.Sprintf("copy audit.postgres_log from '%s' with (format csv)", c.postgresLog))
	events := setup.Write(t, folder, "events.jsonl", c.postedEvents(t, n))
	c.postgres.SQL(t, fmt.Sprintf(copied, "trino_events (event)", events))
	for table, columns := range map[string]string{
		"session_log": "'LoginSuccess', query_id, AT, USER, JSONExtractString(log_comment, 'auth_type'), '127.0.0.1', 'HTTP'",
		"query_log":   "type, query_id, AT, USER, query_kind, query",
	} {
		columns = strings.NewReplacer(
			"AT,", "concat(toString(toTimeZone(event_time_microseconds, 'UTC')), '+00'),",
			"USER,", "JSONExtractString(log_comment, 'user'),",
		).Replace(columns)
		rows := c.ask(t, "select "+columns+" from system.query_log where type = 'QueryStart' and log_comment != '' "+
			"and query_kind not in ('Set', 'Use') format CSV")
		file := setup.Write(t, folder, table+".csv", rows)
		c.postgres.SQL(t, fmt.Sprintf("copy audit.%s from '%s' with (format csv)", table, file))
	}
}

// postedEvents are those of Trino, once each of the queries of runs and thieves has ended.
func (c *company) postedEvents(t *testing.T, n int) string {
	t.Helper()
	queries := 1 + stolen // by which the start of the server was awaited
	for run := range n {
		if at(run).log == "trino" {
			queries++
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c.mu.Lock()
		text := strings.Join(c.events, "\n") + "\n"
		c.mu.Unlock()
		if strings.Count(text, `"queryState":"FINISHED"`) >= queries {
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute, Trino has not posted the ends of %d queries:\n%s", queries, text)
		}
	}
}

// ask asks ClickHouse's engine, without a login.
func (c *company) ask(t *testing.T, query string) (reply string) {
	t.Helper()
	for _, sql := range []string{"system flush logs", query} {
		resp, err := http.Post(c.engine, "text/plain", strings.NewReader(sql))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v: %s", sql, resp.Status, err, text)
		}
		reply = string(text)
	}
	return reply
}
