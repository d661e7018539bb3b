//go:build e2e

package snowflake

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// sessions are between the check of a login and fakesnow, whose sessions never
// expire: here session tokens expire, and are renewed with the master token from
// the login. (snowflake-connector-python, network.py)
type sessions struct {
	next http.Handler
	life time.Duration // of a session token; 0 if it does not expire
	slow time.Duration // the delay of each statement
	// answer is for statements that fakesnow does not know; nil for none.
	answer func(sql string) map[string]any
	cancel func() // nil if nothing is cancelled

	mu       sync.Mutex
	open     map[string]session // by session token and by master token
	renewals int
}

type session struct {
	inner  string // the token at fakesnow
	master bool
	opened time.Time
	ended  bool
}

// end expires all session tokens immediately.
func (s *sessions) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, held := range s.open {
		held.ended = !held.master
		s.open[token] = held
	}
}

func (s *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/session/v1/login-request" {
		s.login(w, r)
		return
	}
	shown := strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Authorization"), `Snowflake Token="`), `"`)
	s.mu.Lock()
	held, ok := s.open[shown]
	s.mu.Unlock()
	refuse := func(code, message string) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": code, "message": message, "data": nil})
	}
	switch {
	case !ok:
		refuse("390104", "User must login again to access the service.")
	case r.URL.Path == "/session/token-request" && held.master:
		s.mu.Lock()
		s.renewals++
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		data := s.give(held.inner)
		data["sessionToken"] = data["token"]
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
	case held.master:
		refuse("390115", "Master token is invalid.")
	case held.ended, s.life > 0 && time.Since(held.opened) > s.life:
		refuse("390112", "Session token is expired.")
	default:
		switch r.URL.Path {
		case "/queries/v1/query-request":
			if s.answered(w, r) {
				return
			}
			time.Sleep(s.slow)
		case "/queries/v1/abort-request":
			if s.cancel != nil {
				s.cancel()
			}
		}
		r.Header.Set("Authorization", fmt.Sprintf("Snowflake Token=%q", held.inner))
		s.next.ServeHTTP(w, r)
	}
}

// answered answers a statement instead of fakesnow, and reports whether it did.
func (s *sessions) answered(w http.ResponseWriter, r *http.Request) bool {
	if s.answer == nil {
		return false
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return true // the client has closed the connection
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return false
	}
	var in struct {
		SQL string `json:"sqlText"`
	}
	if json.NewDecoder(z).Decode(&in) != nil {
		return false
	}
	reply := s.answer(in.SQL)
	if reply == nil {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply) // the client may have closed the connection
	return true
}

// give opens a session and returns the data of the reply.
func (s *sessions) give(inner string) map[string]any {
	token, master := rand.Text(), rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[token] = session{inner: inner, opened: time.Now()}
	s.open[master] = session{inner: inner, master: true}
	return map[string]any{"token": token, "masterToken": master, "validityInSeconds": 3600, "masterValidityInSeconds": 14400}
}

func (s *sessions) login(w http.ResponseWriter, r *http.Request) {
	inner := &recorder{header: http.Header{}}
	r.Header.Del("Accept-Encoding")
	s.next.ServeHTTP(inner, r)
	var reply map[string]any
	if err := json.Unmarshal(inner.body.Bytes(), &reply); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if data, ok := reply["data"].(map[string]any); ok && data["token"] != nil {
		for key, v := range s.give(data["token"].(string)) {
			data[key] = v
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply)
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *recorder) WriteHeader(int)             {}

// startSessions starts fakesnow with sessions that expire, behind the check of logins.
func startSessions(t *testing.T, issuer *standin.Issuer, life, slow time.Duration) (*snowflake, *sessions, int) {
	t.Helper()
	s, port := start(t, issuer, nil)
	gateway := &sessions{next: s.next, life: life, slow: slow, open: map[string]session{}}
	s.next = gateway
	return s, gateway, port
}

// chain adds models that depend on one another, so that more threads do not
// shorten the run, and independent ones.
func chain(t *testing.T, workspace string) {
	t.Helper()
	const length, wide = 8, 4
	for i := range length {
		from := "{{ ref('raw_orders') }}"
		if i > 0 {
			from = fmt.Sprintf("{{ ref('chain_%d') }}", i-1)
		}
		setup.Write(t, workspace, fmt.Sprintf("models/chain_%d.sql", i), "{{ config(materialized='table') }}\nselect * from "+from+"\n")
	}
	for i := range wide {
		setup.Write(t, workspace, fmt.Sprintf("models/wide_%d.sql", i), "select * from {{ ref('raw_orders') }}\n")
	}
}

// perNode makes dbt log in for each node, as all other adapters do.
func perNode(block string, threads int) string {
	return strings.Replace(block, "threads: 4}", fmt.Sprintf("threads: %d, reuse_connections: false}", threads), 1)
}

// tokenLife is the announced lifetime of tokens: many times shorter than the
// runs, whose statements are slow.
const (
	tokenLife = 3 * time.Second
	slow      = 500 * time.Millisecond
)

// build runs dbt through exec, which must pass, and the same run without the
// broker, in which a later login must be refused with the message; "" leaves that
// run out. grace makes the server accept credentials for so long after they
// expire, only in the run with the broker.
func build(t *testing.T, s *snowflake, issuer *standin.Issuer, workspace, refusal string, grace func(time.Duration)) {
	t.Helper()
	python := setup.Python(t)
	grace(standin.Grace)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, python.Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, "Completed successfully") {
		t.Fatalf("dbt build: %v, refused: %q\n%s", err, s.refused, out)
	}
	setup.NoSecrets(t, issuer, "dbt's output", out)
	if len(s.used) < 3 || s.logins < 10 || len(s.refused) > 0 {
		t.Errorf("%d logins with %d credentials, want three or more; refused: %q", s.logins, len(s.used), s.refused)
	}
	for token := range s.used {
		if strings.Contains(out, token) {
			t.Error("a credential is in the output")
		}
	}
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	if issued := strings.Count(string(log), `"outcome":"issued"`); issued < 3 {
		t.Errorf("the audit log has %d credentials:\n%s", issued, log)
	}

	if refusal == "" {
		return
	}
	grace(0)
	env, _ := setup.Authenticate(t, issuer, workspace)
	env[loopback] = "127.0.0.1"
	out, err = setup.DBT(t, python, workspace, env, "build")
	if err == nil || len(s.refused) == 0 || !strings.Contains(out, refusal) {
		t.Errorf("without the broker: %v, refused %q\n%s", err, s.refused, out)
	}
}

func TestDbtOutlivesTheIDToken(t *testing.T) {
	t.Parallel()
	for _, tt := range setup.Few(1, []struct {
		threads int
		slow    time.Duration
		refusal string
	}{{8, slow, "token is expired"}, {1, 250 * time.Millisecond, ""}}...) {
		t.Run(fmt.Sprintf("threads %d", tt.threads), func(t *testing.T) {
			issuer := setup.Issuer(t)
			issuer.SetLife(tokenLife)
			s, _, port := startSessions(t, issuer, 0, tt.slow)
			workspace := setup.Project(t, issuer, perNode(block(port), tt.threads), "{oidc: {audience: snowflakecomputing.com}}")
			chain(t, workspace)
			build(t, s, issuer, workspace, tt.refusal, func(d time.Duration) { s.grace = d })
		})
	}
}

// A cloud is the cloud storage to which Snowflake's replies lead its clients:
// stages and large results, at signed URLs.
type cloud struct {
	mu     sync.Mutex
	files  map[string][]byte
	served []string
	shown  []string // the credentials that clients sent
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served = append(c.served, r.Method+" "+r.URL.Path)
	c.shown = append(c.shown, fmt.Sprint(r.Header))
	switch text, ok := c.files[r.URL.Path]; {
	case r.Method == http.MethodPut:
		c.files[r.URL.Path] = body
	case !ok:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(text) // the client may have closed the connection
	}
}

// statement answers statements that fakesnow does not know, and returns nil for
// others. end expires the session.
func (c *cloud) statement(url, folder string, cancelled <-chan struct{}, end func()) func(sql string) map[string]any {
	stage := map[string]any{"locationType": "GCS", "location": "stage/", "creds": map[string]any{}, "presignedUrl": url + "/stage/up.csv"}
	return func(sql string) map[string]any {
		switch {
		case strings.HasPrefix(sql, "put "):
			return map[string]any{"success": true, "data": map[string]any{
				"command": "UPLOAD", "src_locations": []string{folder + "/up.csv"}, "stageInfo": stage, "parallel": 1, "autoCompress": false, "sourceCompression": "none", "overwrite": true,
			}}
		case strings.HasPrefix(sql, "get "):
			return map[string]any{"success": true, "data": map[string]any{
				"command": "DOWNLOAD", "src_locations": []string{"up.csv"}, "presignedUrls": []string{url + "/stage/up.csv"}, "localLocation": folder + "/down", "stageInfo": stage, "parallel": 1,
			}}
		case sql == "select chunks":
			chunk := map[string]any{"url": url + "/result", "rowCount": 2, "uncompressedSize": len(c.files["/result"]), "compressedSize": len(c.files["/result"])}
			return map[string]any{"success": true, "data": map[string]any{
				"queryResultFormat": "json", "queryId": "01b2", "total": 5, "returned": 5, "rowset": [][]string{{"100"}}, "chunks": []any{chunk, chunk}, "parameters": []any{},
				"rowtype": []any{map[string]any{"name": "N", "type": "fixed", "scale": 0, "precision": 38, "length": nil, "byteLength": nil, "nullable": false}}, "statementTypeId": 4096,
			}}
		case sql == "select 'the end'":
			end()
		case sql == "select forever":
			select {
			case <-cancelled:
			case <-time.After(5 * time.Minute):
			}
			return map[string]any{"success": false, "code": "000604", "message": "SQL execution canceled", "data": map[string]any{"errorCode": "000604", "sqlState": "57014"}}
		}
		return nil
	}
}

// TestTheConnector: stages and results in cloud storage, which the client
// accesses directly; a large result in a reply; a session that expires; and a
// statement that is cancelled while it runs.
func TestTheConnector(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	_, gateway, port := startSessions(t, issuer, 0, 0)
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "down"), 0o700); err != nil {
		t.Fatal(err)
	}
	setup.Write(t, folder, "up.csv", "1,ada\n")
	c := &cloud{files: map[string][]byte{"/result": []byte(`["1"],["2"]`)}}
	host, storage := setup.Serve(t, c)
	cancelled := make(chan struct{})
	gateway.cancel = sync.OnceFunc(func() { close(cancelled) })
	gateway.answer = c.statement(fmt.Sprintf("http://%s:%d", host, storage), folder, cancelled, gateway.end)
	workspace := setup.Project(t, issuer, block(port), "{oidc: {audience: snowflakecomputing.com}}")
	script := filepath.Join(setup.Repository(t), "e2e", "snowflake", "connector.py")
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("python"), script, folder)
	if err != nil {
		t.Fatalf("the connector: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "the output", out)
	setup.NoSecrets(t, issuer, "cloud storage", fmt.Sprint(c.shown))
	if !strings.HasSuffix(out, "put UPLOADED\nget DOWNLOADED 1,ada\nchunks 106\ninline 100000\nrenewed 1\ncancelled 604\nafter 2\n") {
		t.Errorf("the connector printed\n%s", out)
	}
	guess, err := setup.Exec(t, issuer, workspace, nil, "env", "DBT_ENV_SECRET_OIDC_TOKEN=guess", setup.Python(t).Program("python"), script, folder)
	if err == nil || !strings.Contains(guess, "oidc-dbt: the token does not belong to this run") {
		t.Errorf("with another token: %v\n%s", err, guess)
	}
	if gateway.renewals != 1 {
		t.Errorf("the session was renewed %d times, want once", gateway.renewals)
	}
	if got, want := strings.Join(c.served, ", "), "PUT /stage/up.csv, GET /stage/up.csv, GET /result, GET /result"; got != want {
		t.Errorf("cloud storage served %s, want %s", got, want)
	}
	if strings.Contains(fmt.Sprint(c.shown), "Snowflake Token") {
		t.Errorf("cloud storage was shown %q", c.shown)
	}
}
