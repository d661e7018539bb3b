package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// tokens are what a login consists of. The refresh token is for the issuer's
// token endpoint only; the ID token is what is exchanged; access tokens are by
// the scope that they were asked for.
type tokens struct {
	refresh, id secret.Value
	access      map[string]access
}

// sum identifies the ID token, or the access token for a scope.
func (t tokens) sum(scope string) string {
	if scope == "" {
		return t.id.SHA256()
	}
	return t.access[scope].token.SHA256()
}

// A refusal is the provider's own no. (RFC 6749, 5.2)
type refusal struct{ code, words string }

// Error implements error.
func (r refusal) Error() string { return r.words }

// maxToken bounds a token: Entra ID's with 200 groups are under 16 kB.
const maxToken = 64 << 10

// post sends a form of the client to one of the provider's endpoints, and
// returns the body of a reply with status 200. again says that what another try
// may cure is tried again; else such an error is marked. The error of a refusal is one.
func (a *Account) post(ctx context.Context, endpoint string, form url.Values, again bool, secrets ...secret.Value) ([]byte, error) {
	form.Set("client_id", a.id.ClientID)
	if a.atGoogle() && form.Has("grant_type") {
		form.Set("client_secret", a.id.ClientSecret)
	}
	try := func(ctx context.Context) ([]byte, error) { return a.send(ctx, endpoint, form.Encode(), secrets) }
	if !again {
		return try(ctx)
	}
	body, err := web.Retry(ctx, try)
	if err != nil && fault.ClassOf(err) == fault.Internal && !errors.As(err, new(refusal)) {
		err = unreachable(err)
	}
	return body, err
}

// atGoogle reports whether the provider is Google, whose flows differ.
func (a *Account) atGoogle() bool { return a.id.ClientSecret != "" }

// unreachable is the error of a request that no try has cured.
func unreachable(err error) error {
	return fault.New(fault.Unreachable, fmt.Errorf("ask the identity provider: %w", err), web.Hint(err))
}

func (a *Account) send(ctx context.Context, endpoint, form string, secrets []secret.Value) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form))
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return a.do(req, secrets)
}

// do sends a request, and returns the body of a reply with status 200.
func (a *Account) do(req *http.Request, secrets []secret.Value) ([]byte, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := a.env.HTTP.Do(req)
	if err != nil {
		return nil, web.Failed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, web.Failed(err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	code, words := wordsOf(resp.Header, body)
	if code != "" && (!web.Transient(resp.StatusCode) || answers(code)) {
		return nil, refusal{code, quoted(code, words, secrets)}
	}
	status := fmt.Errorf("status is %d, want 200", resp.StatusCode)
	if web.Transient(resp.StatusCode) {
		return nil, web.Temporary(status)
	}
	return nil, status
}

// wordsOf returns the code and the words of an error: OAuth's, or AWS's.
func wordsOf(header http.Header, body []byte) (code, words string) {
	var fields struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
		Type        string `json:"__type"`
		Message     string `json:"message"`
	}
	if json.Unmarshal(body, &fields) != nil || fields.Code != "" {
		return fields.Code, fields.Description
	}
	code, _, _ = strings.Cut(cmp.Or(header.Get("X-Amzn-Errortype"), fields.Type), ":")
	return code, fields.Message
}

// quoted are a provider's words, cut, and without a secret that it echoes.
func quoted(code, description string, secrets []secret.Value) string {
	text := exchange.Quoted(code, secrets)
	if description != "" {
		text += ": " + exchange.Quoted(description, secrets)
	}
	return text
}

// ClientPage has the settings of a client at each provider.
const ClientPage = "https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/identities/people.md"

// denied is the error of a provider that says no while the person signs in.
func denied(code, description string) error {
	return signInError(refusal{code, quoted(code, description, nil)})
}

// signInError gives a refusal its place.
func signInError(err error) error {
	var r refusal
	if !errors.As(err, &r) {
		return err
	}
	hint := ""
	switch {
	case r.code == codeDenied:
		hint = "you or an administrator have refused it: see what the provider says about the client's access"
	case strings.Contains(r.words, "AADSTS53003"), strings.Contains(r.words, "AADSTS530035"):
		hint = "a Conditional Access policy blocks this flow, often the device flow: try flow: browser"
	case r.code == "unauthorized_client", r.code == "invalid_client":
		hint = "client_id must name a client of the provider that is public (no secret) and may use this flow: see " + ClientPage
	case r.code == "invalid_scope":
		hint = "the client may not ask for one of the scopes: openid, profile, email, offline_access, and the policy's `scopes`"
	}
	return fault.New(fault.NoIdentity, fmt.Errorf("sign in: refused: %w", r), hint)
}

// grant asks the token endpoint for tokens. What is good of a reply without an
// ID token is returned with the error.
func (a *Account) grant(ctx context.Context, p provider, form url.Values, again bool, secrets ...secret.Value) (t tokens, err error) {
	body, err := a.post(ctx, p.Token, form, again, secrets...)
	if err != nil {
		return t, err
	}
	if t, err = readTokens(body); err == nil && t.id.IsZero() {
		err = fault.New(fault.Unreachable, errors.New("ask the identity provider: the reply has no ID token"),
			"let the client have the scope openid, and the provider give ID tokens with refreshed ones")
	}
	return t, err
}

// readTokens reads the refresh token and the ID token of a reply, of which each
// may be missing. The refresh token is read first: it is returned with the error
// of a reply whose other tokens are malformed, or no strings.
func readTokens(body []byte) (t tokens, err error) {
	var fields struct {
		ID      any `json:"id_token"`
		Refresh any `json:"refresh_token"`
		Access  any `json:"access_token"`
	}
	if json.Unmarshal(body, &fields) != nil {
		return t, fault.New(fault.Unreachable, errors.New("ask the identity provider: unexpected reply, want a JSON object"), "")
	}
	var access secret.Value
	for _, f := range []struct {
		value any
		to    *secret.Value
	}{{fields.Refresh, &t.refresh}, {fields.ID, &t.id}, {fields.Access, &access}} {
		text, ok := f.value.(string)
		v := secret.New(text)
		if !ok && f.value != nil || len(text) > maxToken || exchange.IsGarbled(v) {
			return t, fault.New(fault.Unreachable, errors.New("ask the identity provider: a token in the reply is malformed"), "")
		}
		if text != "" {
			*f.to = v
		}
	}
	return t, nil
}

// redeem exchanges the code of a browser. It is sent once: a provider may take
// a second time for an attack, and end what the first has given (RFC 6749, 4.1.2).
func (a *Account) redeem(ctx context.Context, p provider, code secret.Value, redirect, verifier string) (tokens, error) {
	t, err := a.grant(ctx, p, url.Values{
		"grant_type": {"authorization_code"}, "code": {code.Reveal()}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	}, false, code, secret.New(verifier))
	if err != nil && fault.ClassOf(err) == fault.Internal && !errors.As(err, new(refusal)) {
		return t, unreachable(err)
	}
	return t, signInError(err)
}

// refresh gets new tokens, with a scope an access token for that as well. A
// provider that does not rotate refresh tokens gives none, and the old one stays.
// A try that got no reply is made again: whether the token was used is not known,
// and it is all there is. A refresh token is returned with the error of a reply
// that is of no other use.
func (a *Account) refresh(ctx context.Context, kept tokens, scope string) (t tokens, err error) {
	if kept.refresh.IsZero() {
		return tokens{}, a.signedOut(fmt.Errorf("request ID token: the login of identity %q has expired, and has no refresh token", a.id.Name))
	}
	p, err := a.discover(ctx)
	if err != nil {
		return tokens{}, err
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {kept.refresh.Reveal()}}
	if scope == "" {
		if t, err = a.grant(ctx, p, form, true, kept.refresh); err != nil && t.refresh.IsZero() {
			return t, err
		}
		t.access = kept.access
	} else if t, err = a.access(ctx, p, form, kept, scope); err != nil && t.refresh.IsZero() {
		return t, err
	}
	if t.refresh.IsZero() {
		t.refresh = kept.refresh
	}
	if t.id.IsZero() {
		t.id = kept.id
	}
	return t, err
}

// revoke ends the login at the provider, and reports whether it offers that.
func (a *Account) revoke(ctx context.Context, kept tokens) (bool, error) {
	p, err := a.discover(ctx)
	if err != nil {
		return false, err
	}
	revoked, err := a.revokeAt(ctx, p, kept.refresh)
	if err != nil {
		return false, fault.New(fault.Unreachable, fmt.Errorf("revoke the refresh token: %w", err),
			"it is removed here, and valid until the provider ends it: end the session at the provider")
	}
	return revoked, nil
}

// revokeAt revokes a refresh token where the provider offers that. (RFC 7009)
func (a *Account) revokeAt(ctx context.Context, p provider, refresh secret.Value) (bool, error) {
	if p.Revoke == "" {
		return false, nil
	}
	_, err := a.post(ctx, p.Revoke, url.Values{"token": {refresh.Reveal()}, "token_type_hint": {"refresh_token"}}, true, refresh)
	return err == nil, err
}

// claimsOf reads an ID token that came from the issuer's own endpoint over
// TLS. It is verified before it is used for anything else.
func claimsOf(id secret.Value) idtoken.Unverified {
	claims, _ := idtoken.ParseUnverified([]byte(id.Reveal()))
	return claims
}

// seconds reads a time of a token, zero where it has none.
func seconds(v any) time.Time {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}
	}
	s, err := n.Float64()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}
