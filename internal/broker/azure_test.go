package broker_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

func TestAzureManagedIdentity(t *testing.T) {
	t.Parallel()
	identity := route.Route{Kind: route.AzureManagedIdentity}
	url := func(b *broker.Broker) string {
		return "http://" + address(b) + "/token?api-version=2019-08-01&resource=https://database.windows.net"
	}
	header := func(b *broker.Broker) map[string]string {
		return map[string]string{"X-IDENTITY-HEADER": b.Address().Secret.Reveal(), "Metadata": "true"}
	}
	const stranger = `{"message":"oidc-dbt: the identity header does not belong to this run","statusCode":401}`
	testAsk(t, identity, func(b *broker.Broker) []askCase {
		return []askCase{
			{name: "good", url: url(b), header: header(b), status: 200,
				reply: `{"access_token":"marked-token","expires_on":"4102444800","resource":"https://database.windows.net","token_type":"Bearer"}`},
			{name: "another identity", url: "http://" + address(b) + "/?client_id=other", header: header(b), status: 200,
				reply: `{"access_token":"marked-token","expires_on":"4102444800","resource":"","token_type":"Bearer"}`},
			{name: "POST", method: http.MethodPost, url: url(b), header: header(b), status: 405, reply: `{"message":"oidc-dbt: want GET","statusCode":405}`},
			{name: "no header", url: url(b), status: 401, reply: stranger},
			{name: "a guess", url: url(b), header: map[string]string{"X-IDENTITY-HEADER": "guess"}, status: 401, reply: stranger},
			{name: "the secret as a bearer", url: url(b), header: map[string]string{"Authorization": "Bearer " + b.Address().Secret.Reveal()}, status: 401, reply: stranger},
		}
	})
	testOutages(t, identity, url, header, func(status int, words string) string {
		return fmt.Sprintf(`{"message":%q,"statusCode":%d}`, words, status)
	})
}

func TestFederatedTokenURL(t *testing.T) {
	t.Parallel()
	federated := route.Route{Kind: route.FederatedTokenURL, IDToken: true}
	url := func(b *broker.Broker) string { return "http://" + address(b) + "/token" }
	header := func(b *broker.Broker) map[string]string {
		return map[string]string{"Authorization": "Bearer " + b.Address().Secret.Reveal()}
	}
	const stranger = `{"message":"oidc-dbt: the bearer token does not belong to this run"}`
	testAsk(t, federated, func(b *broker.Broker) []askCase {
		return []askCase{
			{name: "good", url: url(b), header: header(b), status: 200, reply: `{"value":"marked-token"}`},
			{name: "another audience", url: url(b) + "?audience=sts.amazonaws.com", header: header(b), status: 200, reply: `{"value":"marked-token"}`},
			{name: "POST", method: http.MethodPost, url: url(b), header: header(b), status: 405, reply: `{"message":"oidc-dbt: want GET"}`},
			{name: "no bearer", url: url(b), status: 401, reply: stranger},
			{name: "the secret without its scheme", url: url(b), header: map[string]string{"Authorization": b.Address().Secret.Reveal()}, status: 401, reply: stranger},
			{name: "a guess", url: url(b), header: map[string]string{"Authorization": "Bearer guess"}, status: 401, reply: stranger},
		}
	})
	testOutages(t, federated, url, header, func(_ int, words string) string { return fmt.Sprintf(`{"message":%q}`, words) })
}

// TestTokenFiles: the file always has an ID token that is valid for a while, and
// only the user can read it.
func TestTokenFiles(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]route.Route{
		"azure-federated-token": {Kind: route.AzureTokenFile, IDToken: true},
		"snowflake-token":       {Kind: route.SnowflakeTokenFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTokenFile(t, r, name)
		})
	}
}

func testTokenFile(t *testing.T, r route.Route, name string) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const life = 5 * time.Minute
		var issued atomic.Int64
		next := func(context.Context) (credential.Credential, error) {
			issued.Add(1)
			expiry := time.Now().Add(life)
			return credential.Credential{Kind: "id_token", Token: secret.New(expiry.Format(time.RFC3339Nano)), Expiry: expiry}, nil
		}
		first, _ := next(t.Context())
		keeper := broker.NewKeeper(first, keeps(next, time.Now))
		b := start(t, r, func(c *broker.Config) {
			c.Dir, c.Current, c.Failed = dir, keeper.Current, func(err error) { t.Error(err) }
		})
		path := b.Address().File
		if path != filepath.Join(dir, name) || b.Address().Port != 0 {
			t.Fatalf("the route is at %+v", b.Address())
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v, %v", info.Mode(), err)
		}
		for range 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if expiry, err := time.Parse(time.RFC3339Nano, string(text)); err != nil || time.Until(expiry) < time.Minute {
				t.Fatalf("the token in the file expires at %q, and it is %s", text, time.Now().Format(time.RFC3339))
			}
		}
		if n := issued.Load(); n < 15 || n > 30 {
			t.Errorf("%d tokens in an hour", n)
		}
		b.Close()
	})
}
