package broker_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// limited has a broker ask a guard with limits and the policy's own roles.
func limited(d statement.Dialect, observe bool, roles ...string) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Guard = guard.New(guard.Config{Dialect: d, Statements: guard.Build, Where: `target "prod"`, Text: true,
			Limits: guard.Limits{StatementTimeout: 30 * time.Minute, Scan: 5e11}, Roles: roles, Observe: observe})
	}
}

// changes is what a guard has against a statement of a class that it admits.
func changes(head, setting string) string {
	return `not allowed by the guard of target "prod": ` + head + " at byte 0 changes " + setting + ", and the guard's `limits` are fixed (see docs/guardrails.md)"
}

// chooses is what a guard has against a role.
func chooses(head string) string {
	return strings.NewReplacer("GRANT at", head+" at", "class grant", "class admin").Replace(noGrant)
}

func TestPostgresLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, parameters string
		observe          bool
		timeout, role    string
		err              string
	}{
		{name: "none of its own", timeout: "1800000"},
		{name: "its own", parameters: "statement_timeout=0", timeout: "1800000"},
		{name: "in another case", parameters: "Statement_Timeout=0", timeout: "1800000"},
		{name: "an option, which the parameter overrides", parameters: "options='-c statement_timeout=0'", timeout: "1800000"},
		{name: "observing", parameters: "statement_timeout=0", observe: true, timeout: "0"},
		{name: "the policy's role", parameters: "role=builder", timeout: "1800000", role: "builder"},
		{name: "another role", parameters: "role=Builder", err: chooses("SET ROLE")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, cleartext, "127.0.0.1")
			b := start(t, pgRoute(server), pgCredential, limited(statement.Postgres, tt.observe, "builder"))
			conn, err := pgConnect(t, b, tt.parameters)
			if tt.err != "" {
				if got, want := pgError(err), "FATAL 42501: oidc-dbt: "+tt.err; got != want {
					t.Errorf("error is %s, want %s", got, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			server.mu.Lock()
			for s := range maps.Values(server.sessions) {
				got := s.startup.Parameters
				if got["statement_timeout"] != tt.timeout || got["Statement_Timeout"] != "" || got["role"] != tt.role {
					t.Errorf("the server got %q", got)
				}
			}
			server.mu.Unlock()
			if tt.observe {
				return
			}
			_, err = conn.Exec(t.Context(), "set statement_timeout = 0").ReadAll()
			if got, want := pgError(err), "FATAL 42501: oidc-dbt: "+changes("SET statement_timeout", "statement_timeout"); got != want {
				t.Errorf("error is %s, want %s", got, want)
			}
		})
	}
}

func TestTrinoLimits(t *testing.T) {
	t.Parallel()
	const fixed = "query_max_run_time=1800s,query_max_scan_physical_bytes=500000000000B"
	for _, tt := range []struct {
		name, sql string
		header    http.Header
		observe   bool
		session   string // that Trino gets
		message   string
	}{
		{name: "none of its own", session: fixed},
		{name: "others of its own", header: http.Header{"X-Trino-Session": {"a=1", "hive.b=x%2Cy, c=2"}}, session: "a=1,hive.b=x%2Cy,c=2," + fixed},
		{name: "its own", header: http.Header{"X-Trino-Session": {"query_max_run_time=9h,a=1", " Query_Max_Scan_Physical_Bytes =9PB"}}, session: "a=1," + fixed},
		{name: "its own, encoded", header: http.Header{"X-Trino-Session": {"query%5Fmax_run_time=9h"}}, session: fixed},
		{name: "observing", header: http.Header{"X-Trino-Session": {"query_max_run_time=9h"}}, observe: true, session: "query_max_run_time=9h"},
		{name: "SET SESSION", sql: "set session query_max_run_time = '9h'", message: changes("SET SESSION", "query_max_run_time")},
		{name: "RESET SESSION", sql: "reset session query_max_scan_physical_bytes", message: changes("RESET SESSION", "query_max_scan_physical_bytes")},
		{name: "another property", sql: "set session join_distribution_type = 'x'", session: fixed},
		{name: "the policy's role", header: http.Header{"X-Trino-Role": {"hive=ROLE%7Bbuilder%7D, system=NONE"}}, session: fixed},
		{name: "names that Trino would trim", header: http.Header{"X-Trino-Session": {"\xa0query_max_run_time=9h,query_max_run_time\xa0=9h,a=1,%C2%A0query_max_run_time=9h"}}, session: "a=1," + fixed},
		{name: "all roles of the policy's catalog", header: http.Header{"X-Trino-Role": {"hive=ALL"}}, message: chooses("SET ROLE")},
		{name: "the role of another catalog", header: http.Header{"X-Trino-Role": {"system=ROLE%7Bbuilder%7D"}}, message: chooses("SET ROLE")},
		{name: "another role next to it", header: http.Header{"X-Trino-Role": {"hive=ROLE%7Bbuilder%7D", "hive=ROLE%7Badmin%7D"}}, message: chooses("SET ROLE")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				got <- strings.Join(r.Header.Values("X-Trino-Session"), "; ")
				_, _ = io.WriteString(w, `{"id":"q"}`)
			}, limited(statement.Trino, tt.observe, "hive=builder"))
			if tt.sql == "" {
				tt.sql = "select 1"
			}
			req, err := http.NewRequest(http.MethodPost, "https://"+address(b)+"/v1/statement", strings.NewReader(tt.sql))
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(req.Header, tt.header)
			req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
			resp, err := trusting(t, b).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var reply struct{ Error struct{ Message string } }
			if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
				t.Fatal(err)
			}
			if tt.message != "" {
				if reply.Error.Message != "oidc-dbt: "+tt.message || len(got) > 0 {
					t.Errorf("the error is %q, want %q", reply.Error.Message, tt.message)
				}
				return
			}
			if reply.Error.Message != "" {
				t.Fatal(reply.Error.Message)
			}
			if session := <-got; session != tt.session {
				t.Errorf("Trino got %s, want %s", session, tt.session)
			}
		})
	}
}

func TestClickHouseLimits(t *testing.T) {
	t.Parallel()
	fixed := url.Values{"max_execution_time": {"1800"}, "max_bytes_to_read": {"500000000000"}}
	with := func(more url.Values) url.Values {
		more = maps.Clone(more)
		maps.Copy(more, fixed)
		return more
	}
	for _, tt := range []struct {
		name, query, sql string
		observe          bool
		values           url.Values // that ClickHouse gets
		message          string
	}{
		{name: "none of its own", values: fixed},
		{name: "its own", query: "max_execution_time=0&max_threads=1&max_execution_time=9&MAX_BYTES_TO_READ=0", values: with(url.Values{"max_threads": {"1"}})},
		{name: "what the driver asks for", query: "query=SELECT+name,+value,+readonly+FROM+system.settings+LIMIT+10000&max_bytes_to_read=1",
			values: with(url.Values{"query": {"SELECT name, value, readonly FROM system.settings LIMIT 10000"}})},
		{name: "observing", query: "max_execution_time=9", observe: true, values: url.Values{"max_execution_time": {"9"}}},
		{name: "a clause", sql: "select 1 settings max_execution_time = 0", message: changes("SELECT", "max_execution_time")},
		{name: "SET", sql: "set max_execution_time = 0", message: changes("SET", "max_execution_time")},
		{name: "SET of what no session may", sql: "set max_bytes_to_read = 0", message: chooses("SET")},
		{name: "another setting", sql: "select 1 settings max_threads = 1", values: fixed},
		{name: "a profile of settings", query: "profile=default", message: chooses("SET")},
		{name: "the policy's role", query: "role=builder", values: with(url.Values{"role": {"builder"}})},
		{name: "another role", query: "role=builder&role=admin", message: chooses("SET ROLE")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan url.Values, 1)
			server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				values := r.URL.Query()
				values.Del("query_id")
				got <- values
			}))
			t.Cleanup(server.Close)
			b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}, limited(statement.ClickHouse, tt.observe, "builder"))
			if tt.sql == "" && !strings.Contains(tt.query, "query=") {
				tt.sql = "select 1"
			}
			status, body := askByBearer(t, b, http.MethodPost, "/?password=&"+tt.query, tt.sql)
			if tt.message != "" {
				if want := "Code: 497. DB::Exception: oidc-dbt: " + tt.message + ". (ACCESS_DENIED)\n"; status != 403 || body != want || len(got) > 0 {
					t.Errorf("status %d, %s, want %s", status, body, want)
				}
				return
			}
			if status != 200 {
				t.Fatalf("status %d, %s", status, body)
			}
			if diff := cmp.Diff(tt.values, <-got); diff != "" {
				t.Errorf("ClickHouse got (-want +got)\n%s", diff)
			}
		})
	}
}

func TestSnowflakeLimits(t *testing.T) {
	t.Parallel()
	const key = "a login with a key that is not known"
	for _, tt := range []struct {
		name, query, parameters string
		keys, outer             string // of the body, also outside of data
		observe                 bool
		roles                   []string
		login, sent             string // what Snowflake gets of both
		message                 string
	}{
		{name: "none of its own", sent: `{"STATEMENT_TIMEOUT_IN_SECONDS":1800}`},
		{name: "null", parameters: `null`, sent: `{"STATEMENT_TIMEOUT_IN_SECONDS":1800}`},
		{name: "a list", parameters: `[1]`, sent: `{"STATEMENT_TIMEOUT_IN_SECONDS":1800}`},
		{name: "its own", parameters: `{"QUERY_TAG":"t","WEEK_START":1,"Statement_Timeout_In_Seconds":0}`, sent: `{"QUERY_TAG":"t","STATEMENT_TIMEOUT_IN_SECONDS":1800,"WEEK_START":1}`},
		{name: "observing", parameters: `{"STATEMENT_TIMEOUT_IN_SECONDS":0}`, observe: true, sent: `{"STATEMENT_TIMEOUT_IN_SECONDS":0}`},
		{name: "the policy's role", query: "roleName=transformer", roles: []string{"TRANSFORMER"}, login: "roleName=transformer"},
		{name: "the policy's role, left out", query: "warehouse=W", roles: []string{"TRANSFORMER"}, login: "roleName=%22TRANSFORMER%22&warehouse=W"},
		{name: "the policy's role, empty", query: "roleName=", roles: []string{`Tr"x`}, login: "roleName=%22Tr%22%22x%22"},
		{name: "one of two", query: "roleName=B", roles: []string{"A", "B"}, login: "roleName=B"},
		{name: "none of two", query: "warehouse=W", roles: []string{"A", "B"}, login: "warehouse=W"},
		{name: "another role", query: "roleName=accountadmin", roles: []string{"TRANSFORMER"}, message: chooses("USE ROLE")},
		{name: "the policy's role, with quotes around nothing", query: "roleName=%22%22", roles: []string{"TRANSFORMER"}, login: "roleName=%22TRANSFORMER%22"},
		{name: "two roles", query: "roleName=&roleName=TRANSFORMER", roles: []string{"TRANSFORMER"}, message: refused("parameters of a login that cannot be read")},
		{name: "a role in another spelling", query: "roleName=TRANSFORMER&ROLENAME=accountadmin", roles: []string{"TRANSFORMER"}, message: refused(key)},
		{name: "a role by another name", query: "role=accountadmin", message: refused(key)},
		{name: "secondary roles by the URL", query: "secondaryRoles=ALL", message: refused(key)},
		{name: "what drivers send", query: "request_id=1&databaseName=D&schemaName=S&warehouse=W&request_guid=2&requestId=3&clientStartTime=4&retryCount=1&retryReason=5", login: "clientStartTime=4&databaseName=D&requestId=3&request_guid=2&request_id=1&retryCount=1&retryReason=5&schemaName=S&warehouse=W"},
		{name: "a role in the body", keys: `"roleName": "accountadmin", `, message: refused(key)},
		{name: "a role in capitals in the body", keys: `"ROLE": "accountadmin", `, message: refused(key)},
		{name: "parameters in another spelling", keys: `"Session_Parameters": {"STATEMENT_TIMEOUT_IN_SECONDS": 0}, `, message: refused(key)},
		{name: "a key next to data", outer: `"roleName": "accountadmin", `, message: refused(key)},
		{name: "all secondary roles", keys: `"SECONDARY_ROLES": "ALL", `, message: chooses("USE SECONDARY ROLES")},
		{name: "no secondary roles", keys: `"SECONDARY_ROLES": "NONE", `, sent: `{"STATEMENT_TIMEOUT_IN_SECONDS":1800}`},
		{name: "secondary roles that are none", keys: `"SECONDARY_ROLES": ["ALL"], `, message: refused("a role that is not understood")},
		{name: "a parameter that SQL may not set", parameters: `{"LOG_LEVEL":"OFF"}`, message: chooses("ALTER SESSION")},
		{name: "a parameter that is not understood", parameters: `{"A B":"OFF"}`, message: refused("a parameter that is not understood")},
		{name: "unknown keys, observing", query: "role=x", keys: `"ROLE": "x", `, observe: true, login: "role=x"},
		{name: "a role that the policy does not name", query: "roleName=transformer", message: chooses("USE ROLE")},
		{name: "another role, observing", query: "roleName=x", roles: []string{"TRANSFORMER"}, observe: true, login: "roleName=x"},
		{name: "parameters that are none", query: "a;b=c", message: refused("parameters of a login that cannot be read")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			account, r := startSnowflake(t)
			b := start(t, r, idToken, limited(statement.Snowflake, tt.observe, tt.roles...))
			body := strings.Replace(loginBody(b.Address().Secret.Reveal()), `, "SESSION_PARAMETERS": {"QUERY_TAG": "t", "CLIENT_N": 1.50}`, "", 1)
			if tt.parameters != "" {
				body = strings.Replace(body, `"AUTHENTICATOR"`, `"SESSION_PARAMETERS": `+tt.parameters+`, "AUTHENTICATOR"`, 1)
			}
			body = strings.Replace(body, `"AUTHENTICATOR"`, tt.keys+`"AUTHENTICATOR"`, 1)
			body = strings.Replace(body, `"data"`, tt.outer+`"data"`, 1)
			_, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request?"+tt.query, "", []byte(body))
			if tt.message != "" {
				if reply.Success || reply.Message != "oidc-dbt: "+tt.message || len(account.bodies) > 0 {
					t.Errorf("reply is %+v, want %s", reply, tt.message)
				}
				return
			}
			if !reply.Success {
				t.Fatalf("%+v", reply)
			}
			var sent struct{ Data map[string]json.RawMessage }
			if err := json.Unmarshal([]byte(account.bodies[0]), &sent); err != nil {
				t.Fatal(err)
			}
			if tt.sent != "" && string(sent.Data["SESSION_PARAMETERS"]) != tt.sent {
				t.Errorf("Snowflake got %s, want %s", sent.Data["SESSION_PARAMETERS"], tt.sent)
			}
			_, line, _ := strings.Cut(account.requests[0], "?")
			if line, _, _ = strings.Cut(line, " "); tt.query != "" && line != tt.login {
				t.Errorf("Snowflake got %s, want %s", account.requests[0], tt.login)
			}
		})
	}
}

// TestSnowflakeLimitsOfAStatement: a request's own parameters change no limit.
func TestSnowflakeLimitsOfAStatement(t *testing.T) {
	t.Parallel()
	_, r := startSnowflake(t)
	b := start(t, r, idToken, limited(statement.Snowflake, false))
	session, _ := logIn(t, b)
	for _, name := range []string{"STATEMENT_TIMEOUT_IN_SECONDS", "statement_timeout_in_seconds"} {
		_, reply := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request?requestId=1", session,
			[]byte(`{"sqlText":"select 1","parameters":{"`+name+`":0}}`))
		if want := "oidc-dbt: " + changes("ALTER SESSION SET", strings.ToLower(name)); reply.Success || reply.Message != want {
			t.Errorf("reply is %+v, want %s", reply, want)
		}
	}
}

func TestTrinoUser(t *testing.T) {
	t.Parallel()
	other := chooses("SET SESSION AUTHORIZATION")
	for _, tt := range []struct {
		name, message string
		users, header []string
		observe       bool
		user          string // that Trino gets
	}{
		{name: "the policy's", users: []string{"dbt"}, header: []string{"dbt"}, user: "dbt"},
		{name: "the policy's, left out", users: []string{"dbt"}, user: "dbt"},
		{name: "the policy's, empty", users: []string{"dbt"}, header: []string{""}, user: "dbt"},
		{name: "another", users: []string{"dbt"}, header: []string{"admin"}, message: other},
		{name: "another, observing", users: []string{"dbt"}, header: []string{"admin"}, observe: true, user: "admin"},
		{name: "both", users: []string{"dbt"}, header: []string{"dbt", "admin"},
			message: refused("a header that Trino's clients do not send")},
		{name: "one of two", users: []string{"a", "dbt"}, header: []string{"dbt"}, user: "dbt"},
		{name: "none of two", users: []string{"a", "dbt"}},
		{name: "one that the policy does not name", header: []string{"dbt"}, message: other},
		{name: "none", user: ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			config := guard.Config{Dialect: statement.Trino, Statements: guard.Build, Where: `target "prod"`, Users: tt.users, Observe: tt.observe}
			b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				got <- strings.Join(r.Header.Values("X-Trino-User"), "; ")
				_, _ = io.WriteString(w, `{"id":"q"}`)
			}, func(c *broker.Config) { c.Guard = guard.New(config) })
			req, err := http.NewRequest(http.MethodPost, "https://"+address(b)+"/v1/statement", strings.NewReader("select 1"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header["X-Trino-User"] = tt.header
			req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
			resp, err := trusting(t, b).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var reply struct{ Error struct{ Message string } }
			if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.message != "" {
				want = "oidc-dbt: " + tt.message
			}
			if reply.Error.Message != want {
				t.Fatalf("the error is %q, want %q", reply.Error.Message, want)
			}
			if tt.message != "" && len(got) > 0 {
				t.Error("Trino was asked")
			}
			if tt.message == "" {
				if user := <-got; user != tt.user {
					t.Errorf("Trino got %q, want %q", user, tt.user)
				}
			}
		})
	}
}
