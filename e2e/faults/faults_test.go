//go:build e2e && linux

// Package faults breaks what a long dbt run depends on while it runs: issuer,
// provider, disk, policy and the broker.
package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A gate is in front of a server and can break what passes.
type gate struct {
	next  http.Handler
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func newGate(t *testing.T, target string) (*gate, string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{next: httputil.NewSingleHostReverseProxy(u)}
	host, port := setup.Serve(t, g)
	return g, fmt.Sprintf("http://%s:%d", host, port)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := g.fault.Load(); fault != nil {
		(*fault)(w, r)
		return
	}
	g.next.ServeHTTP(w, r)
}

// reset ends the connection in the middle of the exchange.
func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func status500(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "out of order", http.StatusInternalServerError)
}

// A world is the servers of a run: the issuer, an authorization server, and
// ClickHouse's own engine behind a front that accepts only valid tokens.
type world struct {
	issuer        *standin.Issuer
	tokens        *standin.TokenService
	request, give *gate // the runner's token endpoint, the authorization server
	workspace     string
	audit         string
	command       []string
	process       *os.Process // of `oidc-dbt exec`, once it runs

	mu      sync.Mutex
	printed bytes.Buffer
}

// Write keeps what is printed.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.printed.Write(p)
}

func (w *world) output() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.printed.String()
}

func newWorld(t *testing.T, life time.Duration, models int, keys string) *world {
	t.Helper()
	w := &world{issuer: setup.Issuer(t), audit: filepath.Join(t.TempDir(), "audit.jsonl")}
	var err error
	if w.tokens, err = standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: w.issuer.URL(), Audience: "https://auth.example", Lifetime: life,
		Clients: map[string]standin.AuthClient{"dbt-prod": {Subject: setup.Subject}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.tokens.Close)
	w.tokens.SetGrace(standin.Grace)
	var giveURL string
	w.request, _ = newGate(t, w.issuer.URL())
	w.give, giveURL = newGate(t, w.tokens.URL())

	python, engine := setup.Python(t), setup.Port(t)
	setup.Start(t, engine, python.Environ(), python.Program("python"), "../clickhouse/server.py", fmt.Sprint(engine), filepath.Join(t.TempDir(), "data"))
	clickHouse := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", engine)})
	_, port := setup.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !w.tokens.Valid(bearer, "") {
			rw.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(rw, "Code: 516. DB::Exception: the front refuses the bearer. (AUTHENTICATION_FAILED)", http.StatusForbidden)
			return
		}
		clickHouse.ServeHTTP(rw, r)
	}))
	w.workspace = setup.Project(t, w.issuer, fmt.Sprintf(`{type: clickhouse, host: 127.0.0.1, port: %d, schema: marts, threads: 1%s}`, port, keys),
		fmt.Sprintf(`{token_exchange: {token_url: %q, grant: client_assertion, audience: "https://auth.example"}}`, giveURL+"/token"))
	for i := range models { // a chain, three seconds each
		setup.Write(t, w.workspace, fmt.Sprintf("models/slow%02d.sql", i), "{{ config(materialized='table') }}\nselect sleep(3) as slept\n")
	}
	w.command = []string{python.Program("dbt"), "--no-use-colors", "build", "--fail-fast"}
	return w
}

// run runs dbt and returns what was printed, and how long after the first
// credential it ended. meanwhile is called repeatedly with the time since then.
func (w *world) run(t *testing.T, meanwhile func(since time.Duration)) (out string, took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := setup.ExecCommand(ctx, t, w.issuer, w.workspace, []string{"--audit-log", w.audit}, w.command...)
	// The gate is in front of the runner's token endpoint.
	_, port := setup.Serve(t, w.request)
	cmd.Env = append(cmd.Env, fmt.Sprintf("ACTIONS_ID_TOKEN_REQUEST_URL=http://127.0.0.1:%d/token?api-version=2.0", port))
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.process = cmd.Process
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // waits for dbt, too, which has the same pipe
	var began time.Time
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case err := <-ended:
			return w.output(), time.Since(began), err
		case <-tick.C:
			if began.IsZero() && len(w.tokens.Bearers()) > 0 {
				began = time.Now()
			}
			if !began.IsZero() {
				meanwhile(time.Since(began))
			}
		}
	}
}

// between breaks the gate from one point in time to another.
func between(g *gate, from, to time.Duration, fault func(http.ResponseWriter, *http.Request)) func(time.Duration) {
	return func(since time.Duration) {
		if since >= from && since < to {
			g.fault.Store(&fault)
		} else {
			g.fault.Store(nil)
		}
	}
}

const forever = time.Hour

// TestRunsSurvive: an outage that ends before the credential expires has no effect.
func TestRunsSurvive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		life   time.Duration
		models int
		fault  func(w *world) func(time.Duration)
	}{
		{"the issuer is down for 30 s", 100 * time.Second, 34, func(w *world) func(time.Duration) { return between(w.request, 62*time.Second, 92*time.Second, reset) }},
		{"the provider answers 500", 15 * time.Second, 6, func(w *world) func(time.Duration) { return between(w.give, 8*time.Second, 12*time.Second, status500) }},
		{"the provider resets connections", 15 * time.Second, 6, func(w *world) func(time.Duration) { return between(w.give, 8*time.Second, 12*time.Second, reset) }},
		{"every reply is slow", 15 * time.Second, 6, func(w *world) func(time.Duration) {
			slowly := func(next http.Handler) func(http.ResponseWriter, *http.Request) {
				return func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(1500 * time.Millisecond)
					next.ServeHTTP(rw, r)
				}
			}
			a, b := between(w.request, 0, forever, slowly(w.request.next)), between(w.give, 0, forever, slowly(w.give.next))
			return func(since time.Duration) { a(since); b(since) }
		}},
		{"the disk is full until it is told of", 15 * time.Second, 6, func(w *world) func(time.Duration) {
			return func(since time.Duration) {
				limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
				if since > 3*time.Second && !strings.Contains(w.output(), "oidc-dbt: warning: renew the credential: append audit record: ") {
					limit.Cur = 0
				}
				_ = unix.Prlimit(w.process.Pid, unix.RLIMIT_FSIZE, &limit, nil) // it may have ended
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.life, tt.models, "")
			out, took, err := w.run(t, tt.fault(w))
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Errorf("dbt build: %v\n%s", err, out)
			}
			if n := len(w.tokens.Bearers()); took < tt.life || n < 2 {
				t.Errorf("the run took %s with credentials of %s, and %d of them", took, tt.life, n)
			}
			setup.NoSecrets(t, w.issuer, "the output", out)
		})
	}
}

// TestRunsFailSoon: an outage that does not end fails the run at the first model
// that needs the server, with a message of ours.
func TestRunsFailSoon(t *testing.T) {
	t.Parallel()
	const life, models = 8 * time.Second, 20
	for _, tt := range []struct {
		name  string
		keys  string // of the dbt block
		fault func(w *world) func(time.Duration)
		want  string
	}{
		// A login waits for two minutes, or less if the client gives up earlier.
		{"the provider is down", ", send_receive_timeout: 20", func(w *world) func(time.Duration) {
			return between(w.give, 3*time.Second, forever, reset)
		}, `oidc-dbt: warning: renew the credential: exchange ID token with "token_exchange": `},
		{"the policy says no", "", func(w *world) func(time.Duration) {
			return func(since time.Duration) {
				if since > 3*time.Second {
					claims := standin.GitHubClaims()
					claims["environment"] = "staging"
					w.issuer.SetClaims(claims)
				}
			}
		}, `oidc-dbt: denied by policy: no rule of target "prod" matches`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, life, models, tt.keys)
			out, _, err := w.run(t, tt.fault(w))
			if ended := strings.Count(out, " OK created "); err == nil || ended == models {
				t.Errorf("dbt build: %v after %d of %d models\n%s", err, ended, models, out)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("the output lacks %q:\n%s", tt.want, out)
			}
			setup.NoSecrets(t, w.issuer, "the output", out)
		})
	}
}

// TestBrokerKilled: dbt finds a closed port and soon fails. Files that the
// broker has left cannot be read by other users.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	const models = 20
	w := newWorld(t, 8*time.Second, models, "")
	var killed bool
	out, _, err := w.run(t, func(since time.Duration) {
		if since > 5*time.Second && !killed {
			killed = true
			if err := w.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
		}
	})
	if ended := strings.Count(out, " OK created "); err == nil || ended == models {
		t.Errorf("dbt build: %v after %d of %d models\n%s", err, ended, models, out)
	}
}
