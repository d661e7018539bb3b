package provider

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

var (
	uuidText = lazy.MustCompile(`^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
	// tenantText leaves out `common`, `organizations` and `consumers`: an
	// application logs in to a tenant.
	tenantText = lazy.MustCompile(`^(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?:[a-z0-9-]+\.)+[a-z]{2,})$`)
	// defaultScope is the only form that a client's own login may ask for.
	defaultScope = lazy.MustCompile(`^[!#-\[\]-~]+/\.default$`)
)

// entraProvider logs in an application or a managed identity of Microsoft
// Entra ID: the ID token is the client's assertion, which one of its federated
// identity credentials must trust. (Microsoft identity platform: OAuth 2.0
// client credentials flow, third case; RFC 7523 §2.2)
var entraProvider = provider{
	spec: policy.Provider{
		Doc: "Microsoft Entra ID: a federated identity credential of an application.",
		Keys: []policy.Key{
			{Name: "tenant", Required: true, Example: "acme.onmicrosoft.com",
				Check: exchange.Matching(tenantText, 1, 253, "a tenant's id or domain"),
				Doc:   "The tenant (directory) of the application: its id or a domain."},
			{Name: "client_id", Example: "7b9f3c1e-2a4d-4c8b-9e1f-0d5a6b7c8d9e", Required: true, Claims: true,
				Check: exchange.Matching(uuidText, 36, 36, "an application (client) id, not the object id"),
				Doc:   "The application (client) id of the app registration or managed identity."},
			{Name: "scope", Example: "https://database.windows.net/.default", Check: exchange.Matching(defaultScope, 1, 500,
				"a resource and /.default, such as https://database.windows.net/.default"),
				Doc: "What the token is for (default: by dbt's `type`; required where that has none)."},
			{Name: "audience", Example: "api://AzureADTokenExchange", Check: entraName,
				Doc: "The ID token's audience (default: api://AzureADTokenExchange; in sovereign clouds, theirs)."},
			{Name: "authority", Example: "https://login.microsoftonline.us",
				Check: checkHostURL, Doc: "The authority, for sovereign clouds (default: " +
					"https://login.microsoftonline.com)."},
		},
		Audience: entraAudienceOf,
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			key := "authority"
			if v.Get(key) == "" {
				key = "audience" // then it is that which does not fit
			}
			if err := v.CheckAudience(entraAudienceOf(v), entraURL(v)); err != nil {
				return []policy.KeyError{{Key: key, Err: err}}
			}
			return nil
		},
	},
	check: func(v policy.Values, w credential.Warehouse) error {
		if s := entraScope(v, w); s != "" {
			if w.Asks.Elsewhere && microsoftScope.MatchString(s) {
				return fmt.Errorf("scope is %q, so %s would get a token that is valid for a Microsoft service: set the scope of "+
					"your own resource", s, w)
			}
			return nil
		}
		return fmt.Errorf("scope is required: %s has no default", w)
	},
	exchange: exchangeEntra,
	endpoints: func(v policy.Values, _ credential.Warehouse) []string {
		return []string{entraURL(v)}
	},
}

// entraName is policy.Key.Check for an audience that is meant to be one of
// Entra ID's, whose scheme is neither https nor nothing.
func entraName(value string) error {
	_, name, _ := strings.Cut(value, "://")
	if name == "" {
		name = value
	}
	name = strings.TrimSuffix(name, "/")
	for _, c := range azureClouds {
		if want := c.audience; strings.EqualFold("api://"+name, want) && value != want {
			return fmt.Errorf("is not Entra ID's spelling: write %q", want)
		}
	}
	return nil
}

// An azureCloud is one of Azure's clouds, which share nothing.
type azureCloud struct {
	authority string
	audience  string // that federated identity credentials want
	databases string // the domain of the databases' resources
}

// azureClouds are the clouds, the public one first. (Microsoft Entra: National
// clouds; Azure CLI, the clouds' endpoints)
var azureClouds = []azureCloud{
	{"login.microsoftonline.com", "api://AzureADTokenExchange", "database.windows.net"},
	{"login.microsoftonline.us", "api://AzureADTokenExchangeUSGov", "database.usgovcloudapi.net"},
	{"login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina", "database.chinacloudapi.cn"},
	{"login.chinacloudapi.cn", "api://AzureADTokenExchangeChina", "database.chinacloudapi.cn"},
}

// cloudOf returns the authority's cloud; an unknown one is taken for another
// gateway to the public cloud.
func cloudOf(v policy.Values) azureCloud {
	if u, err := url.Parse(v.Get("authority")); err == nil {
		for _, c := range azureClouds {
			if c.authority == u.Hostname() {
				return c
			}
		}
	}
	return azureClouds[0]
}

func entraAudienceOf(v policy.Values) string {
	if a := v.Get("audience"); a != "" {
		return a
	}
	return cloudOf(v).audience
}

// microsoftScope is for services of Microsoft's: databases, storage, the
// management of Azure, Graph; and credential.DatabricksResource.
var microsoftScope = lazy.MustCompile(`(?i)^(?:https://(?:[a-z0-9-]+\.)*(?:windows\.net|azure\.(?:com|net|us|cn)|` +
	`usgovcloudapi\.net|chinacloudapi\.cn|microsoft\.(?:com|us))(?:/.*)?|2ff814a6-3304-4ab8-85cb-cd0e6f879c1d)/\.default$`)

// entraScope returns what the token is for, "" if nothing says so.
func entraScope(v policy.Values, w credential.Warehouse) string {
	if s := v.Get("scope"); s != "" {
		return s
	}
	if w.Asks.Resource != "" {
		return strings.Replace(w.Asks.Resource, azureClouds[0].databases, cloudOf(v).databases, 1) + "/.default"
	}
	return ""
}

func entraAuthority(v policy.Values) string {
	if a := v.Get("authority"); a != "" {
		return strings.TrimSuffix(a, "/")
	}
	return "https://" + azureClouds[0].authority
}

func entraURL(v policy.Values) string {
	return entraAuthority(v) + "/" + v.Get("tenant") + "/oauth2/v2.0/token"
}

func exchangeEntra(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	v := r.Grant.Exchange()
	c, err := tokenRequest{
		service: "Entra ID", url: entraURL(v), idToken: []string{"client_assertion"},
		form: url.Values{
			"grant_type": {"client_credentials"}, "client_id": {v.Get("client_id")}, "scope": {entraScope(v, r.Warehouse)},
			"client_assertion_type": {clientAssertion},
		},
		hint: func(_, description string) string { return entraHint(description, r) },
		keys: func(description string) bool {
			return slices.Contains(entraKeys, entraCode(description))
		},
		busy: func(description string) bool { return slices.Contains(entraBusy, entraCode(description)) },
	}.send(ctx, env, r.IDToken)
	c.ID = v.Get("client_id")
	if err == nil {
		c.Serial = uniqueTokenID(c.Token)
	}
	return c, err
}

var tokenID = lazy.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

// uniqueTokenID returns an access token's claim `uti`, which the tenant's
// sign-in log has as the unique token identifier; "" where the token cannot be
// read: its form is its resource's own affair. (Microsoft Entra: access
// token claims reference; sign-in log schema)
func uniqueTokenID(token secret.Value) string {
	claims, err := idtoken.ParseUnverified([]byte(token.Reveal()))
	if err != nil {
		return ""
	}
	if uti, _ := claims.String("uti"); tokenID.MatchString(uti) {
		return uti
	}
	return ""
}

var aadsts = lazy.MustCompile(`^AADSTS([0-9]+)`)

func entraCode(description string) string {
	if m := aadsts.FindStringSubmatch(description); m != nil {
		return m[1]
	}
	return ""
}

// entraKeys are "Request to External OIDC endpoint failed", which comes as
// invalid_request with status 400, at times. (Azure AD Workload Identity:
// Troubleshooting; issues 605 and 642)
var entraKeys = []string{"90061", "50166", "501661"}

// entraBusy are the codes that Microsoft's list calls transient, unavailable,
// timed out or throttled: ExternalServerRetryableError, RequestTimeout,
// RequestBudgetExceededError, MsodsServiceUnavailable, TenantThrottlingError,
// RetryableError. (Microsoft Entra: authentication and authorization error codes)
var entraBusy = []string{"90006", "90012", "90024", "90033", "90055", "50033"}

// An entraRefusal is what to do about some codes of Entra ID's security token
// service; the rest are shown as they come.
type entraRefusal struct {
	codes []string
	hint  func(r exchange.Request) string
}

// entraRefusals are the codes that a client's own login with an assertion may
// meet. (Microsoft Entra: authentication and authorization error codes)
var entraRefusals = []entraRefusal{{
	codes: []string{"70021", "700211", "700212", "700213", "70025"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("the application needs a federated identity credential with exactly issuer %s, subject %q and "+
			"audience %q; a new one takes a few minutes to work",
			r.Grant.Claims().Issuer(), r.Grant.Claims().Subject(), r.Grant.Audience())
	},
}, {
	codes: []string{"700016", "50034", "70001", "700038", "7000229"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("application %s does not exist in tenant %s, or has no service principal there: client_id is "+
			"the application (client) id, not the object id", clientOf(r), tenantOf(r))
	},
}, {
	codes: []string{"7000112", "50057"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("the application %s, or its service principal in tenant %s, is disabled: enable it in Entra ID",
			clientOf(r), tenantOf(r))
	},
}, {
	codes: []string{"90002", "900023", "90019", "50049", "50059"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("tenant %s does not exist at %s", tenantOf(r), entraAuthority(r.Grant.Exchange()))
	},
}, {
	codes: []string{"90038", "900382", "900432"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("tenant %s is in another cloud than %s: set authority", tenantOf(r), entraAuthority(r.Grant.Exchange()))
	},
}, {
	codes: []string{"700024", "500133"},
	hint:  func(exchange.Request) string { return "compare the runner's clock with the issuer's" },
}, {
	codes: []string{"50013", "700027", "50027"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("Entra ID cannot verify the token: the keys of issuer %s must be reachable from the internet",
			r.Grant.Claims().Issuer())
	},
}, {
	codes: []string{"500011", "500014", "50001", "650057", "650052", "650053"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("the resource of scope %s is unknown or disabled in tenant %s",
			entraScope(r.Grant.Exchange(), r.Warehouse), tenantOf(r))
	},
}, {
	codes: []string{"70011", "1002012", "28002", "28003"},
	hint:  func(exchange.Request) string { return "scope must be a resource's identifier followed by /.default" },
}, {
	codes: []string{"50105", "501051"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("the application %s must be assigned to the resource in tenant %s", clientOf(r), tenantOf(r))
	},
}, {
	codes: []string{"65001", "90094", "90095"},
	hint: func(r exchange.Request) string {
		return fmt.Sprintf("an administrator of tenant %s must consent to the permissions that application %s requests", tenantOf(r), clientOf(r))
	},
}, {
	codes: []string{"53003", "53000", "53001", "53002", "53004", "530035", "50131", "50158", "700223", "700238"},
	hint: func(exchange.Request) string {
		return "a policy of the tenant blocks this login: see the sign-in logs of service principals"
	},
}, {
	codes: []string{"50196"},
	hint: func(exchange.Request) string {
		return "the application sends too many requests: start fewer jobs at once, or use one credential for several " +
			"commands (`run:`, `keep-fresh`)"
	},
}}

func clientOf(r exchange.Request) string { return r.Grant.Exchange().Get("client_id") }
func tenantOf(r exchange.Request) string { return r.Grant.Exchange().Get("tenant") }

// entraHint returns what to do about a refusal, "" where its code is not known.
func entraHint(description string, r exchange.Request) string {
	code := entraCode(description)
	for _, refusal := range entraRefusals {
		if slices.Contains(refusal.codes, code) {
			return refusal.hint(r)
		}
	}
	return ""
}
