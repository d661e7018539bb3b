//go:build e2e

// Package athena runs dbt-athena as far as moto goes (debug and show, not build), behind a server that checks who asks.
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

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A guard lets requests through that a session of the token service has
// signed, for whatever service; moto itself checks nothing.
type guard struct {
	sts  *standin.STS
	next http.Handler

	mu       sync.Mutex
	services []string // asked for
	refused  int
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
	_, err = g.sts.Authenticate(r, body, service)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.refused++
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "UnrecognizedClientException", "message": err.Error()}) // the client may be gone
		return
	}
	g.services = append(g.services, service)
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.next.ServeHTTP(w, r)
}

func TestDebugAndShow(t *testing.T) {
	issuer, python := setup.Issuer(t), setup.Python(t)
	sts := setup.STS(t, issuer)
	port := setup.Port(t)
	setup.Start(t, port, python.Environ(), python.Program("moto_server"), "--host", "127.0.0.1", "--port", fmt.Sprint(port))
	g := &guard{sts: sts, next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})}
	_, front := setup.Serve(t, g)

	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: athena, region_name: eu-central-1, s3_staging_dir: "s3://acme/athena/", database: awsdatacatalog, schema: marts, endpoint_url: "http://127.0.0.1:%d"}`, front),
		fmt.Sprintf(`{aws: {role: %q, region: eu-central-1, endpoint: %q}}`, setup.Role, sts.URL()))
	env, step := setup.Authenticate(t, issuer, workspace)
	// dbt-athena hands its endpoint_url to Athena alone.
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

	// The proof is worth what the guard refuses.
	env["AWS_SESSION_TOKEN"] = "made-up"
	if out, err := setup.DBT(t, python, workspace, env, "debug"); err == nil || g.refused == 0 {
		t.Errorf("dbt debug passed with a session token of its own:\n%s", out)
	}
}
