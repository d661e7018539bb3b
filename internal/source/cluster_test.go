package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A fakeCluster is an API server with an authority of its own, a pod's mount,
// and the key of its service accounts.
type fakeCluster struct {
	mount, issuer, jwks string // jwks is what the discovery document names
	key                 *ecdsa.PrivateKey
	server              *httptest.Server
	status              int // of every reply, 0 for the right one
	mu                  sync.Mutex
	shown               []string // bearers
}

const clusterIssuer = "https://kubernetes.default.svc.cluster.local"

func newCluster(t *testing.T) *fakeCluster {
	t.Helper()
	c := &fakeCluster{mount: t.TempDir(), issuer: clusterIssuer, jwks: clusterIssuer + "/openid/v1/jwks"}
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, c.key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: c.key}}}
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	c.write(t, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	c.write(t, "token", "pod-token\n")
	return c
}

func (c *fakeCluster) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.mount, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *fakeCluster) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.shown = append(c.shown, r.Header.Get("Authorization"))
	c.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer pod-token":
		w.WriteHeader(http.StatusUnauthorized)
	case c.status != 0:
		w.WriteHeader(c.status)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, c.issuer, c.jwks)
	case r.URL.Path == "/openid/v1/jwks":
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// vars are those of a pod of the cluster.
func (c *fakeCluster) vars() map[string]string {
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(c.server.URL, "https://"))
	return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT_HTTPS": port}
}

// verify verifies a service account's token by the keys of the identity's
// issuer, and returns its subject, or the error with its class and hint.
func (c *fakeCluster) verify(t *testing.T, id policy.Identity) string {
	t.Helper()
	vars := c.vars()
	client, err := Cluster(func(name string) string { return vars[name] }, c.mount, id)
	if err == nil && client == nil {
		client = web.NewClient(web.NewTransport())
	}
	var claims idtoken.Claims
	if err == nil {
		claims, err = idtoken.NewVerifier(client, time.Now, idtoken.Issuer{URL: id.Issuer, JWKS: id.JWKS}).Verify(t.Context(), c.token(t), "acme")
	}
	if err != nil {
		return fmt.Sprintf("%s: %v [%s]", fault.ClassOf(err), err, fault.Hint(err))
	}
	return claims.Subject()
}

func (c *fakeCluster) token(t *testing.T) secret.Value {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: c.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{
		"iss": c.issuer, "sub": "system:serviceaccount:dbt:runner", "aud": []string{"acme"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	})
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(text)
}

// TestClusterKeys: the keys of a cluster whose issuer only its pods reach.
func TestClusterKeys(t *testing.T) {
	t.Parallel()
	id := policy.Identity{Name: "cluster", Kind: "kubernetes", Issuer: clusterIssuer}
	named := policy.Identity{Name: "cluster", Kind: "kubernetes", Issuer: clusterIssuer, JWKS: "https://kubernetes.default.svc/openid/v1/jwks"}
	const from = "unreachable: fetch keys of issuer \"https://kubernetes.default.svc.cluster.local\" from "
	const subject = "system:serviceaccount:dbt:runner"
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c *fakeCluster)
		id     policy.Identity
		want   string // $MOUNT is the mount
	}{
		{"discovery", nil, id, subject},
		{"jwks_uri", nil, named, subject},
		{"the service's address", func(_ *testing.T, c *fakeCluster) {
			c.issuer = "https://127.0.0.1"
			c.jwks = "https://127.0.0.1/openid/v1/jwks"
		}, policy.Identity{Kind: "kubernetes", Issuer: "https://127.0.0.1"}, subject},
		{"no role", func(_ *testing.T, c *fakeCluster) { c.status = http.StatusForbidden }, named,
			from + "kubernetes.default.svc: status is 403: the pod's service account may not read the issuer's keys " +
				"[bind it to the ClusterRole system:service-account-issuer-discovery]"},
		{"a token that is not accepted", func(t *testing.T, c *fakeCluster) { c.write(t, "token", "old") }, named,
			from + "kubernetes.default.svc: status is 401: the API server does not accept the pod's token \"$MOUNT/token\" [" + mountHint + "]"},
		{"no token", func(t *testing.T, c *fakeCluster) { c.write(t, "token", "") }, named,
			from + "kubernetes.default.svc: read \"$MOUNT/token\": contains no token [" + mountHint + "]"},
		{"keys elsewhere", func(_ *testing.T, c *fakeCluster) { c.jwks = "https://keys.evil.example/openid/v1/jwks" }, id,
			from + "keys.evil.example: it is not the cluster's own API server [set `jwks_uri: https://kubernetes.default.svc/openid/v1/jwks`]"},
		{"no authority", func(t *testing.T, c *fakeCluster) { _ = os.Remove(filepath.Join(c.mount, "ca.crt")) }, named,
			from + "the cluster's API server: read \"$MOUNT/ca.crt\": no such file or directory [" + mountHint + "]"},
		{"no certificate", func(t *testing.T, c *fakeCluster) { c.write(t, "ca.crt", "x") }, named,
			from + "the cluster's API server: \"$MOUNT/ca.crt\" contains no certificate [" + mountHint + "]"},
		{"a name without a certificate", nil,
			policy.Identity{Kind: "kubernetes", Issuer: clusterIssuer, JWKS: "https://kubernetes.default.svc.evil.example/openid/v1/jwks"},
			from + "kubernetes.default.svc.evil.example: x509: certificate is valid for kubernetes.default.svc, " +
				"kubernetes.default.svc.cluster.local, not kubernetes.default.svc.evil.example [only servers with a certificate of the cluster's authority are asked]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			if tt.change != nil {
				tt.change(t, c)
			}
			compare(t, strings.ReplaceAll(c.verify(t, tt.id), c.mount, "$MOUNT"), tt.want)
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, bearer := range c.shown {
				if bearer != "Bearer pod-token" && bearer != "Bearer old" {
					t.Errorf("the API server was shown %q", bearer)
				}
			}
		})
	}
}

// TestClusterIsNotAsked: only for its own kind, in a pod, at the cluster's own name.
func TestClusterIsNotAsked(t *testing.T) {
	t.Parallel()
	pod := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
	for name, tt := range map[string]struct {
		vars map[string]string
		id   policy.Identity
	}{
		"another kind":    {pod, policy.Identity{Kind: "workload", Issuer: clusterIssuer}},
		"no pod":          {nil, policy.Identity{Kind: "kubernetes", Issuer: clusterIssuer}},
		"another host":    {pod, policy.Identity{Kind: "kubernetes", Issuer: "https://oidc.eks.eu-central-1.amazonaws.com/id/A"}},
		"a name like it":  {pod, policy.Identity{Kind: "kubernetes", Issuer: "https://kubernetes.default.svcs.evil.example"}},
		"keys elsewhere":  {pod, policy.Identity{Kind: "kubernetes", Issuer: clusterIssuer, JWKS: "https://keys.evil.example/jwks"}},
		"not an address":  {pod, policy.Identity{Kind: "kubernetes", Issuer: "https://[", JWKS: ""}},
		"another address": {pod, policy.Identity{Kind: "kubernetes", Issuer: "https://10.0.0.2"}},
	} {
		client, err := Cluster(func(name string) string { return tt.vars[name] }, t.TempDir(), tt.id)
		if client != nil || err != nil {
			t.Errorf("%s: got a client %t, %v", name, client != nil, err)
		}
	}
}
