package broker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// TestProxyPatience: a provider that hangs is told of before the client hangs up.
func TestProxyPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &Broker{config: Config{
			Route: route.Route{Upstream: route.Upstream{Host: "trino.example", Port: 443}},
			Current: func(ctx context.Context) (credential.Credential, error) {
				<-ctx.Done()
				return credential.Credential{}, context.Cause(ctx)
			},
		}}
		proxy, err := b.proxy(passing{
			login:    func(*http.Request, credential.Credential) { t.Error("there is nothing to log in with") },
			patience: proxyPatience, fail: brokerError,
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w := httptest.NewRecorder()
		proxy.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/statement", nil))
		if took := time.Since(began); took != 25*time.Second || w.Code != http.StatusInternalServerError || w.Body.String() != "oidc-dbt: not available after 25s\n" {
			t.Errorf("after %s: status %d, %s", took, w.Code, w.Body)
		}
	})
}

// FuzzTrinoURI: every URI of the warehouse is rewritten to one that leads to the
// proxy and is otherwise the same.
func FuzzTrinoURI(f *testing.F) {
	for _, uri := range []string{
		"https://trino.example/v1/statement/x?slug=a%2Fb", "https://TRINO.example:443/v1/statement/x", "https://trino.example:8443/v1/statement/x", "http://trino.example/v1/statement/x",
		"https://trino.example@evil.example/v1/statement/x", `https://trino.example\@evil.example/v1/statement/x`, "https://trino.example/v1/statement/../../x", "https://trino.example//evil.example/v1/statement/",
		"//trino.example/v1/statement/x", "https://trino.example/v1/statement/x#y", "https://trino.example/v1/statement/\u0085 \"?a b", "https:trino.example/v1/statement/x",
	} {
		f.Add(uri)
	}
	u := uriRewriter{origin: "https://trino.example:443", under: statements + "/", base: "https://127.0.0.1:20001"}
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := u.rewrite("nextUri", uri)
		if err != nil {
			return
		}
		before, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		after, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q became %q: %v", uri, got, err)
		}
		if after.Scheme != "https" || after.Host != "127.0.0.1:20001" || after.User != nil || !strings.HasPrefix(after.Path, "/v1/statement/") {
			t.Errorf("%q became %q", uri, got)
		}
		if after.Path != before.Path || after.RawQuery != before.RawQuery || !strings.EqualFold(before.Hostname(), "trino.example") {
			t.Errorf("%q became %q", uri, got)
		}
	})
}
