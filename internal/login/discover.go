package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A provider is what an identity provider says of itself. (OpenID Connect
// Discovery 1.0, 3; RFC 8414, 2; RFC 9207, 3)
type provider struct {
	Issuer      string   `json:"issuer"`
	Authorize   string   `json:"authorization_endpoint"`
	Token       string   `json:"token_endpoint"`
	Device      string   `json:"device_authorization_endpoint"`
	Revoke      string   `json:"revocation_endpoint"`
	NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
	Challenges  []string `json:"code_challenge_methods_supported"`
	Scopes      []string `json:"scopes_supported"`
}

// discover reads the provider's own description. It must name the issuer of
// the policy: the endpoints get tokens.
func (a *Account) discover(ctx context.Context) (p provider, err error) {
	where := strings.TrimSuffix(a.id.Issuer, "/") + "/.well-known/openid-configuration"
	failed := func(class fault.Class, err error, hint string) (provider, error) {
		return provider{}, fault.New(class, fmt.Errorf("discover identity provider %q: %w", a.id.Issuer, err), hint)
	}
	_, err = web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, web.GetJSON(ctx, a.env.HTTP, where, &p)
	})
	if err != nil {
		return failed(fault.Unreachable, err,
			cmp.Or(web.Hint(err), "check the policy's issuer: a browser must show the provider's settings at "+where))
	}
	if p.Issuer != a.id.Issuer {
		return failed(fault.Rejected, fmt.Errorf("its discovery document names issuer %q", p.Issuer),
			"the issuer in the policy's `identities` must match the provider's exactly")
	}
	for name, address := range map[string]string{"token_endpoint": p.Token, "authorization_endpoint": p.Authorize,
		"device_authorization_endpoint": p.Device, "revocation_endpoint": p.Revoke} {
		if address == "" && name != "token_endpoint" {
			continue
		}
		if err := a.checkEndpoint(address); err != nil {
			return failed(fault.Unreachable, fmt.Errorf("%s of its discovery document: %w", name, err), "")
		}
	}
	if len(p.Challenges) > 0 && !slices.Contains(p.Challenges, "S256") {
		return failed(fault.Unreachable, errors.New("it offers no PKCE with S256, without which a code could be stolen"),
			"let the provider's administrator allow S256 for this client")
	}
	return p, nil
}

// checkEndpoint refuses an address that is not as safe as the issuer's. A query
// is the provider's own, for a tenant's policy.
func (a *Account) checkEndpoint(address string) error {
	base, _, _ := strings.Cut(address, "?")
	u, err := web.CheckURL(base)
	if err != nil {
		return err
	}
	if issuer, err := url.Parse(a.id.Issuer); err != nil || u.Scheme != "https" && issuer.Scheme == "https" {
		return errors.New("scheme is \"http\", and the issuer's is \"https\"")
	}
	return nil
}
