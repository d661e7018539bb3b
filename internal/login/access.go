package login

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// An access is an access token of the person.
type access struct {
	token           secret.Value
	issued, expires time.Time
}

// AccessToken returns a current access token for a scope, or for several with
// spaces between them, and when it expires. Processes share it as they share the
// ID token of Token. Errors are of class NoIdentity where the person must sign in
// again, Refused where the provider does not give the scope to this client or
// person, Unreachable where its reply is of no use.
func (a *Account) AccessToken(ctx context.Context, scope string) (secret.Value, time.Time, error) {
	t, err := a.current(ctx, scope)
	return t.access[scope].token, t.access[scope].expires, err
}

// idp is what errors call the provider.
const idp = "the identity provider"

// access asks for an access token. (RFC 6749, 6) The refresh token of the reply
// is returned with the error where the rest is of no use.
func (a *Account) access(ctx context.Context, p provider, form url.Values, kept tokens, scope string) (t tokens, err error) {
	// Without openid some providers give no ID token, and without
	// offline_access no next refresh token.
	list := []string{"openid"}
	if slices.Contains(scopes(a.id, p), "offline_access") {
		list = append(list, "offline_access")
	}
	form.Set("scope", strings.Join(append(list, scope), " "))
	sent := a.env.Now()
	body, err := a.post(ctx, p.Token, form, true, kept.refresh, kept.id)
	if err != nil {
		return t, err
	}
	if t, err = readTokens(body); err != nil {
		return t, err
	}
	c, err := exchange.ReadToken(idp, body, sent, kept.refresh)
	if err == nil {
		err = exchange.Usable(c, a.env.Now())
	}
	if err == nil {
		err = a.checkAccess(c.Token, t.id, body, scope)
	}
	if err != nil {
		return t, fault.New(fault.ClassOf(err), fmt.Errorf("refresh the login of identity %q: %w", a.id.Name, err), fault.Hint(err))
	}
	t.access = a.others(kept.access)
	t.access[scope] = access{token: c.Token, issued: sent, expires: c.Expiry}
	return t, nil
}

// checkAccess refuses what is not the access token that was asked for.
func (a *Account) checkAccess(token, id secret.Value, body []byte, scope string) error {
	var fields struct {
		Scope *string `json:"scope"` // left out where it is what was asked for (RFC 6749, 5.1)
	}
	switch err := json.Unmarshal(body, &fields); {
	case err != nil:
		return exchange.Foreign(idp, "unexpected reply from %s", idp)
	case token.SHA256() == id.SHA256():
		return exchange.Unreachable("the access token in the reply is an ID token, which no warehouse must get as a bearer")
	case fields.Scope == nil:
		return nil
	}
	granted := strings.Fields(*fields.Scope)
	for _, want := range strings.Fields(scope) {
		if !slices.ContainsFunc(granted, func(s string) bool { return gives(s, want) }) {
			return fault.New(fault.Refused, fmt.Errorf("the access token has the scopes %s, want %q",
				exchange.Quoted(*fields.Scope, []secret.Value{token, id}), want), a.scopeHint(want))
		}
	}
	return nil
}

// gives reports whether a granted scope is what was asked for. Entra ID names
// in the place of RESOURCE/.default the permissions that it stands for.
func gives(granted, want string) bool {
	resource, all := strings.CutSuffix(want, "/.default")
	return granted == want || all && strings.HasPrefix(granted, strings.TrimSuffix(resource, "/")+"/")
}

func (a *Account) scopeHint(scope string) string {
	return fmt.Sprintf("let the client %q at %s have the scope %s, add it to the `scopes` of identity %q unless the provider is Entra ID, "+
		"and sign in again: oidc-dbt login %s", a.id.ClientID, a.id.Issuer, scope, a.id.Name, a.id.Name)
}

// refused is the error of a refresh that the provider refuses. Where that is
// because of the scope, no sign-in helps.
func (a *Account) refused(r refusal, scope string) error {
	err := fmt.Errorf("refresh the login of identity %q: %w", a.id.Name, r)
	switch {
	case scope == "":
	case r.code == "invalid_scope", r.code == "unauthorized_client":
		return fault.New(fault.Refused, err, a.scopeHint(scope))
	case r.code == "invalid_target", strings.Contains(r.words, "AADSTS500011"), strings.Contains(r.words, "AADSTS650057"):
		return fault.New(fault.Refused, err, fmt.Sprintf("give the client %q the delegated permission for the resource of scope %s",
			a.id.ClientID, scope))
	case r.code == "consent_required", strings.Contains(r.words, "AADSTS65001"):
		return fault.New(fault.Refused, err, fmt.Sprintf("an administrator must consent to the permissions of client %q for scope %s",
			a.id.ClientID, scope))
	}
	return a.signedOut(err)
}

// maxScopes bounds the access tokens of a login: a policy has few warehouses.
const maxScopes = 4

// others returns the access tokens that are still of use next to a new one.
func (a *Account) others(kept map[string]access) map[string]access {
	list := maps.Clone(kept)
	if list == nil {
		list = map[string]access{}
	}
	maps.DeleteFunc(list, func(_ string, t access) bool { return !a.env.Now().Before(t.expires) })
	if len(list) >= maxScopes {
		clear(list)
	}
	return list
}
