package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// inlineResult is as much of a result as a reply has, and more: Snowflake puts
// what is over about a megabyte into cloud storage.
const inlineResult = 16 << 20

// BenchmarkSnowflake compares the proxy with a direct connection with TLS: a
// login by each kind of credential, a short statement, and a large reply that
// the client decodes.
func BenchmarkSnowflake(b *testing.B) {
	account, r := startSnowflake(b)
	account.large = fmt.Appendf(nil, `{"success":true,"data":{"rowsetBase64":%q}}`, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789ab"), inlineResult/16)))
	roots := x509.NewCertPool()
	roots.AddCert(account.Certificate())
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}}
	local := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	byIDToken := start(b, r, idToken)
	byKeyPair := start(b, r, func(c *broker.Config) {
		pair := credential.Credential{Kind: "key_pair", User: "V_DBT_1", PrivateKey: keyPair(b, rsaKey()), Expiry: time.Now().Add(time.Hour)}
		c.Current = func(context.Context) (credential.Credential, error) { return pair, nil }
	})
	for _, way := range []struct {
		name   string
		client *http.Client
		base   string
		token  string
	}{
		{"direct", direct, account.URL, "any"},
		{"proxy", local, "http://" + address(byIDToken), byIDToken.Address().Secret.Reveal()},
		{"proxy with a key pair", local, "http://" + address(byKeyPair), byKeyPair.Address().Secret.Reveal()},
	} {
		login := []byte(loginBody(way.token))
		b.Run("login/"+way.name, func(b *testing.B) {
			for b.Loop() {
				postSnowflake(b, way.client, way.base+"/session/v1/login-request", "", login)
			}
		})
		if way.name == "proxy with a key pair" {
			continue // after the login they are one
		}
		session := fmt.Sprintf("Snowflake Token=%q", postSnowflake(b, way.client, way.base+"/session/v1/login-request", "", login).Data["token"])
		b.Run("round trip/"+way.name, func(b *testing.B) {
			for b.Loop() {
				postSnowflake(b, way.client, way.base+"/queries/v1/query-request?requestId=1", session, []byte(`{"sqlText": "select 1"}`))
			}
		})
		b.Run("large reply/"+way.name, func(b *testing.B) {
			b.SetBytes(inlineResult)
			for b.Loop() {
				postSnowflake(b, way.client, way.base+"/large", session, nil)
			}
		})
	}
}

// postSnowflake sends a body and returns the reply, which must be a success.
func postSnowflake(b *testing.B, client *http.Client, url, session string, body []byte) snowflakeReply {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if session != "" {
		req.Header.Set("Authorization", session)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var reply snowflakeReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || !reply.Success {
		b.Fatalf("status %d, %+v, %v", resp.StatusCode, reply, err)
	}
	return reply
}
