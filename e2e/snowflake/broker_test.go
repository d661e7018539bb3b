//go:build e2e

package snowflake

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
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

// sessions stand between the check of a login and fakesnow, whose sessions
// have no end: here a session token lives for a while, and is renewed with the
// master token that the login gave. (snowflake-connector-python, network.py)
type sessions struct {
	next http.Handler
	life time.Duration // of a session token; 0 for no end
	slow time.Duration // what each statement takes longer

	mu       sync.Mutex
	open     map[string]session // by session token and by master token
	renewals int
}

type session struct {
	inner  string // fakesnow's token
	master bool
	opened time.Time
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
	case s.life > 0 && time.Since(held.opened) > s.life:
		refuse("390112", "Session token is expired.")
	default:
		if r.URL.Path == "/queries/v1/query-request" {
			time.Sleep(s.slow)
		}
		r.Header.Set("Authorization", fmt.Sprintf("Snowflake Token=%q", held.inner))
		s.next.ServeHTTP(w, r)
	}
}

// give opens a session and returns what a client is told of it.
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

// startSessions starts fakesnow with sessions that end, behind the check of logins.
func startSessions(t *testing.T, issuer *standin.Issuer, life, slow time.Duration) (*snowflake, *sessions, int) {
	t.Helper()
	s, port := start(t, issuer, nil)
	door := &sessions{next: s.next, life: life, slow: slow, open: map[string]session{}}
	s.next = door
	return s, door, port
}

// chain adds models that follow one another, so that no number of threads
// makes the run a short one, and as many that need not.
func chain(t *testing.T, workspace string) {
	t.Helper()
	const length = 6
	for i := range length {
		from := "{{ ref('raw_orders') }}"
		if i > 0 {
			from = fmt.Sprintf("{{ ref('chain_%d') }}", i-1)
		}
		setup.Write(t, workspace, fmt.Sprintf("models/chain_%d.sql", i), "{{ config(materialized='table') }}\nselect * from "+from+"\n")
		setup.Write(t, workspace, fmt.Sprintf("models/wide_%d.sql", i), "select * from {{ ref('raw_orders') }}\n")
	}
}

// perNode has dbt log in for each node, as all other adapters do.
func perNode(block string, threads int) string {
	return strings.Replace(block, "threads: 4}", fmt.Sprintf("threads: %d, reuse_connections: false}", threads), 1)
}

// tokenLife is many times shorter than the runs.
const tokenLife = 3 * time.Second

// build runs dbt through exec, which must pass, and the same run without the
// broker, in which a later login must be refused with the words.
func build(t *testing.T, s *snowflake, issuer *standin.Issuer, workspace, refusal string) {
	t.Helper()
	python := setup.Python(t)
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

	env, _ := setup.Authenticate(t, issuer, workspace)
	env[loopback] = "127.0.0.1"
	out, err = setup.DBT(t, python, workspace, env, "build")
	if err == nil || len(s.refused) == 0 || !strings.Contains(out, refusal) {
		t.Errorf("without the broker: %v, refused %q\n%s", err, s.refused, out)
	}
}

func TestDbtOutlivesTheIDToken(t *testing.T) {
	for _, threads := range []int{1, 8} {
		t.Run(fmt.Sprintf("threads %d", threads), func(t *testing.T) {
			issuer := setup.Issuer(t)
			issuer.SetLife(tokenLife)
			s, _, port := startSessions(t, issuer, 0, 250*time.Millisecond)
			workspace := setup.Project(t, issuer, perNode(block(port), threads), "{oidc: {audience: snowflakecomputing.com}}")
			chain(t, workspace)
			build(t, s, issuer, workspace, "token is expired")
		})
	}
}
