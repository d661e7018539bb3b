//go:build e2e

// Package databricks opens a session with dbt-databricks at a workspace that
// checks the bearer, and has no warehouse behind it.
package databricks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	account   = "66666666-7777-8888-9999-000000000000"
	principal = "11111111-2222-3333-4444-555555555555"
	resource  = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
)

// A workspace is the login of a SQL warehouse's Thrift service. (Apache Hive
// TCLIService, which Databricks SQL speaks)
type workspace struct {
	tokens   *standin.TokenService
	person   *setup.Person // whose tokens are taken in the place of those of tokens; nil for none
	scope    string
	exchange string       // the URL of the token endpoint behind the gateway
	next     http.Handler // the warehouse; nil for none

	mu      sync.Mutex
	served  map[string]bool // the valid tokens that clients sent
	opened  [][]byte        // the requests of the sessions that were opened
	refused int
}

func (w *workspace) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/.well-known/databricks-config":
		fmt.Fprint(rw, `{"host_type": "workspace", "account_id": "`+account+`"}`)
		return
	case r.URL.Path == "/oidc/v1/token":
		w.token(rw, r)
		return
	case r.URL.Path == "/api/2.0/preview/scim/v2/Me":
	case r.Method != http.MethodPost || r.URL.Path != "/sql/1.0/warehouses/a":
		http.NotFound(rw, r)
		return
	}
	call, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	valid := w.tokens.Valid
	if w.person != nil {
		valid = w.person.Valid
	}
	if !valid(token, w.scope) {
		w.mu.Lock()
		w.refused++
		w.mu.Unlock()
		rw.Header().Set("X-Thriftserver-Error-Message", "Invalid access token.")
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	w.mu.Lock()
	if w.served == nil {
		w.served = map[string]bool{}
	}
	w.served[token] = true
	w.mu.Unlock()
	if r.Method == http.MethodGet {
		me(rw)
		return
	}
	if w.next != nil {
		r.Body = io.NopCloser(bytes.NewReader(call))
		w.next.ServeHTTP(rw, r)
		return
	}
	name, sequence := message(call)
	if name != "OpenSession" {
		rw.Header().Set("X-Thriftserver-Error-Message", "This workspace has no warehouse.")
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	w.opened = append(w.opened, call)
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/x-thrift")
	_, _ = rw.Write(sessionReply(sequence))
}

// token forwards an exchange to the endpoint. The connector would also exchange
// another issuer's token, unless the workspace accepts it as it is.
func (w *workspace) token(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	if form.Get("return_original_token_if_authenticated") == "true" {
		token := form.Get("subject_token")
		valid := w.tokens.Valid
		if w.person != nil {
			valid = w.person.Valid
		}
		if !valid(token, w.scope) {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"access_token": token, "token_type": "Bearer"})
		return
	}
	to, err := url.Parse(w.exchange)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	httputil.NewSingleHostReverseProxy(to).ServeHTTP(rw, r)
}

// atWorkspace is the exchange at the workspace's own host: no other host gets
// the ID token.
func atWorkspace(port int) string {
	return fmt.Sprintf(`{databricks: {host: "https://127.0.0.1:%d", account_id: %s, client_id: %s}}`, port, account, principal)
}

// message reads the header of a call in Thrift's strict binary protocol.
func message(call []byte) (name string, sequence uint32) {
	if len(call) < 8 {
		return "", 0
	}
	size := int(binary.BigEndian.Uint32(call[4:]))
	if len(call) < 12+size {
		return "", 0
	}
	return string(call[8 : 8+size]), binary.BigEndian.Uint32(call[8+size:])
}

// sessionReply is TOpenSessionResp with status, version and session handle.
func sessionReply(sequence uint32) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.BigEndian, v) }
	text := func(s string) { put(uint32(len(s))); b.WriteString(s) }
	field := func(kind byte, id int16) { b.WriteByte(kind); put(id) }
	const boolean, i32, binaryText, structure, stop = 2, 8, 11, 12, 0

	put(uint32(0x80010002)) // version 1, a reply
	text("OpenSession")
	put(sequence)
	field(structure, 0) // success
	{
		field(structure, 1) // status
		field(i32, 1)
		put(uint32(0)) // SUCCESS_STATUS
		b.WriteByte(stop)
		field(i32, 2)
		put(uint32(0xa509)) // SPARK_CLI_SERVICE_PROTOCOL_V9
		field(structure, 3) // session handle
		field(structure, 1)
		field(binaryText, 1)
		text("0123456789abcdef")
		field(binaryText, 2)
		text("fedcba9876543210")
		b.WriteByte(stop)
		b.WriteByte(stop)
		field(boolean, 1285) // canUseMultipleCatalogs
		b.WriteByte(1)
		b.WriteByte(stop)
	}
	b.WriteByte(stop)
	return b.Bytes()
}

// start serves the workspace over TLS and returns its port and its authority's certificate.
func start(t *testing.T, w *workspace) (port int, ca string) {
	t.Helper()
	return setup.ServeTLS(t, w)
}

// TestSession: a session opens only with the token of the exchange.
func TestSession(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, scope string
		start       func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error)
		ask         func(url string, port int) string
	}{
		{"databricks", "all-apis", func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error) {
			return standin.StartDatabricks(standin.DatabricksConfig{Account: account, Now: now, Policies: []standin.FederationPolicy{
				{ServicePrincipal: principal, Issuer: issuer.URL(), Subject: setup.Subject},
			}})
		}, func(_ string, port int) string { return atWorkspace(port) }},
		{"entra", resource + "/.default", func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error) {
			return standin.StartEntra(standin.EntraConfig{Tenant: "acme.example", Resources: []string{resource}, Now: now, Applications: map[string][]standin.FederatedCredential{
				principal: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}},
			}})
		}, func(url string, _ int) string {
			return fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, authority: %q}}", principal, url)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer := setup.Issuer(t)
			late := time.Duration(0)
			tokens, err := tt.start(issuer, func() time.Time { return time.Now().Add(late) })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(tokens.Close)
			w := &workspace{tokens: tokens, scope: tt.scope, exchange: tokens.URL()}
			port, ca := start(t, w)
			dbt := fmt.Sprintf(`{type: databricks, host: "127.0.0.1:%d", http_path: /sql/1.0/warehouses/a, catalog: main, schema: marts, connection_parameters: {_connection_uri: "https://127.0.0.1:%d/sql/1.0/warehouses/a", _tls_trusted_ca_file: %q, enable_telemetry: false}}`, port, port, ca)
			dir := setup.Project(t, issuer, dbt, tt.ask(tokens.URL(), port))
			env, _ := setup.Authenticate(t, issuer, dir, "SSL_CERT_FILE="+ca)
			env["REQUESTS_CA_BUNDLE"] = ca
			good := env["DBT_ENV_SECRET_OIDC_TOKEN"]

			// dbt debug queries a row after it has opened its session.
			out, err := setup.DBT(t, setup.Python(t), dir, env, "debug")
			if err == nil || !strings.Contains(out, "This workspace has no warehouse.") || len(w.opened) == 0 || w.refused > 0 {
				t.Fatalf("dbt debug: %v, %d sessions, %d refused\n%s", err, len(w.opened), w.refused, out)
			}
			if !bytes.Contains(w.opened[0], []byte("oidc_dbt_run_id:16055869479")) {
				t.Error("the session has no tag of the run")
			}
			setup.NoSecrets(t, issuer, "dbt's output", out)
			if strings.Contains(out, good) {
				t.Error("the token is in dbt's output")
			}

			for name, token := range map[string]string{"one that was never issued": good + "x", "the ID token": issuer.Issued()[0], "an expired one": good} {
				if late = 0; name == "an expired one" {
					late = 2 * time.Hour
				}
				opened := len(w.opened)
				env["DBT_ENV_SECRET_OIDC_TOKEN"] = token
				out, err := setup.DBT(t, setup.Python(t), dir, env, "debug")
				if err == nil || !strings.Contains(out, "Invalid access token") || len(w.opened) != opened {
					t.Errorf("dbt debug with %s: %v, %d sessions more\n%s", name, err, len(w.opened)-opened, out)
				}
			}
		})
	}
}

// TestPerson: a session opens with an engineer's own access token for Azure Databricks.
func TestPerson(t *testing.T) {
	t.Parallel()
	w := &workspace{scope: resource + "/.default"}
	port, ca := start(t, w)
	dbt := fmt.Sprintf(`{type: databricks, host: "127.0.0.1:%d", http_path: /sql/1.0/warehouses/a, catalog: main, schema: marts, `+
		`connection_parameters: {_connection_uri: "https://127.0.0.1:%d/sql/1.0/warehouses/a", _tls_trusted_ca_file: %q, enable_telemetry: false}}`,
		port, port, ca)
	w.person = setup.SignedIn(t, w.scope, dbt, trust(ca)...)
	out, err := w.person.Exec(t, "dbt", "--no-use-colors", "debug")
	if err == nil || !strings.Contains(out, "This workspace has no warehouse.") || len(w.opened) == 0 || w.refused > 0 {
		t.Errorf("dbt debug: %v, %d sessions, %d refused\n%s", err, len(w.opened), w.refused, out)
	}
}
