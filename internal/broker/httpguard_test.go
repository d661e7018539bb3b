package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// refused is the message of a guard that does not read what came.
func refused(why string) string {
	return `not allowed by the guard of target "prod": the statement at byte 0 is of class unknown (` + why +
		"), and `statements: build` admits read, session, write and define (see docs/guardrails.md)"
}

const noGrant = `not allowed by the guard of target "prod": GRANT at byte 0 is of class grant, and ` +
	"`statements: build` admits read, session, write and define (see docs/guardrails.md)"

func TestSnowflakeGuard(t *testing.T) {
	t.Parallel()
	const query = "/queries/v1/query-request?requestId=1"
	const invalid, driver = "a request that is not valid JSON", "a request that Snowflake's drivers do not send"
	const parameter = "a parameter that is not understood"
	for _, tt := range []struct {
		name, method, target, body string
		packed                     bool
		header                     []string
		texts                      []string
		message                    string
	}{
		{name: "a statement", body: `{"sqlText":"select 1","asyncExec":false,"sequenceId":1,"querySubmissionTime":2,"queryContextDTO":{"entries":[]}}`, texts: []string{"select 1"}},
		{name: "gzip", body: `{"sqlText":"select 1"}`, packed: true, texts: []string{"select 1"}},
		{name: "several", body: `{"sqlText":"select 1; insert into t select 2","parameters":{"MULTI_STATEMENT_COUNT":0}}`, texts: []string{"select 1; insert into t select 2"}},
		{name: "bindings", body: `{"sqlText":"select ?","bindings":{"1":{"type":"TEXT","value":"grant x"}}}`, texts: []string{"select ?"}},
		{name: "no data frame", body: `{"sqlText":"select 1","dataframeAst":""}`, texts: []string{"select 1"}},
		{name: "escapes", body: `{"sqlText":"\u0067rant role admin to user x"}`, packed: true, texts: []string{"grant role admin to user x"}, message: noGrant},
		{name: "several with one", body: `{"sqlText":"select 1; grant role admin to user x"}`, texts: []string{"select 1; grant role admin to user x"}, message: strings.Replace(noGrant, "byte 0", "byte 10", 1)},
		{name: "a data frame", body: `{"sqlText":"","dataframeAst":"CgQ="}`, texts: []string{"? a query that is not SQL (dataframeAst)"}, message: refused("a query that is not SQL (dataframeAst)")},
		{name: "two texts", body: `{"sqlText":"grant x","sqlText":"select 1"}`, texts: []string{"? a request with a key that comes twice"}, message: refused("a request with a key that comes twice")},
		{name: "a text in another case", body: `{"sqlText":"grant x","SQLTEXT":"select 1"}`, texts: []string{"? a request with a key that is not known"}, message: refused("a request with a key that is not known")},
		{name: "no text", body: `{"asyncExec":false}`, texts: []string{"? a request without SQL text"}, message: refused("a request without SQL text")},
		{name: "a text that is none", body: `{"sqlText":["grant x"]}`, texts: []string{"? a request without SQL text"}, message: refused("a request without SQL text")},
		{name: "null", body: `{"sqlText":null}`, texts: []string{"? a request without SQL text"}, message: refused("a request without SQL text")},
		{name: "a list", body: `[{"sqlText":"select 1"}]`, texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "two objects", body: `{"sqlText":"select 1"}{"sqlText":"grant x"}`, texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "half", body: `{"sqlText":"select 1"`, texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "nothing", body: ``, texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "not UTF-8", body: "{\"sqlText\":\"select \xc0\xa7\"}", texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "not gzip", body: `{"sqlText":"select 1"}`, header: []string{"Content-Encoding", "gzip"}, texts: []string{"? a body that is not in gzip"}, message: refused("a body that is not in gzip")},
		{name: "another encoding", body: `{"sqlText":"select 1"}`, header: []string{"Content-Encoding", "br"}, texts: []string{"? a content encoding that is not gzip"}, message: refused("a content encoding that is not gzip")},
		{name: "a bomb", body: `{"sqlText":"` + strings.Repeat("x", 16<<20) + `"}`, packed: true, texts: []string{"? a text larger than 16777216 bytes"}, message: refused("a text larger than 16777216 bytes")},
		{name: "a parameter that is settled", body: `{"sqlText":"select 1","parameters":{"QUERY_TAG":"a","Timezone":"UTC","CLIENT_PREFETCH_THREADS":4,"GO_QUERY_RESULT_FORMAT":"json"}}`, texts: []string{"select 1"}},
		{name: "no parameters", body: `{"sqlText":"select 1","parameters":null}`, texts: []string{"select 1"}},
		{name: "a parameter", body: `{"sqlText":"select 1","parameters":{"WEEK_START":1,"DATE_INPUT_FORMAT":"it's \\"}}`, texts: []string{`ALTER SESSION SET DATE_INPUT_FORMAT = 'it''s \\'`, "ALTER SESSION SET WEEK_START = 1", "select 1"}},
		{name: "a parameter that SQL may not set", body: `{"sqlText":"select 1","parameters":{"LOG_LEVEL":"OFF"}}`, texts: []string{"ALTER SESSION SET LOG_LEVEL = 'OFF'"}, message: chooses("ALTER SESSION")},
		{name: "a parameter that has another in it", body: `{"sqlText":"select 1","parameters":{"TIMEZONE = 'UTC', LOG_LEVEL":"OFF"}}`, texts: []string{"? " + parameter}, message: refused(parameter)},
		{name: "a parameter that is an object", body: `{"sqlText":"select 1","parameters":{"LOG_LEVEL":{}}}`, texts: []string{"? " + parameter}, message: refused(parameter)},
		{name: "a parameter that is null", body: `{"sqlText":"select 1","parameters":{"LOG_LEVEL":null}}`, texts: []string{"? " + parameter}, message: refused(parameter)},
		{name: "a parameter twice", body: `{"sqlText":"select 1","parameters":{"QUERY_TAG":1,"QUERY_TAG":2}}`, texts: []string{"? a request with a key that comes twice"}, message: refused("a request with a key that comes twice")},
		{name: "parameters that are none", body: `{"sqlText":"select 1","parameters":["LOG_LEVEL"]}`, texts: []string{"? " + invalid}, message: refused(invalid)},
		{name: "abort", target: "/queries/v1/abort-request?requestId=2", body: `{"sqlText":"","requestId":"1"}`},
		{name: "abort by id", target: "/queries/01b2/abort-request", body: `{}`},
		{name: "heartbeat", target: "/session/heartbeat?requestId=3"},
		{name: "the end", target: "/session?delete=true"},
		{name: "telemetry", target: "/telemetry/send", body: "{}"},
		{name: "a result", method: "GET", target: "/queries/01b2/result"},
		{name: "what became of it", method: "GET", target: "/monitoring/queries/01b2"},
		{name: "the SQL API", target: "/api/v2/statements", body: `{"statement":"grant x"}`, texts: []string{"? " + driver}, message: refused(driver)},
		{name: "a statement by PUT", method: "PUT", target: query, body: `{"sqlText":"grant x"}`, texts: []string{"? " + driver}, message: refused(driver)},
		{name: "another path to it", target: "/queries//v1/query-request", body: `{"sqlText":"grant x"}`, texts: []string{"? " + driver}, message: refused(driver)},
		{name: "with a slash", target: "/queries/v1/query-request/", body: `{"sqlText":"grant x"}`, texts: []string{"? " + driver}, message: refused(driver)},
		{name: "escaped", target: "/queries/v1%2Fquery-request", body: `{"sqlText":"grant x"}`, texts: []string{"? " + driver}, message: refused(driver)},
		{name: "tried again", target: "/queries/01b2/retry", texts: []string{"? " + driver}, message: refused(driver)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, r := startSnowflake(t)
			w := &witness{}
			b := start(t, r, idToken, guards(w, statement.Snowflake, guard.Build))
			session, _ := logIn(t, b)
			if tt.target == "" {
				tt.target = query
			}
			if tt.method == "" {
				tt.method = http.MethodPost
			}
			body, header := []byte(tt.body), tt.header
			if tt.packed {
				body, header = pack(t, tt.body), []string{"Content-Encoding", "gzip"}
			}
			status, reply := askSnowflake(t, b, tt.method, tt.target, session, body, header...)
			if diff := cmp.Diff(tt.texts, w.texts()); diff != "" && len(tt.body) < 1000 {
				t.Errorf("decided on (-want +got)\n%s", diff)
			}
			if tt.message == "" {
				if status != 200 || !reply.Success || !tt.packed && !strings.HasSuffix(reply.Echo, "body="+tt.body) {
					t.Errorf("status %d, %+v", status, reply)
				}
				return
			}
			if status != 200 || reply.Success || reply.Code != "003001" || reply.Message != "oidc-dbt: "+tt.message || reply.Data["sqlState"] != "42501" {
				t.Errorf("status %d, %+v, want %s", status, reply, tt.message)
			}
		})
	}
}

// TestSnowflakeGuardSession: the records name Snowflake's session, also after
// its renewal; who has no session is not asked about statements.
func TestSnowflakeGuardSession(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/session/v1/login-request":
			_, _ = io.WriteString(w, `{"success":true,"data":{"token":"t1","masterToken":"m1","sessionId":9223372036854775807}}`)
		case "/session/token-request":
			_, _ = io.WriteString(w, `{"success":true,"data":{"sessionToken":"t2","masterToken":"m2","sessionId":42}}`)
		default:
			_, _ = io.WriteString(w, `{"success":true,"data":{}}`)
		}
	}))
	t.Cleanup(server.Close)
	u := upstreamOf(t, server)
	u.Account = "acme-prod"
	w := &witness{}
	b := start(t, route.Route{Kind: route.Snowflake, Upstream: u}, idToken, guards(w, statement.Snowflake, guard.Read))
	ask := func(token string) snowflakeReply {
		_, reply := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request?requestId=1", fmt.Sprintf("Snowflake Token=%q", token), []byte(`{"sqlText":"select 1"}`))
		return reply
	}
	logIn(t, b)
	ask("t1")
	askSnowflake(t, b, http.MethodPost, "/session/token-request?requestId=1", `Snowflake Token="m1"`, []byte(`{}`))
	ask("t2")
	if reply := ask("t3"); reply.Success {
		t.Errorf("a foreign session: %+v", reply)
	}
	var sessions []string
	for _, e := range w.recorded() {
		sessions = append(sessions, e.Session)
	}
	if got := fmt.Sprint(sessions); got != "[9223372036854775807 42]" {
		t.Errorf("sessions are %s", got)
	}
}

func TestTrinoGuard(t *testing.T) {
	t.Parallel()
	prepared := func(entries ...string) []string {
		var all []string
		for i := 0; i < len(entries); i += 2 {
			all = append(all, url.QueryEscape(entries[i])+"="+url.QueryEscape(entries[i+1]))
		}
		return []string{"X-Trino-Prepared-Statement", strings.Join(all, ",")}
	}
	const execute = `not allowed by the guard of target "prod": EXECUTE at byte 0 is of class run, and ` +
		"`statements: build` admits read, session, write and define (see docs/guardrails.md)"
	const role = `not allowed by the guard of target "prod": SET ROLE at byte 0 is of class admin, and ` +
		"`statements: build` admits read, session, write and define (see docs/guardrails.md)"
	const unread = "a role that is not understood"
	for _, tt := range []struct {
		name, sql string
		header    []string
		texts     []string
		message   string
	}{
		{name: "a statement", sql: "select 'é'"},
		{name: "another", sql: "grant select on t to user x", message: noGrant},
		{name: "the driver's probe", sql: "EXECUTE IMMEDIATE 'SELECT 1'"},
		{name: "immediate", sql: "EXECUTE IMMEDIATE 'grant select on t to user x' USING 1", message: noGrant},
		{name: "prepared", sql: "EXECUTE st_1 USING 1,'a'", header: prepared("other", "grant x", "st_1", "select ?, ?"), texts: []string{"select ?, ?"}},
		{name: "prepared, with quotes", sql: `execute "S t"`, header: prepared("s t", "select 1"), texts: []string{"select 1"}},
		{name: "prepared with what is denied", sql: "EXECUTE st_1", header: prepared("st_1", "grant select on t to user x"), texts: []string{"grant select on t to user x"}, message: noGrant},
		{name: "not prepared", sql: "EXECUTE st_1", message: execute},
		{name: "prepared under another name", sql: "EXECUTE st_1", header: prepared("st_2", "select 1"), message: execute},
		{name: "prepared twice", sql: "EXECUTE st_1", header: prepared("st_1", "select 1", "ST_1", "grant x"), message: execute},
		{name: "prepared by a header that is not valid", sql: "EXECUTE st_1", header: []string{"X-Trino-Prepared-Statement", "st_1=select%ZZ"}, message: execute},
		{name: "values that are more", sql: "EXECUTE st_1 USING 1; grant x", header: prepared("st_1", "select ?"), message: execute},
		{name: "a role", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE%7Badmin%7D"}, texts: []string{`SET ROLE "admin"`}, message: role},
		{name: "no role", sql: "select 1", header: []string{"X-Trino-Role", "system=NONE, hive=NONE"}},
		{name: "all roles", sql: "select 1", header: []string{"X-Trino-Role", "hive=NONE,system=ALL"}, texts: []string{"SET ROLE ALL"}, message: role},
		{name: "a role behind a space", sql: "select 1", header: []string{"X-Trino-Role", "system= ROLE{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role behind an escaped space", sql: "select 1", header: []string{"X-Trino-Role", "system=%20ROLE%7Badmin%7D"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role behind a space that does not break", sql: "select 1", header: []string{"X-Trino-Role", "system=\xa0ROLE{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role behind another", sql: "select 1", header: []string{"X-Trino-Role", "system=%C2%A0ROLE{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role in small letters", sql: "select 1", header: []string{"X-Trino-Role", "system=role{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role with more behind it", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE{admin}x"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role of no catalog", sql: "select 1", header: []string{"X-Trino-Role", "ROLE{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role of a catalog with a space", sql: "select 1", header: []string{"X-Trino-Role", "system =ROLE{admin}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role without a name", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE{}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role alone", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role not UTF-8", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE{%ff}"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "a role in half an escape", sql: "select 1", header: []string{"X-Trino-Role", "system=ROLE%7"}, texts: []string{"? " + unread}, message: refused(unread)},
		{name: "prepared under two names for Trino", sql: "EXECUTE st_1", header: []string{"X-Trino-Prepared-Statement", "st_1=select+1,\xa0st_1=grant+x"}, message: execute},
		{name: "another's headers", sql: "select 1", header: []string{"X-Presto-Prepared-Statement", "x=y"}, texts: []string{"? a header that Trino's clients do not send"}, message: refused("a header that Trino's clients do not send")},
		{name: "another user", sql: "select 1", header: []string{"X-Trino-Original-User", "x"}, texts: []string{"? a header that Trino's clients do not send"}, message: refused("a header that Trino's clients do not send")},
		{name: "an encoding", sql: "select 1", header: []string{"Content-Encoding", "zstd"}, texts: []string{"? a content encoding that is not gzip"}, message: refused("a content encoding that is not gzip")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			w := &witness{}
			b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- string(body)
				_, _ = io.WriteString(w, `{"id":"q"}`)
			}, guards(w, statement.Trino, guard.Build))
			req, err := http.NewRequest(http.MethodPost, "https://"+address(b)+"/v1/statement", strings.NewReader(tt.sql))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
			for i := 0; i+1 < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			resp, err := trusting(t, b).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var reply struct {
				ID    string
				Error struct{ Message, ErrorName, ErrorType string }
			}
			if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("status %d, %v", resp.StatusCode, err)
			}
			if tt.texts == nil {
				tt.texts = []string{tt.sql}
			}
			if diff := cmp.Diff(tt.texts, w.texts()); diff != "" {
				t.Errorf("decided on (-want +got)\n%s", diff)
			}
			want := reply.Error
			want.Message, want.ErrorName, want.ErrorType = "oidc-dbt: "+tt.message, "PERMISSION_DENIED", "USER_ERROR"
			if tt.message == "" {
				want.Message, want.ErrorName, want.ErrorType = "", "", ""
				if sql := <-got; sql != tt.sql {
					t.Errorf("Trino got %q", sql)
				}
			} else if len(got) > 0 {
				t.Error("Trino was asked")
			}
			if reply.Error != want {
				t.Errorf("the error is %+v, want %+v", reply.Error, want)
			}
		})
	}
}

func TestClickHouseGuard(t *testing.T) {
	t.Parallel()
	const text = "Code: 497. DB::Exception: oidc-dbt: %s. (ACCESS_DENIED)\n"
	rows := strings.Repeat("1,'a;b\xff\x00\n", 2_000_000)
	of := func(level, s string) string {
		return strings.ReplaceAll(s, "`statements: build` admits read, session, write and define", "`statements: "+level+"` admits read and session")
	}
	for _, tt := range []struct {
		name, query, body string
		header            []string
		level             guard.Level
		packed            bool
		texts             []string
		readonly          string
		message           string
	}{
		{name: "in the body", body: "select 1"},
		{name: "in the parameter", query: "query=select+1", texts: []string{"select 1"}},
		{name: "in both", query: "query=select+1", body: "union all select 2", texts: []string{"select 1\nunion all select 2"}},
		{name: "packed", body: "select 1", packed: true, texts: []string{"select 1"}},
		{name: "denied", body: "grant select on t to x", message: noGrant},
		{name: "denied in the parameter", query: "query=grant+select+on+t+to+x", texts: []string{"grant select on t to x"}, message: noGrant},
		{name: "denied in both", query: "query=grant+select", body: " on t to x", texts: []string{"grant select\n on t to x"}, message: noGrant},
		{name: "data in the body", query: "query=insert+into+t+format+RowBinary", body: rows, texts: []string{"insert into t format RowBinary"}},
		{name: "data in the body that cannot be read", query: "query=insert+into+t+format+CSV", body: "x", header: []string{"Content-Encoding", "lz4"}, texts: []string{"insert into t format CSV"}},
		{name: "data behind the query", body: "insert into t (a, b) format CSV\n" + rows, texts: []string{("insert into t (a, b) format CSV\n" + rows)[:256<<10]}},
		{name: "a long query", body: "select '" + strings.Repeat("x", 16<<20) + "'", texts: []string{"? a text larger than 16777216 bytes"}, message: refused("a text larger than 16777216 bytes")},
		{name: "an INSERT that goes on", query: "query=insert+into+t", body: " select * from url('https://evil.example')", texts: []string{"insert into t\n select * from url('https://evil.example')"},
			message: strings.NewReplacer("GRANT at", "INSERT URL() at", "class grant", "class run").Replace(noGrant)},
		{name: "two", body: "select 1; grant select on t to x", message: strings.Replace(noGrant, "byte 0", "byte 10", 1)},
		{name: "a query in parts", query: "query=select&query=+1", texts: []string{"? a query in several parts"}, message: refused("a query in several parts")},
		{name: "a body in parts", query: "query=select+1", header: []string{"Content-Type", "Multipart/form-data; boundary=x"}, texts: []string{"? a body in several parts"}, message: refused("a body in several parts")},
		{name: "own compression", query: "decompress=1", body: "select 1", texts: []string{"? a body in ClickHouse's own compression"}, message: refused("a body in ClickHouse's own compression")},
		{name: "another compression", body: "select 1", header: []string{"Content-Encoding", "lz4"}, texts: []string{"? a content encoding that is not gzip"}, message: refused("a content encoding that is not gzip")},
		{name: "another dialect", query: "dialect=kusto", body: "select 1", texts: []string{"? a setting that changes the dialect"}, message: refused("a setting that changes the dialect")},
		{name: "a role", query: "role=admin", body: "select 1", texts: []string{"SET ROLE `admin`"}, message: strings.NewReplacer("GRANT at", "SET ROLE at", "class grant", "class admin").Replace(noGrant)},
		{name: "a role by another name", query: "ROLE=admin", body: "select 1", texts: []string{"? a parameter whose name has capital letters"}, message: refused("a parameter whose name has capital letters")},
		{name: "a value for the query", query: "param_Role=admin", body: "select {Role:String}"},
		{name: "read", body: "select 1", level: guard.Read, readonly: "1"},
		{name: "read, and its own", query: "readonly=0&readonly=2", body: "select 1", level: guard.Read, readonly: "1"},
		{name: "what the driver asks for", body: "SELECT name, value, readonly FROM system.settings LIMIT 10000\n FORMAT Native", level: guard.Read},
		{name: "nearly that", body: "SELECT name, value, readonly FROM system.settings LIMIT 10000 UNION ALL SELECT 1, 2, 3", level: guard.Read, readonly: "1"},
		{name: "build, and its own", query: "readonly=2", body: "select 1", readonly: "2"},
		{name: "read what writes", body: "insert into t select 1", level: guard.Read, message: of("read", strings.NewReplacer("GRANT at", "INSERT at", "class grant", "class write").Replace(noGrant))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got, readonly string
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got, readonly = "asked "+string(body), strings.Join(r.URL.Query()["readonly"], ",")
			}))
			t.Cleanup(server.Close)
			if tt.level == "" {
				tt.level = guard.Build
			}
			if tt.texts == nil {
				tt.texts = []string{tt.body}
			}
			w := &witness{}
			b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}, guards(w, statement.ClickHouse, tt.level))
			body := []byte(tt.body)
			if tt.packed {
				body = pack(t, tt.body)
			}
			req, err := http.NewRequest(http.MethodPost, "http://"+address(b)+"/?"+tt.query, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("dbt", b.Address().Secret.Reveal())
			if tt.packed {
				req.Header.Set("Content-Encoding", "gzip")
			}
			for i := 0; i+1 < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			reply, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if texts := w.texts(); fmt.Sprint(texts) != fmt.Sprint(tt.texts) {
				t.Errorf("decided on %.200q, want %.200q", texts, tt.texts)
			}
			if tt.message == "" {
				if resp.StatusCode != 200 || got != "asked "+string(body) || readonly != tt.readonly {
					t.Errorf("status %d, %s; the server got %.100q, readonly=%s", resp.StatusCode, reply, got, readonly)
				}
				return
			}
			if want := fmt.Sprintf(text, tt.message); resp.StatusCode != 403 || string(reply) != want || resp.Header.Get("X-ClickHouse-Exception-Code") != "497" || got != "" {
				t.Errorf("status %d, %s, want %s; the server was %s", resp.StatusCode, reply, want, got)
			}
		})
	}
}

// TestGuardsManySessions: as many as dbt may have, at once.
func TestGuardsManySessions(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	w := &witness{}
	b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}, guards(w, statement.ClickHouse, guard.Build))
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 10 {
				sql := "select '" + strings.Repeat("x", i*1000) + "'"
				if status, got := askByBearer(t, b, http.MethodPost, "/?password=", sql); status != 200 || got != sql {
					t.Errorf("status %d, %d bytes", status, len(got))
				}
				if status, _ := askByBearer(t, b, http.MethodPost, "/?password=", "grant x to y"); status != 403 {
					t.Errorf("status %d, want 403", status)
				}
			}
		})
	}
	all.Wait()
	if n := len(w.recorded()); n != 64*20 {
		t.Errorf("%d were decided on, want %d", n, 64*20)
	}
}

// TestHTTPHalt: what is running is cancelled at the warehouse, and each client
// is told why nothing goes on.
func TestHTTPHalt(t *testing.T) {
	t.Parallel()
	why := errors.New("the run was ended")
	t.Run("Snowflake", func(t *testing.T) {
		t.Parallel()
		house := newWarehouse()
		account, r := startSnowflake(t)
		account.Config.Handler = snowflakeAtWork(house, account.Config.Handler, false)
		b := start(t, r, idToken)
		session, _ := logIn(t, b)
		askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request?requestId=async", session, []byte(`{"sqlText":"call long()","asyncExec":true}`))
		var all sync.WaitGroup
		all.Go(func() {
			_, reply := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request?requestId=long1", session, []byte(`{"sqlText":"call long()","asyncExec":false}`))
			if reply.Code != "000604" && reply.Message != "oidc-dbt: "+why.Error() { // the account's words may come too late
				t.Errorf("the client is told %+v", reply)
			}
		})
		<-house.began
		b.Halt(why)
		house.check(t, "async by "+session, "long1 by "+session)
		all.Wait()
		for _, target := range []string{"/queries/v1/query-request?requestId=2", "/session/v1/login-request"} {
			status, reply := askSnowflake(t, b, http.MethodPost, target, session, []byte(`{"sqlText":"select 1"}`))
			if status != 200 || reply.Success || reply.Message != "oidc-dbt: the run was ended" {
				t.Errorf("status %d, %+v", status, reply)
			}
		}
	})
	t.Run("Trino", func(t *testing.T) {
		t.Parallel()
		house := newWarehouse()
		b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodPost:
				fmt.Fprintf(w, `{"id":"q","nextUri":"https://%s/v1/statement/executing/q/y/0"}`, r.Host)
			case http.MethodDelete:
				house.cancel(r.URL.Path, "")
			default:
				house.run(r.URL.Path)
			}
		})
		client := trusting(t, b)
		askTrino(t, b, client, http.MethodPost, "/v1/statement")
		var all sync.WaitGroup
		all.Go(func() { askTrino(t, b, client, http.MethodGet, "/v1/statement/executing/q/y/0") })
		<-house.began
		b.Halt(why)
		house.check(t, "/v1/statement/executing/q/y/0 by ")
		all.Wait()
		if status, body := askTrino(t, b, client, http.MethodPost, "/v1/statement"); status != 500 || body != "oidc-dbt: the run was ended\n" {
			t.Errorf("status %d, %s", status, body)
		}
	})
	t.Run("ClickHouse", func(t *testing.T) {
		t.Parallel()
		house := newWarehouse()
		server := httptest.NewTLSServer(clickHouseAtWork(t, house))
		t.Cleanup(server.Close)
		b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)})
		var all sync.WaitGroup
		all.Go(func() { askByBearer(t, b, http.MethodPost, "/?query_id=q1&password=", "select sleep") })
		<-house.began
		b.Halt(why)
		house.check(t, "'q1' by ")
		all.Wait()
		if status, body := askByBearer(t, b, http.MethodPost, "/?password=", "select 1"); status != 500 || body != "oidc-dbt: the run was ended\n" {
			t.Errorf("status %d, %s", status, body)
		}
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		b := start(t, route.Route{Kind: route.SnowflakeTokenFile}, func(c *broker.Config) { c.Dir = t.TempDir() })
		b.Halt(why)
		if _, err := os.Stat(b.Address().File); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	})
	var none *broker.Broker
	none.Halt(why)
}

// FuzzSnowflakeGuard: of a body that the guard lets pass, a lenient reader of
// JSON finds only the text that was decided on.
func FuzzSnowflakeGuard(f *testing.F) {
	f.Add([]byte(`{"sqlText":"select 1","asyncExec":false}`))
	f.Add([]byte(`{"sqlText":"grant x","sqlText":"select 1"}`))
	f.Add([]byte(`{"sqlText":"a","SQLTEXT":"b","dataframeAst":"c"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := &witness{}
		passed := broker.CheckSnowflake(guard.New(guard.Config{Dialect: statement.Snowflake, Statements: guard.Build, Text: true, Record: w.record}), bytes.Clone(body)) == nil
		var lenient map[string]any
		if !passed {
			return
		}
		if err := json.Unmarshal(body, &lenient); err != nil {
			t.Fatalf("%q passes", body)
		}
		if entries := w.recorded(); len(entries) != 1 || lenient["sqlText"] != entries[0].Text || lenient["dataframeAst"] != nil && lenient["dataframeAst"] != "" {
			t.Errorf("%q passes with %q", body, w.texts())
		}
	})
}
