package provider

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// The names of grants and tokens that OAuth servers know.
const (
	tokenExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"        // RFC 8693 §2.1
	jwtBearer       = "urn:ietf:params:oauth:grant-type:jwt-bearer"            // RFC 7523 §2.1
	clientAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2
	jwtToken        = "urn:ietf:params:oauth:token-type:jwt"                   // RFC 8693 §3
	accessToken     = "urn:ietf:params:oauth:token-type:access_token"
)

// A tokenRequest asks an OAuth 2.0 token endpoint for an access token, with
// the ID token for proof. (RFC 6749 §4.4 and §4.5, RFC 7523 §2, RFC 8693 §2.1)
//
// golang.org/x/oauth2 is not used: it cuts a reply that is too large, takes one
// without an expiry for a token that never expires, clamps an absurd expiry to
// 68 years, and has no grants but those of RFC 6749.
type tokenRequest struct {
	service string   // who is asked, for errors
	url     string   // https, or http on loopback
	idToken []string // the parameters that the ID token is sent as
	form    url.Values
	hint    func(code, description string) string
	keys    func(description string) bool // as a call's
	busy    func(description string) bool // as a call's
}

// send returns the access token as a credential, or an error of class Refused
// or Unreachable. Its ID is to be set.
func (t tokenRequest) send(ctx context.Context, env exchange.Env, idToken secret.Value) (credential.Credential, error) {
	form := maps.Clone(t.form)
	for _, parameter := range t.idToken {
		form.Set(parameter, idToken.Reveal())
	}
	reply, sent, err := call{
		service: t.service, url: t.url, body: form.Encode(),
		header:  http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
		secrets: []secret.Value{idToken}, hint: t.hint, keys: t.keys, busy: t.busy,
	}.do(ctx, env)
	if err != nil {
		return credential.Credential{}, err
	}
	return exchange.ReadToken(t.service, reply, sent, idToken)
}

// A call is a POST to a service that replies in JSON.
type call struct {
	service string // who is called, for errors
	url     string
	header  http.Header
	body    string
	secrets []secret.Value // what header and body hold of secrets
	hint    func(code, message string) string
	keys    func(message string) bool // the service could not get the issuer's keys in time; nil where it does not say so
	busy    func(message string) bool // the service says in words of its own that it is busy; nil where it does not
}

// A reply is a whole one, with status 200.
type reply struct {
	body []byte
	sent time.Time // when the request was
}

// do returns the body of a reply with status 200 and when its request was
// sent, or an error of class Refused or Unreachable. What another try may cure
// is tried again.
func (c call) do(ctx context.Context, env exchange.Env) ([]byte, time.Time, error) {
	r, err := web.Retry(ctx, func(ctx context.Context) (reply, error) { return c.try(ctx, env) })
	return r.body, r.sent, err
}

func (c call) try(ctx context.Context, env exchange.Env) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(c.body))
	if err != nil {
		return reply{}, errors.New("create the request: not a URL") // a bug: the policy was checked
	}
	req.Header = c.header.Clone()
	sent := env.Now()
	resp, err := env.HTTP.Do(req)
	if err != nil {
		return reply{}, exchange.NoReply(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, exchange.NoReply(err)
	}
	if resp.StatusCode == http.StatusOK {
		return reply{body, sent}, nil
	}
	code, message := errorReply(body)
	switch {
	case code == "": // not the service's own no: a proxy's, or another server's
		return reply{}, exchange.Replied(c.service, resp.StatusCode)
	case c.keys != nil && c.keys(message):
		return reply{}, web.Temporary(exchange.IssuerUnreachable(c.service, message, c.secrets))
	case web.Transient(resp.StatusCode), slices.Contains(busy, code), c.busy != nil && c.busy(message):
		return reply{}, web.Temporary(exchange.Unreachable("%s replied with status %d: %s", c.service, resp.StatusCode,
			exchange.Quoted(code, c.secrets)))
	}
	return reply{}, exchange.Refused(code, message, c.hint(code, message), c.secrets...)
}

// busy are codes of temporary faults, with any status. (RFC 6749 §4.1.2.1, RFC
// 8628 §3.5; Databricks REST API: error codes)
var busy = []string{
	"temporarily_unavailable", "server_error", "slow_down",
	"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL_ERROR", "DEADLINE_EXCEEDED", "ABORTED",
}

// errorReply returns what an error reply says, "" for what it does not:
// OAuth's words (RFC 6749 §5.2) or, of Databricks, also its API's.
func errorReply(body []byte) (code, message string) {
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		return "", ""
	}
	first := func(names ...string) string {
		for _, name := range names {
			if s, ok := fields[name].(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	return first("error", "errorCode", "error_code"), first("error_description", "errorSummary", "message")
}
