package provider

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// loginProvider takes the person's own login in the place of the ID token: an
// access token for the warehouse, which the refresh token of the sign-in gets,
// or the session of a role in IAM Identity Center. The ID token has decided
// before who the person is, and goes nowhere. (RFC 6749 §6; Snowflake: External
// OAuth; Microsoft identity platform: Refresh tokens, for many resources)
var loginProvider = provider{
	spec: policy.Provider{
		Doc: "A person's own login: an access token for the warehouse, or a role in IAM Identity Center.",
		Keys: []policy.Key{
			{Name: "scope", Example: "session:role:ANALYST",
				Check: exchange.Matching(scopeList, 1, 1000, "OAuth scopes separated by single spaces"),
				Doc: "What the access token is for (default: in Azure that of dbt's `type`, for snowflake session:role: and " +
					"the output's role)."},
			{Name: "region", Example: "eu-central-1", Check: exchange.Matching(region, 1, 32, "a region such as eu-central-1"),
				Doc: "With aws_sso: the warehouse's region (default: for redshift that of its host, else that of aws_sso)."},
			{Name: "redshift_endpoint", Example: "https://redshift.eu-central-1.amazonaws.com", Check: exchange.CheckURL,
				Doc: "For type redshift: another endpoint of its API, https or http on loopback (default: the region's)."},
		},
		People:   func(policy.Values) bool { return true },
		OwnLogin: true,
		NeedsDBT: true, // what it is for depends on the warehouse
		Logins: map[string]*policy.Lifetimes{
			string(credential.RedshiftLogin): {Min: 15 * time.Minute, Max: time.Hour, Default: time.Hour},
		},
	},
	check:    checkPerson,
	exchange: exchangeLogin,
	endpoints: func(v policy.Values, w credential.Warehouse) []string { // the identity provider's are the identity's
		if w.Asks.Login != credential.RedshiftLogin {
			return nil
		}
		return []string{redshiftEndpoint(v, personRegion(v, w), w.Redshift)}
	},
}

// microsoftResource is microsoftScope for every permission, and not only for all of them.
var microsoftResource = lazy.MustCompile(`(?i)^(?:https://(?:[a-z0-9-]+\.)*(?:windows\.net|azure\.(?:com|net|us|cn)|` +
	`usgovcloudapi\.net|chinacloudapi\.cn|microsoft\.(?:com|us))(?:/.*)?|2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.*)$`)

// checkPerson holds the keys to what the warehouse takes of a person's login.
func checkPerson(v policy.Values, w credential.Warehouse) error {
	needless := []string{"region", "redshift_endpoint"}
	switch w.Asks.Login {
	case credential.RedshiftLogin:
		needless = []string{"scope"}
	case credential.RoleLogin:
		needless = []string{"scope", "redshift_endpoint"}
	}
	for _, key := range needless {
		if v.Get(key) != "" {
			return fmt.Errorf("%s is not supported by %s: remove it", key, w)
		}
	}
	switch {
	case w.Asks.Login == credential.RedshiftLogin:
		if personRegion(v, w) == "" {
			return errors.New("region is required: the host does not name it")
		}
		return checkCluster(w)
	case w.Asks.Login != credential.Usual:
		return nil
	case v.Get("scope") == "" && w.Asks.Elsewhere && w.Role == "":
		return fmt.Errorf("scope is required: %s has a default only with a `role`", w)
	case w.Asks.Elsewhere:
		return checkScopes(v, w)
	}
	return nil
}

// checkScopes keeps a token for a service of Microsoft's, and one for the
// identity provider's own API, from a warehouse that is neither's.
func checkScopes(v policy.Values, w credential.Warehouse) error {
	for _, s := range strings.Fields(v.Get("scope")) {
		switch {
		case microsoftResource.MatchString(s):
			return fmt.Errorf("scope is %q, so %s would get a token that is valid for a Microsoft service: set the scope of "+
				"your own resource", s, w)
		case !strings.Contains(s, ":"):
			return fmt.Errorf("scope is %q, so %s would get a token for the identity provider's own API: set session:role:ROLE, "+
				"or the scope of your own resource", s, w)
		}
	}
	return nil
}

// personRegion returns the region of a Redshift warehouse, "" where nothing says it.
func personRegion(v policy.Values, w credential.Warehouse) string {
	if r := v.Get("region"); r != "" {
		return r
	}
	if m := awsDatabase.FindStringSubmatch(strings.ToLower(w.Host)); m != nil {
		return m[1] + m[4]
	}
	return ""
}

// PersonScope returns what a person's access token for a warehouse is for, in the cloud of the identity's issuer.
func PersonScope(v policy.Values, w credential.Warehouse, id policy.Identity) string {
	switch s := v.Get("scope"); {
	case s != "":
		return s
	case w.Asks.Resource == "":
		return "session:role:" + w.Role
	}
	databases := azureClouds[0].databases
	if u, err := url.Parse(id.Issuer); err == nil {
		if i := slices.IndexFunc(azureClouds, func(c azureCloud) bool { return c.authority == u.Hostname() }); i >= 0 {
			databases = azureClouds[i].databases
		}
	}
	return strings.Replace(w.Asks.Resource, azureClouds[0].databases, databases, 1) + "/.default"
}

func exchangeLogin(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	v, w, id := r.Grant.Exchange(), r.Warehouse, r.Grant.Identity()
	role := w.Asks.Login != credential.Usual
	if env.Login == nil || id.Kind != "people" || role != (id.AWSSSO != nil) {
		// a bug: the policy was checked
		return credential.Credential{}, errors.New("use a person's login: there is none of this kind")
	}
	if !role {
		token, expiry, err := env.Login.AccessToken(ctx, id, PersonScope(v, w, id))
		if err != nil {
			return credential.Credential{}, err
		}
		if token.SHA256() == r.IDToken.SHA256() {
			return credential.Credential{}, fault.New(fault.Unreachable, errors.New("the access token is the ID token"), "")
		}
		id := r.Grant.Claims().Subject()
		return credential.Credential{Kind: credential.AccessToken, ID: id, Token: token, Expiry: expiry}, nil
	}
	c, err := env.Login.RoleCredentials(ctx, id)
	if err != nil {
		return credential.Credential{}, err
	}
	session := *c.AWS
	c.Serial = serial(c.Serial)
	if w.Asks.Login == credential.RoleLogin {
		if in := v.Get("region"); in != "" {
			session.Region = in
		}
		c.AWS = &session
		return c, nil
	}
	session.Region = personRegion(v, w)
	c.AWS = &session
	if err := exchange.Usable(c, env.Now()); err != nil {
		return credential.Credential{}, err
	}
	return redshiftLogin(ctx, env, r, c)
}
