package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"
	"google.golang.org/api/sts/v1"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const (
	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	sqlLogin      = "https://www.googleapis.com/auth/sqlservice.login"
)

var (
	poolProvider = lazy.MustCompile(`^(?:projects/[0-9]+/locations/global/workloadIdentityPools|` + workforce +
		`)/[a-z0-9-]+/providers/[a-z0-9-]+$`)
	projectText    = lazy.MustCompile(`^(?:[0-9]+|[a-z][a-z0-9-]*[a-z0-9])$`)
	serviceAccount = lazy.MustCompile(`^[a-z0-9][a-z0-9-]*@[a-z0-9.-]+\.gserviceaccount\.com$`)
	scopeText      = lazy.MustCompile(`^[!#-\[\]-~]+$`) // RFC 6749 §3.3
	universe       = lazy.MustCompile(`^(?:[a-z0-9-]+\.)+[a-z]{2,}$`)
)

// workforce is how the names of workforce pools begin, which belong to an organisation and are for people.
const workforce = "locations/global/workforcePools"

func isWorkforce(v policy.Values) bool {
	return strings.HasPrefix(v.Get("workload_identity_provider"), workforce+"/")
}

// gcpProvider exchanges the ID token for a federated access token, which
// expires when Google's STS says, and that, if a service account is named, for
// one of the service account. (Google Cloud: Security Token Service v1, IAM
// Service Account Credentials v1)
var gcpProvider = provider{
	spec: policy.Provider{
		Doc: "Google Cloud: Workload Identity Federation, directly or through a service account.",
		Keys: []policy.Key{
			{Name: "workload_identity_provider", Required: true,
				Example: "projects/123456789012/locations/global/workloadIdentityPools/github/providers/dbt",
				Check: exchange.Matching(poolProvider, 1, 200,
					"projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER (the project's number, "+
						"not its id), or for people locations/global/workforcePools/POOL/providers/PROVIDER"),
				Doc: "The provider's full name, with the project's number; for people that of a workforce pool."},
			{Name: "user_project", Example: "acme-dbt", Check: exchange.Matching(projectText, 1, 30, "a project's number or id"),
				Doc: "With a workforce pool: the project whose quota and billing are used, by its number or id."},
			{Name: "service_account", Claims: true, Example: "dbt@acme-prod.iam.gserviceaccount.com",
				Check: exchange.Matching(serviceAccount, 1, 200, "NAME@PROJECT.iam.gserviceaccount.com"),
				Doc:   "The service account to act as (default: none, the principal itself)."},
			{Name: "audience", Example: "https://iam.googleapis.com/projects/123456789012/locations/global/" +
				"workloadIdentityPools/github/providers/dbt",
				Doc: "The ID token's audience (default: https://iam.googleapis.com/ and the provider's name)."},
			{Name: "scopes", List: true, Example: "https://www.googleapis.com/auth/bigquery",
				Check: exchange.Matching(scopeText, 1, 500, "one OAuth scope, without spaces"),
				Doc: "OAuth scopes (default: cloud-platform; of a service account's token for duckdb devstorage.read_write, " +
					"for postgres always sqlservice.login)."},
			{Name: "delegates", Example: "hop@acme-prod.iam.gserviceaccount.com", List: true,
				Check: exchange.Matching(serviceAccount, 1, 200, "NAME@PROJECT.iam.gserviceaccount.com"),
				Doc:   "Service accounts of a delegation chain, in order."},
			{Name: "universe_domain", Example: "googleapis.com",
				Check: exchange.Matching(universe, 1, 253, "a domain such as googleapis.com"),
				Doc:   "The universe domain, if not googleapis.com."},
			{Name: "sts_endpoint", Example: "https://sts.googleapis.com",
				Check: exchange.CheckURL, Doc: "Another Security Token Service, https or http on loopback."},
			{Name: "iam_endpoint", Example: "https://iamcredentials.googleapis.com",
				Check: exchange.CheckURL, Doc: "Another IAM Credentials service, https or http on loopback."},
		},
		Audience:  gcpAudienceOf,
		People:    isWorkforce,
		Lifetimes: &policy.Lifetimes{Min: time.Minute, Max: 12 * time.Hour, Default: time.Hour},
		Check: func(v policy.Values, lifetime time.Duration) []policy.KeyError {
			faults := exchange.CheckAudience(v, gcpAudienceOf(v), "sts_endpoint")
			if err := v.CheckAudience(gcpAudienceOf(v), stsEndpoint(v)); err != nil && v.Get("sts_endpoint") == "" {
				key := "audience"
				if v.Get("universe_domain") != "" {
					key = "universe_domain"
				}
				faults = append(faults, policy.KeyError{Key: key, Err: err})
			}
			faults = append(append(faults, checkIAM(v)...), checkWorkforce(v)...)
			if v.Get("service_account") == "" {
				for _, key := range []string{"delegates", "iam_endpoint"} {
					if v.Get(key) != "" {
						faults = append(faults, policy.KeyError{Key: key, Err: errors.New("requires service_account")})
					}
				}
				if lifetime > 0 {
					faults = append(faults, policy.KeyError{Key: "lifetime",
						Err: errors.New("requires service_account: direct federation has no choice of lifetime")})
				}
			}
			return faults
		},
	},
	check: func(v policy.Values, w credential.Warehouse) error {
		switch {
		case w.Asks.Login != credential.CloudSQLLogin:
		case isWorkforce(v):
			return errors.New("principals of a workforce pool cannot log in to Cloud SQL: use another provider for people")
		case v.Get("service_account") == "":
			return errors.New("principals of a workload identity pool cannot log in to Cloud SQL: set service_account")
		case len(v.List("scopes")) > 0: // the server's owner, if it is not Google, could use the token for anything it is valid for
			return fmt.Errorf("scopes: a token that is a password at Cloud SQL has only the scope %s", sqlLogin)
		}
		return nil
	},
	exchange: exchangeGoogle,
	endpoints: func(v policy.Values, _ credential.Warehouse) []string {
		list := []string{stsEndpoint(v)}
		if v.Get("service_account") != "" {
			list = append(list, iamEndpoint(v))
		}
		return list
	},
}

// checkWorkforce holds a workforce pool to what Google says of it: a token of
// one names no project, and has the audience of the person's client. That its
// principals may act as service accounts is not documented, so none is tried.
func checkWorkforce(v policy.Values) (faults []policy.KeyError) {
	if !isWorkforce(v) {
		if v.Get("user_project") != "" {
			faults = append(faults, policy.KeyError{Key: "user_project", Err: errors.New("requires a workforce pool")})
		}
		return faults
	}
	if v.Get("user_project") == "" {
		faults = append(faults, policy.KeyError{Key: "user_project",
			Err: errors.New("is required with a workforce pool: the project whose quota is used, on which people need serviceusage.services.use")})
	}
	for _, key := range []string{"audience", "service_account", "delegates"} {
		if v.Get(key) != "" {
			faults = append(faults, policy.KeyError{Key: key, Err: errors.New("cannot be combined with a workforce pool: remove it")})
		}
	}
	return faults
}

func gcpAudienceOf(v policy.Values) string {
	if a := v.Get("audience"); a != "" || isWorkforce(v) { // people's is their client
		return a
	}
	return googleAudience + v.Get("workload_identity_provider")
}

func stsEndpoint(v policy.Values) string { return googleEndpoint(v, "sts_endpoint", "sts") }

func iamEndpoint(v policy.Values) string { return googleEndpoint(v, "iam_endpoint", "iamcredentials") }

func googleEndpoint(v policy.Values, key, service string) string {
	if e := v.Get(key); e != "" {
		return strings.TrimSuffix(e, "/") + "/"
	}
	domain := v.Get("universe_domain")
	if domain == "" {
		domain = "googleapis.com"
	}
	return "https://" + service + "." + domain + "/"
}

// checkIAM holds the second hop to the hosts of the first: what Google's STS
// gives for a token of any audience is of use at Google.
func checkIAM(v policy.Values) []policy.KeyError {
	if v.Get("service_account") == "" {
		return nil
	}
	key := "iam_endpoint"
	if v.Get(key) == "" {
		key = "universe_domain"
	}
	given := v.Get("iam_endpoint") + v.Get("sts_endpoint") // else the fault is that of the first hop
	if err := v.CheckAudience(gcpAudienceOf(v), iamEndpoint(v)); err != nil && given != "" {
		return []policy.KeyError{{Key: key, Err: err}}
	}
	first, err := url.Parse(stsEndpoint(v))
	if err != nil || web.IsLoopback(first.Hostname()) || policy.CheckHost(googleAudience, first.Hostname()) != nil {
		return nil // checkURL has it, or this is a service of the user's own
	}
	second, err := url.Parse(iamEndpoint(v))
	if err != nil || policy.CheckHost(googleAudience, second.Hostname()) == nil {
		return nil
	}
	return []policy.KeyError{{Key: key,
		Err: fmt.Errorf("host %q does not belong to Google Cloud, but the token of its STS would be sent there", second.Hostname())}}
}

// googleAudience is how every audience of Google Cloud begins.
const googleAudience = "https://iam.googleapis.com/"

// options give the client our http.Client and nothing of the environment's
// default credentials.
func options(env exchange.Env, endpoint string) []option.ClientOption {
	return []option.ClientOption{option.WithHTTPClient(env.HTTP), option.WithEndpoint(endpoint)}
}

func exchangeGoogle(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	g, idToken := r.Grant, r.IDToken
	v := g.Exchange()
	scopes := scopesOf(v, r.Warehouse)
	service, err := sts.NewService(ctx, options(env, stsEndpoint(v))...)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("create a client for STS: %w", err)
	}
	scope := strings.Join(scopes, " ")
	if v.Get("service_account") != "" {
		scope = cloudPlatform // what generateAccessToken wants; the scopes are the service account's
	}
	kind, features := subjectToken(v)
	var sent time.Time // from when on an expires_in counts, at the latest
	federated, err := web.Retry(ctx, func(ctx context.Context) (*sts.GoogleIdentityStsV1ExchangeTokenResponse, error) {
		sent = env.Now()
		token, err := service.V1.Token(&sts.GoogleIdentityStsV1ExchangeTokenRequest{
			Audience:           "//iam.googleapis.com/" + v.Get("workload_identity_provider"),
			GrantType:          "urn:ietf:params:oauth:grant-type:token-exchange",
			RequestedTokenType: "urn:ietf:params:oauth:token-type:access_token",
			Scope:              scope,
			SubjectToken:       idToken.Reveal(),
			SubjectTokenType:   kind,
			Options:            features,
		}).Context(ctx).Do()
		return token, googleError(err, "STS", stsHint, g, idToken)
	})
	switch {
	case err != nil:
		return credential.Credential{}, err
	case federated == nil || federated.AccessToken == "": // JSON's null gives no reply at all
		return credential.Credential{}, exchange.Unreachable("the reply from STS has no access token")
	case federated.ExpiresIn <= 0, federated.ExpiresIn > exchange.MostSeconds:
		return credential.Credential{},
			exchange.Unreachable("the reply from STS has an expires_in of %d, want seconds from now", federated.ExpiresIn)
	case federated.TokenType != "" && !strings.EqualFold(federated.TokenType, "Bearer"):
		return credential.Credential{},
			exchange.Unreachable("the reply from STS has a token of type %s, want Bearer",
				exchange.Quoted(federated.TokenType, []secret.Value{idToken, secret.New(federated.AccessToken)}))
	}
	c := credential.Credential{
		Kind: credential.GoogleAccessToken, ID: v.Get("workload_identity_provider"),
		Expiry: sent.Add(time.Duration(federated.ExpiresIn) * time.Second), Token: secret.New(federated.AccessToken),
	}
	if v.Get("service_account") == "" {
		return c, nil
	}
	if err := exchange.Usable(c, env.Now()); err != nil {
		return credential.Credential{}, err
	}
	c, err = impersonate(ctx, env, g, c.Token, idToken, scopes)
	if err == nil && r.Warehouse.Asks.Login == credential.CloudSQLLogin {
		c = sqlCredential(c)
	}
	return c, err
}

// subjectToken returns the type of the ID token in the kind of pool, and the
// options of the exchange. (Google Cloud: Security Token Service, Options)
func subjectToken(v policy.Values) (kind, options string) {
	if !isWorkforce(v) {
		return jwtToken, ""
	}
	text, _ := json.Marshal(map[string]string{"userProject": v.Get("user_project")}) // strings cannot fail
	return "urn:ietf:params:oauth:token-type:id_token", string(text)
}

// scopesOf returns the scopes of the token that dbt gets.
func scopesOf(v policy.Values, w credential.Warehouse) []string {
	if list := v.List("scopes"); len(list) > 0 {
		return list
	}
	if w.Asks.Scope != "" && v.Get("service_account") != "" {
		return []string{w.Asks.Scope}
	}
	return []string{cloudPlatform}
}

// sqlCredential makes a service account's token a login at Cloud SQL.
// (Cloud SQL for PostgreSQL: Log in using IAM database authentication)
func sqlCredential(c credential.Credential) credential.Credential {
	return credential.Credential{
		Kind: credential.DatabaseLogin, ID: c.ID, Expiry: c.Expiry,
		User: strings.TrimSuffix(c.ID, ".gserviceaccount.com"), Password: c.Token,
	}
}

// impersonate exchanges the federated token for one of the service account.
func impersonate(ctx context.Context, env exchange.Env, g policy.Grant, federated, idToken secret.Value,
	scopes []string) (credential.Credential, error) {
	v := g.Exchange()
	account := v.Get("service_account")
	service, err := iamcredentials.NewService(ctx, options(env, iamEndpoint(v))...)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("create a client for IAM Credentials: %w", err)
	}
	request := &iamcredentials.GenerateAccessTokenRequest{Scope: scopes}
	if d := exchange.Lifetime(g, time.Hour); d > 0 {
		request.Lifetime = fmt.Sprintf("%ds", int(d.Seconds()))
	}
	for _, d := range v.List("delegates") {
		request.Delegates = append(request.Delegates, "projects/-/serviceAccounts/"+d)
	}
	reply, err := web.Retry(ctx, func(ctx context.Context) (*iamcredentials.GenerateAccessTokenResponse, error) {
		call := service.Projects.ServiceAccounts.GenerateAccessToken("projects/-/serviceAccounts/"+account, request).Context(ctx)
		call.Header().Set("Authorization", "Bearer "+federated.Reveal())
		token, err := call.Do()
		return token, googleError(err, "IAM Credentials", iamHint, g, idToken, federated)
	})
	switch {
	case err != nil:
		return credential.Credential{}, err
	case reply == nil || reply.AccessToken == "":
		return credential.Credential{}, exchange.Unreachable("the reply from IAM Credentials has no access token")
	}
	expiry, err := time.Parse(time.RFC3339, reply.ExpireTime)
	if err != nil {
		return credential.Credential{},
			exchange.Unreachable("the reply from IAM Credentials has an expireTime of %s, want a time",
				exchange.Quoted(reply.ExpireTime, []secret.Value{idToken, federated, secret.New(reply.AccessToken)}))
	}
	return credential.Credential{Kind: credential.GoogleAccessToken, ID: account, Expiry: expiry, Token: secret.New(reply.AccessToken)}, nil
}

// googleError tells the service's no from nonsense, and marks what another try
// may cure. googleapi.Error's own words may be the whole body: only the OAuth
// and the API fields are used.
func googleError(err error, service string, hint func(code, message string, g policy.Grant) string, g policy.Grant,
	secrets ...secret.Value) error {
	var ge *googleapi.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ge):
	case web.NoReply(err):
		return exchange.NoReply(err)
	default:
		return exchange.Foreign(service, "unexpected reply from %s", service)
	}
	var oauth struct { // RFC 6749 §5.2; the API's own errors have an object under "error"
		Error       any    `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal([]byte(ge.Body), &oauth) // a body that is not JSON has neither
	code, message := "", ge.Message
	if s, ok := oauth.Error.(string); ok {
		code, message = s, oauth.Description
	} else if status, ok := oauth.Error.(map[string]any); ok {
		code, _ = status["status"].(string)
	}
	switch {
	case code == "" && message == "":
		return exchange.Replied(service, ge.Code)
	case strings.Contains(message, "connecting to the given credential's issuer"):
		return web.Temporary(exchange.IssuerUnreachable(service, message, secrets))
	case web.Transient(ge.Code):
		return web.Temporary(exchange.Unreachable("%s replied with status %d", service, ge.Code))
	case slices.Contains(googleBusy, code), slices.Contains(busy, code):
		return web.Temporary(exchange.Unreachable("%s replied with status %d: %s", service, ge.Code, exchange.Quoted(code, secrets)))
	}
	return exchange.Refused(code, message, hint(code, message, g), secrets...)
}

// googleBusy are codes of temporary faults, with any status. (Google Cloud
// APIs: google.rpc.Code)
var googleBusy = []string{"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL"}

func stsHint(code, message string, g policy.Grant) string {
	provider := g.Exchange().Get("workload_identity_provider")
	switch {
	case strings.Contains(message, "attribute condition"):
		return fmt.Sprintf("the attribute condition of %s rejects subject %q", provider, g.Claims().Subject())
	case code == "invalid_target" && isWorkforce(g.Exchange()):
		return fmt.Sprintf("the workforce pool or provider %s does not exist or is disabled", provider)
	case code == "invalid_grant" && isWorkforce(g.Exchange()):
		return fmt.Sprintf("provider %s must have issuer %s and client id %q; google.subject may have at most 127 bytes",
			provider, g.Claims().Issuer(), g.Audience())
	case code == "invalid_target":
		return fmt.Sprintf("the workload identity pool or provider %s does not exist or is disabled: its name must have "+
			"the project's number", provider)
	case code == "invalid_grant":
		return fmt.Sprintf("provider %s must have issuer %s and allow audience %q; google.subject may have at most 127 "+
			"bytes", provider, g.Claims().Issuer(), g.Audience())
	}
	return ""
}

func iamHint(code, message string, g policy.Grant) string {
	switch {
	case strings.Contains(message, "has not been used in project"):
		return "enable the API iamcredentials.googleapis.com in the service account's project"
	case code == "NOT_FOUND":
		return fmt.Sprintf("the service account does not exist: %s", g.Exchange().Get("service_account"))
	case strings.Contains(message, "iam.serviceAccounts.getAccessToken"), code == "PERMISSION_DENIED":
		return fmt.Sprintf("grant roles/iam.workloadIdentityUser on %s to the pool's principal for subject %q",
			g.Exchange().Get("service_account"), g.Claims().Subject())
	case strings.Contains(message, "lifetime"):
		return "more than 1h requires the organisation policy constraints/iam.allowServiceAccountCredentialLifetimeExtension"
	}
	return ""
}
