package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// AWS IAM Identity Center signs people in by OAuth, with JSON in the place of
// forms and a client that registers itself, and gives no ID token: its access
// token, which is opaque, gives the keys of a role, and for these STS signs a
// token. (IAM Identity Center OIDC API Reference; AWS CLI, sso/utils.py)

// accountAccess is the scope for the keys of roles.
const accountAccess = "sso:account:access"

// A session is a person's at IAM Identity Center.
type session struct {
	access, refresh secret.Value
	expiry          time.Time
	client          registration
	place           string // the file that it is in; "" for none
}

// A registration is a client of IAM Identity Center. It is public: the secret
// only proves that who refreshes is who registered.
type registration struct {
	id     string
	secret secret.Value
	expiry time.Time
	grants []string // none of a client for the device flow, as the AWS CLI registers it
}

// early is how long before its end a session is refreshed, and a client
// registered anew, as the AWS CLI does.
const early = 15 * time.Minute

// AWSHosts are those that a login with `aws_sso` sends something to.
func AWSHosts(sso policy.AWSSSO) (hosts []string) {
	for _, service := range []string{"oidc", "portal.sso", "sts"} {
		if u, err := url.Parse(awsURL(sso, service)); err == nil && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

func (a *Account) awsURL(service string) string { return awsURL(*a.id.AWSSSO, service) }

// awsURL is the address of a service of AWS; in each partition its domain is that of STS.
func awsURL(sso policy.AWSSSO, service string) string {
	if sso.Endpoint != "" {
		return strings.TrimSuffix(sso.Endpoint, "/")
	}
	return strings.Replace(exchange.STSURL(sso.Region), "//sts.", "//"+service+".", 1)
}

// signInAtAWS signs the person in, and keeps the session where the AWS CLI finds it.
func (a *Account) signInAtAWS(ctx context.Context, v *idtoken.Verifier, device bool, store string) (claims idtoken.Claims, err error) {
	flow := a.byAWSBrowser
	if device {
		flow = a.byAWSDevice
	}
	client, err := a.register(ctx, device, store)
	if err != nil {
		return claims, err
	}
	err = flow(ctx, client, func(s session) error {
		k, err := a.roleOf(ctx, s)
		if err != nil {
			return err
		}
		token, err := a.caller(k).WebIdentityToken(ctx, a.id.Audience)
		if err != nil {
			return err
		}
		if claims, err = v.Verify(ctx, token, a.id.Audience); err != nil {
			return err
		}
		return a.keepSession(ctx, s, store, claims.Subject())
	})
	var refused refusal
	if errors.As(err, &refused) && refused.code == "invalid_client" {
		a.forgetClient()
		err = fault.New(fault.NoIdentity, fmt.Errorf("sign in: refused: %w", refused),
			"the client's registration has ended: sign in again, and another one is registered")
	}
	return claims, err
}

// byAWSBrowser is the browser flow with PKCE. The redirect is registered without
// a port, as RFC 8252, 7.3, allows any.
func (a *Account) byAWSBrowser(ctx context.Context, client registration, finish func(session) error) error {
	verifier := oauth2.GenerateVerifier()
	v := visit{path: "/oauth/callback", address: func(redirect, state string) string {
		return a.awsURL("oidc") + "/authorize?" + url.Values{
			"response_type": {"code"}, "client_id": {client.id}, "redirect_uri": {redirect}, "state": {state},
			"code_challenge_method": {"S256"}, "code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "scopes": {accountAccess},
		}.Encode()
	}}
	return a.visit(ctx, v, func(code secret.Value, redirect string) error {
		s, err := a.createToken(ctx, client, map[string]any{
			"grantType": "authorization_code", "code": code.Reveal(), "redirectUri": redirect, "codeVerifier": verifier,
		}, code, secret.New(verifier))
		if err != nil {
			return signInError(err)
		}
		return finish(s)
	})
}

// byAWSDevice is the device flow.
func (a *Account) byAWSDevice(ctx context.Context, client registration, finish func(session) error) error {
	sent := a.env.Now()
	var reply struct {
		DeviceCode      string  `json:"deviceCode"`
		UserCode        string  `json:"userCode"`
		VerificationURI string  `json:"verificationUri"`
		Complete        string  `json:"verificationUriComplete"`
		ExpiresIn       float64 `json:"expiresIn"`
		Interval        float64 `json:"interval"`
	}
	err := a.callOIDC(ctx, "/device_authorization", client, map[string]any{"startUrl": a.id.AWSSSO.StartURL}, &reply)
	if err != nil {
		return signInError(err)
	}
	d, err := a.readDevice(deviceReply{
		DeviceCode: reply.DeviceCode, UserCode: reply.UserCode, Where: reply.VerificationURI, Complete: reply.Complete,
		ExpiresIn: reply.ExpiresIn, Interval: reply.Interval,
	}, sent)
	if err != nil {
		return err
	}
	a.showCode(d)
	var s session
	err = a.poll(ctx, d, func() (err error) {
		s, err = a.createToken(ctx, client, map[string]any{"grantType": deviceGrant, "deviceCode": d.code.Reveal()}, d.code)
		return err
	})
	if err != nil {
		return err
	}
	return finish(s)
}

// register returns a client that may use a flow: the one of before, while it is good.
func (a *Account) register(ctx context.Context, device bool, store string) (r registration, err error) {
	r, err = a.readClient()
	if lives := a.env.Now().Before(r.expiry.Add(-early)); err == nil && lives && device == (len(r.grants) == 0) {
		return r, nil
	}
	in := map[string]any{"clientName": "oidc-dbt", "clientType": "public", "scopes": []string{accountAccess}}
	if !device {
		r.grants = []string{"authorization_code", "refresh_token"}
		in["grantTypes"], in["redirectUris"] = r.grants, []string{"http://127.0.0.1/oauth/callback"}
		in["issuerUrl"] = a.id.AWSSSO.StartURL
	} else {
		r.grants = nil
	}
	var reply struct {
		ID      string `json:"clientId"`
		Secret  string `json:"clientSecret"`
		Expires int64  `json:"clientSecretExpiresAt"`
	}
	if err := a.callOIDC(ctx, "/client/register", registration{}, in, &reply); err != nil {
		return r, signInError(err)
	}
	r.id, r.secret, r.expiry = reply.ID, secret.New(reply.Secret), time.Unix(reply.Expires, 0)
	if r.id == "" || r.secret.IsZero() || exchange.IsGarbled(r.secret) || !a.env.Now().Before(r.expiry) {
		return r, fault.New(fault.Unreachable, errors.New("sign in: the provider's reply has no client that can be used"), "")
	}
	if store == Memory {
		return r, nil
	}
	return r, a.writeClient(r)
}

// createToken has IAM Identity Center give a session. It is asked once: what it
// is given may count once.
func (a *Account) createToken(ctx context.Context, client registration, in map[string]any,
	secrets ...secret.Value) (s session, err error) {
	sent := a.env.Now()
	var reply struct {
		Access    string `json:"accessToken"`
		Refresh   string `json:"refreshToken"`
		ExpiresIn int64  `json:"expiresIn"`
	}
	if err := a.callOIDC(ctx, "/token", client, in, &reply, secrets...); err != nil {
		return s, err
	}
	s = session{access: secret.New(reply.Access), expiry: sent.Add(time.Duration(reply.ExpiresIn) * time.Second), client: client}
	if reply.Refresh != "" {
		s.refresh = secret.New(reply.Refresh)
	}
	bad := reply.Access == "" || len(reply.Access)+len(reply.Refresh) > maxToken ||
		exchange.IsGarbled(s.access) || exchange.IsGarbled(s.refresh)
	if bad || reply.ExpiresIn <= 0 || s.expiry.Sub(sent) > exchange.LongestLife {
		return session{}, fault.New(fault.Unreachable, errors.New("sign in: the provider's reply has no session that can be used"), "")
	}
	return s, nil
}

// callOIDC sends JSON to the OIDC service, for a client unless it is zero. The
// error of a refusal is one; what another try may cure is marked.
func (a *Account) callOIDC(ctx context.Context, path string, client registration, in map[string]any, out any,
	secrets ...secret.Value) error {
	if client.id != "" {
		in["clientId"], in["clientSecret"] = client.id, client.secret.Reveal()
		secrets = append(secrets, client.secret)
	}
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.awsURL("oidc")+path, bytes.NewReader(text))
	if err != nil {
		return errors.New("not a URL")
	}
	req.Header.Set("Content-Type", "application/json")
	body, err := a.do(req, secrets)
	switch {
	case web.IsTemporary(err) && in["grantType"] == deviceGrant: // asked again
		return err
	case err != nil && fault.ClassOf(err) == fault.Internal && !errors.As(err, new(refusal)):
		return fault.New(fault.Unreachable, fmt.Errorf("ask IAM Identity Center: %w", err), web.Hint(err))
	case err != nil:
		return err
	case json.Unmarshal(body, out) != nil:
		return fault.New(fault.Unreachable, errors.New("ask IAM Identity Center: unexpected reply, want a JSON object"), "")
	}
	return nil
}

// currentSession returns a session that lives, refreshed where its end is near.
// Of processes that ask at the same time one refreshes.
func (a *Account) currentSession(ctx context.Context) (s session, err error) {
	if a.session != nil {
		if s, err = a.refreshSession(ctx, *a.session); err == nil {
			a.session = &s
		}
		return s, err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return s, err
	}
	defer unlock()
	if s, err = a.cached(); err != nil {
		return s, err
	}
	next, err := a.refreshSession(ctx, s)
	if Away(err) { // the AWS CLI, which does not know of the lock, may have refreshed meanwhile
		if other, rerr := a.cached(); rerr == nil && other.access.SHA256() != s.access.SHA256() {
			return a.refreshSession(ctx, other)
		}
	}
	return next, err
}

// refreshSession returns the session itself while it is long enough, or while it
// lives and cannot be refreshed. A refreshed one replaces it in its file: the
// refresh token of before may not count any more, for no tool.
func (a *Account) refreshSession(ctx context.Context, s session) (session, error) {
	now := a.env.Now()
	if s.expiry.Sub(now) >= early {
		return s, nil
	}
	lives := s.expiry.Sub(now) > time.Minute
	if s.refresh.IsZero() || s.client.id == "" || !now.Before(s.client.expiry) {
		if lives {
			return s, nil
		}
		return s, a.signedOut(fmt.Errorf("request role credentials: the session of identity %q has ended at %s", a.id.Name,
			s.expiry.UTC().Format(time.RFC3339)))
	}
	next, err := a.exchangeRefresh(ctx, s)
	var refused refusal
	switch {
	case err != nil && lives:
		return s, nil
	case errors.As(err, &refused):
		return s, a.signedOut(fmt.Errorf("refresh the login of identity %q: %w", a.id.Name, refused))
	case err != nil:
		return s, err
	}
	if next.place = s.place; next.refresh.IsZero() {
		next.refresh = s.refresh
	}
	if s.place == "" {
		return next, nil
	}
	return next, a.replaceSession(s, next)
}

// exchangeRefresh gets the next session for the refresh token of one, where it
// can be stored: for every tool the one of before may be over.
func (a *Account) exchangeRefresh(ctx context.Context, s session) (session, error) {
	if s.place != "" {
		if err := disk.Room(s.place, maxCached); err != nil {
			return s, fault.New(fault.Internal,
				fmt.Errorf("refresh the login of identity %q: what comes of it could not be stored: %w", a.id.Name, err),
				"free some disk space, or let the AWS CLI's cache be writable; nothing was asked for, and the login is as it was")
		}
	}
	return a.createToken(ctx, s.client, map[string]any{"grantType": "refresh_token", "refreshToken": s.refresh.Reveal()}, s.refresh)
}

// signOutOfAWS ends the session, and removes it, where this program has written
// it: else it is the AWS CLI's, and other tools'.
func (a *Account) signOutOfAWS(ctx context.Context) (was, revoked bool, err error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return false, false, err
	}
	defer unlock()
	n, nerr := a.note()
	s, err := a.cached()
	switch {
	case err != nil: // it is gone already
		return nerr == nil, false, a.removeNote()
	case nerr != nil || !a.isOurs(n, s):
		return true, false, errors.Join(a.removeNote(), fault.New(fault.Usage,
			fmt.Errorf("sign out of identity %q: the session in %q is the AWS CLI's", a.id.Name, s.place),
			"end it with the tool that has begun it: aws sso logout"))
	}
	var refused refusal
	_, err = a.portal(ctx, http.MethodPost, "/logout", s)
	if errors.As(err, &refused) {
		err = nil // it has ended
	}
	return true, err == nil, errors.Join(err, a.removeSession(s), a.removeNote())
}
