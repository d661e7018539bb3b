package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// An askCase is what a client library asks of a route, and what it gets.
type askCase struct {
	name, method, url string
	header            map[string]string
	status            int
	reply             string
}

// testAsk asks a route that has a credential until a fixed time.
func testAsk(t *testing.T, r route.Route, cases func(b *broker.Broker) []askCase) {
	t.Helper()
	expiry := time.Unix(4102444800, 0)
	var told refusals
	b := start(t, r, func(c *broker.Config) {
		c.Refused = told.add
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{Token: secret.New("marked-token"), Expiry: expiry}, nil
		}
	})
	strangers := 0
	for _, tt := range cases(b) {
		tt.ask(t)
		if tt.status == http.StatusUnauthorized {
			strangers++
		}
	}
	b.Close()
	sum := 0
	for _, n := range told.told {
		sum += n
	}
	if sum != strangers {
		t.Errorf("told of %d callers without the secret, want %d", sum, strangers)
	}
}

func (tt askCase) ask(t *testing.T) {
	t.Helper()
	if tt.method == "" {
		tt.method = http.MethodGet
	}
	req, err := http.NewRequest(tt.method, tt.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range tt.header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s: %v", tt.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSuffix(string(body), "\n"); resp.StatusCode != tt.status || got != tt.reply {
		t.Errorf("%s: status %d, %s\nwant %d, %s", tt.name, resp.StatusCode, got, tt.status, tt.reply)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: content type is %q, Cache-Control %q", tt.name, kind, resp.Header.Get("Cache-Control"))
	}
}

// outages are what keeps a route from having a credential, and what its
// client is told.
func outages() []struct {
	name, words string
	err         error
	status      int
} {
	return []struct {
		name, words string
		err         error
		status      int
	}{
		{"down", "exchange ID token: down", fault.New(fault.Unreachable, errors.New("exchange ID token: down"), ""), http.StatusServiceUnavailable},
		{"refused", "exchange ID token: no", fault.New(fault.Refused, errors.New("exchange ID token: no"), ""), http.StatusForbidden},
		{"denied", "denied", fault.New(fault.Denied, errors.New("denied"), ""), http.StatusForbidden},
		{"a fault of the machine", "disk full", errors.New("disk full"), http.StatusServiceUnavailable},
	}
}

// testOutages asks a route that has no credential. The reply is a format of
// the status, where it has two places, and the words.
func testOutages(t *testing.T, r route.Route, url func(*broker.Broker) string, header func(*broker.Broker) map[string]string, reply func(status int, words string) string) {
	t.Helper()
	for _, out := range outages() {
		b := start(t, r, func(c *broker.Config) {
			c.Current = func(context.Context) (credential.Credential, error) { return credential.Credential{}, out.err }
		})
		askCase{name: out.name, url: url(b), header: header(b), status: out.status, reply: reply(out.status, "oidc-dbt: "+out.words)}.ask(t)
	}
}

var workspace = route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: "ACME.cloud.databricks.com", Port: 443}}

func TestDatabricksMetadata(t *testing.T) {
	t.Parallel()
	header := func(host string) map[string]string {
		return map[string]string{"X-Databricks-Metadata-Version": "1", "X-Databricks-Host": host}
	}
	good := header("https://acme.cloud.databricks.com")
	const (
		token    = `{"access_token":"marked-token","expires_on":4102444800,"token_type":"Bearer"}`
		stranger = `{"error":"oidc-dbt: the path does not belong to this run"}`
		another  = `{"error":"oidc-dbt: the token is for another X-Databricks-Host"}`
	)
	testAsk(t, workspace, func(b *broker.Broker) []askCase {
		url := b.Address().URL.Reveal()
		if want := "http://" + address(b) + "/" + b.Address().Secret.Reveal() + "/token"; url != want {
			t.Errorf("the URL is %s, want %s", url, want)
		}
		root := "http://" + address(b)
		return []askCase{
			{name: "good", url: url, header: good, status: 200, reply: token},
			{name: "a query", url: url + "?audience=other", header: good, status: 200, reply: token},
			{name: "only a host", url: url, header: header("acme.cloud.databricks.com"), status: 200, reply: token},
			{name: "its port", url: url, header: header("https://acme.cloud.databricks.com:443/"), status: 200, reply: token},
			{name: "another host", url: url, header: header("https://evil.cloud.databricks.com"), status: 403, reply: another},
			{name: "another port", url: url, header: header("https://acme.cloud.databricks.com:8443"), status: 403, reply: another},
			{name: "a host behind a login", url: url, header: header("https://acme.cloud.databricks.com@evil.example"), status: 403, reply: another},
			{name: "no host", url: url, header: header(""), status: 403, reply: another},
			{name: "what is no host", url: url, header: header("https://%zz"), status: 403, reply: another},
			{name: "no version", url: url, header: map[string]string{"X-Databricks-Host": "acme.cloud.databricks.com"}, status: 400, reply: `{"error":"oidc-dbt: want X-Databricks-Metadata-Version 1"}`},
			{name: "another version", url: url, header: map[string]string{"X-Databricks-Host": "acme.cloud.databricks.com", "X-Databricks-Metadata-Version": "2"}, status: 400, reply: `{"error":"oidc-dbt: want X-Databricks-Metadata-Version 1"}`},
			{name: "POST", method: http.MethodPost, url: url, header: good, status: 405, reply: `{"error":"oidc-dbt: want GET"}`},
			{name: "a guess", url: root + "/" + strings.Repeat("A", 43) + "/token", header: good, status: 401, reply: stranger},
			{name: "no segment", url: root + "/token", header: good, status: 401, reply: stranger},
			{name: "the secret's beginning", url: strings.Replace(url, "/token", "x/token", 1), header: good, status: 401, reply: stranger},
			{name: "only the secret", url: strings.TrimSuffix(url, "/token"), header: good, status: 401, reply: stranger},
			{name: "the secret as a bearer", url: root + "/token", header: map[string]string{"Authorization": "Bearer " + b.Address().Secret.Reveal()}, status: 401, reply: stranger},
			{name: "the root", url: root + "/", header: good, status: 401, reply: stranger},
		}
	})
	testOutages(t, workspace, func(b *broker.Broker) string { return b.Address().URL.Reveal() },
		func(*broker.Broker) map[string]string { return good },
		func(_ int, words string) string { return fmt.Sprintf(`{"error":%q}`, words) })
}
