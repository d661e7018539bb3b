package provider_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestVaultOfAnUnknownAuthority: it is not asked again, and the hint names
// what a policy can give.
func TestVaultOfAnUnknownAuthority(t *testing.T) {
	t.Parallel()
	start := func() *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	server := start()
	authority := func(certificate []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	}
	issuer, _ := startIssuer(t) // its port speaks no TLS
	const unknown = "revoke the lease: tls: failed to verify certificate: x509: certificate signed by unknown authority"
	for _, tt := range []struct{ name, address, ca, err, hint string }{
		{"by the system's", server.URL, "", unknown, "set ca_cert to the CA's certificate; or set NODE_EXTRA_CA_CERTS to a file with the authority's certificate, to add it to the system's, or SSL_CERT_FILE, to replace them"},
		{"given", server.URL, authority(server.Certificate().Raw), "", ""},
		{"without TLS", "https" + issuer.URL()[len("http"):], "", "revoke the lease: the server does not speak TLS", "check the address and its port: TLS is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := provider.Revoke(t.Context(), exchange.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now}, credential.Lease{
				Provider: "vault",
				Address:  tt.address, CACert: tt.ca, Token: secret.New("hvs.vault-token-0123456789"),
			})
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.err || fault.Hint(err) != tt.hint || err != nil && fault.ClassOf(err) != fault.Unreachable {
				t.Errorf("error is %q (hint %q, class %s), want %q (%q)", text, fault.Hint(err), fault.ClassOf(err), tt.err, tt.hint)
			}
		})
	}
}
