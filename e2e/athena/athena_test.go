//go:build e2e

// Package athena runs dbt-athena as far as moto supports it (debug and show, not build), behind a server that verifies
// who signed each request.
package athena

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A guard passes on requests that a session of the token service has signed,
// for any service; moto itself checks nothing.
type guard struct {
	sts  *standin.STS
	next *httputil.ReverseProxy
	runs func(*guard) bool // whether a query still runs; nil for queries that end immediately, as moto's do

	mu       sync.Mutex
	services []string        // that were requested
	sessions map[string]bool // access key ids
	refused  int
}

// counts returns how many sessions have signed, and how many requests were refused.
func (g *guard) counts() (sessions, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions), g.refused
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	// Credential=KEY/DAY/REGION/SERVICE/aws4_request
	service := ""
	if parts := strings.Split(r.Header.Get("Authorization"), "/"); len(parts) > 3 {
		service = parts[3]
	}
	session, err := g.sts.Authenticate(r, body, service)
	g.mu.Lock()
	if err != nil {
		g.refused++
		g.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "UnrecognizedClientException", "message": err.Error()}) // the client may be gone
		return
	}
	g.services, g.sessions[session.AccessKeyID] = append(g.services, service), true
	g.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.next.ServeHTTP(w, r)
}

// stillRuns reports a query as running although moto has finished it.
func (g *guard) stillRuns(resp *http.Response) error {
	if g.runs == nil || !strings.HasSuffix(resp.Request.Header.Get("X-Amz-Target"), ".GetQueryExecution") {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if g.runs(g) {
		body = bytes.ReplaceAll(body, []byte(`"SUCCEEDED"`), []byte(`"RUNNING"`))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

// start starts moto behind a guard, and returns moto's own port too.
func start(t *testing.T, sts *standin.STS, runs func(*guard) bool) (g *guard, front, moto int) {
	t.Helper()
	python := setup.Python(t)
	moto = setup.Port(t)
	setup.Start(t, moto, python.Environ(), python.Program("moto_server"), "--host", "127.0.0.1", "--port", fmt.Sprint(moto))
	g = &guard{sts: sts, runs: runs, sessions: map[string]bool{}}
	g.next = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", moto)})
	g.next.ModifyResponse = g.stillRuns
	_, front = setup.Serve(t, g)
	return g, front, moto
}

func project(t *testing.T, issuer *standin.Issuer, sts *standin.STS, front, threads int) string {
	t.Helper()
	return setup.Project(t, issuer,
		fmt.Sprintf(`{type: athena, region_name: eu-central-1, s3_staging_dir: "s3://acme/athena/", database: awsdatacatalog, schema: marts, threads: %d, endpoint_url: "http://127.0.0.1:%d"}`, threads, front),
		fmt.Sprintf(`{aws: {role: %q, region: eu-central-1, endpoint: %q}}`, setup.Role, sts.URL()))
}

func TestDebugAndShow(t *testing.T) {
	t.Parallel()
	issuer, python := setup.Issuer(t), setup.Python(t)
	sts := setup.STS(t, issuer)
	g, front, _ := start(t, sts, nil)
	workspace := project(t, issuer, sts, front, 1)
	env, step := setup.Authenticate(t, issuer, workspace)
	// dbt-athena passes its endpoint_url only to Athena.
	env["AWS_ENDPOINT_URL"] = fmt.Sprintf("http://127.0.0.1:%d", front)
	env["AWS_EC2_METADATA_DISABLED"] = "true"

	out, err := setup.DBT(t, python, workspace, env, "debug")
	if err != nil || !strings.Contains(out, "All checks passed!") {
		t.Errorf("dbt debug: %v\n%s", err, out)
	}
	for name, value := range step.Outputs {
		if strings.HasPrefix(name, "aws-") && strings.Contains(out, value) {
			t.Errorf("output %s is in what dbt debug prints", name)
		}
	}
	if out, err := setup.DBT(t, python, workspace, env, "show", "--inline", "select 1 as one"); err != nil {
		t.Errorf("dbt show: %v\n%s", err, out)
	}
	if g.refused > 0 || !slices.Contains(g.services, "athena") {
		t.Errorf("asked for %q, %d requests refused; want athena, and none", g.services, g.refused)
	}

	// The test proves only as much as the guard refuses.
	env["AWS_SESSION_TOKEN"] = "made-up"
	if out, err := setup.DBT(t, python, workspace, env, "debug"); err == nil || g.refused == 0 {
		t.Errorf("dbt debug passed with a session token of its own:\n%s", out)
	}
}

// life is the lifetime of sessions with the broker. boto3 itself refuses a
// session that has expired by the time it arrives.
const life = 15 * time.Second

// TestOutlivesSessions: with the broker, queries that run until three sessions
// have signed requests end well. Without it, a query that runs until a request
// is refused fails.
func TestOutlivesSessions(t *testing.T) {
	t.Parallel()
	issuer, python := setup.Issuer(t), setup.Python(t)
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprintf("threads %d", threads), func(t *testing.T) {
			t.Parallel()
			sts := setup.STSOf(t, issuer, life)
			g, front, moto := start(t, sts, func(g *guard) bool {
				sessions, _ := g.counts()
				return sessions < 3
			})
			workspace := project(t, issuer, sts, front, threads)
			for n := range threads {
				setup.Write(t, workspace, fmt.Sprintf("tests/good_%d.sql", n), fmt.Sprintf("select %d as n where false\n", n))
				passes(t, moto)
			}
			command := []string{"env", fmt.Sprintf("AWS_ENDPOINT_URL=http://127.0.0.1:%d", front), python.Program("dbt"), "--no-use-colors", "test", "--select", "test_type:singular"}
			out, err := setup.Exec(t, issuer, workspace, nil, command...)
			if want := fmt.Sprintf("PASS=%d WARN=0 ERROR=0", threads); err != nil || !strings.Contains(out, want) {
				t.Fatalf("dbt test: %v, want %s\n%s", err, want, out)
			}
			if sessions, refused := g.counts(); sessions < 3 || refused > 0 {
				t.Errorf("%d sessions were used, %d requests refused; want 3 at least, and none", sessions, refused)
			}
		})
	}
	t.Run("without the broker", func(t *testing.T) {
		t.Parallel()
		sts := setup.STSOf(t, issuer, 2*time.Second)
		_, front, moto := start(t, sts, func(g *guard) bool {
			_, refused := g.counts()
			return refused == 0
		})
		workspace := project(t, issuer, sts, front, 1)
		setup.Write(t, workspace, "tests/good.sql", "select 1 as n where false\n")
		passes(t, moto)
		env, _ := setup.Authenticate(t, issuer, workspace)
		env["AWS_ENDPOINT_URL"] = fmt.Sprintf("http://127.0.0.1:%d", front)
		out, err := setup.DBT(t, python, workspace, env, "test", "--select", "test_type:singular")
		if err == nil || !strings.Contains(out, "ExpiredToken") {
			t.Errorf("dbt test: %v, want a session that has expired\n%s", err, out)
		}
	})
}

// passes has moto's next query return what a passing test of dbt returns.
func passes(t *testing.T, moto int) {
	t.Helper()
	const result = `{"region": "eu-central-1", "results": [{"rows": [{"Data": [{"VarCharValue": "failures"}, {"VarCharValue": "should_warn"}, {"VarCharValue": "should_error"}]}, {"Data": [{"VarCharValue": "0"}, {"VarCharValue": "false"}, {"VarCharValue": "false"}]}],
		"column_info": [{"Name": "failures", "Type": "bigint"}, {"Name": "should_warn", "Type": "boolean"}, {"Name": "should_error", "Type": "boolean"}]}]}`
	resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/moto-api/static/athena/query-results", moto), "application/json", strings.NewReader(result))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("moto replies %s", resp.Status)
	}
}
