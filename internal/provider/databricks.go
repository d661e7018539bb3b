package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var (
	instanceText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	endpointText = lazy.MustCompile(`^projects/[A-Za-z0-9_-]+/branches/[A-Za-z0-9_-]+/endpoints/[A-Za-z0-9_-]+$`)
	accountsHost = lazy.MustCompile(`^accounts(?:-dod)?\.`)
)

// databricksProvider exchanges the ID token for an access token of a service
// principal, or of the one that an account-wide policy maps it to, and for
// Lakebase that token for a password of its database, which does not accept the
// token itself. (Databricks: OAuth token federation; API reference, Generate
// Database Credential; the hosts as databricks-sdk-py, config.py, tells them
// apart)
var databricksProvider = provider{
	spec: policy.Provider{
		Doc: "Databricks: OAuth token federation.",
		Keys: []policy.Key{
			{Name: "client_id", Example: "7b9f3c1e-2a4d-4c8b-9e1f-0d5a6b7c8d9e", Claims: true,
				Check: exchange.Matching(uuidText, 36, 36, "a service principal's application id"),
				Doc:   "The service principal's application id (default: decided by an account-wide federation policy)."},
			{Name: "audience", Example: "https://dbc-a1b2c3d4-e5f6.cloud.databricks.com/oidc/v1/token",
				Doc: "The ID token's audience, as the federation policy names it (default: account_id; " +
					"without one the token endpoint of `host`)."},
			{Name: "account_id", Example: "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
				Check: exchange.Matching(uuidText, 36, 36, "an account's id"),
				Doc:   "The Databricks account: the audience that federation policies without audiences expect."},
			{Name: "host", Example: "dbc-a1b2c3d4-e5f6.cloud.databricks.com", Check: checkDatabricksHost,
				Doc: "The workspace that issues the token, or an account console (default: the `host` of a dbt block of type " +
					"databricks; required elsewhere)."},
			{Name: "database_instance", Example: "marts",
				Check: exchange.Matching(instanceText, 1, 63, "the name of a database instance"),
				Doc:   "Lakebase Provisioned: the instance that dbt logs in to."},
			{Name: "database_endpoint", Example: "projects/acme/branches/production/endpoints/primary",
				Check: exchange.Matching(endpointText, 1, 300, "projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT"),
				Doc:   "Lakebase Autoscaling: the endpoint that dbt logs in to."},
		},
		Audience: databricksAudienceOf,
		Check: func(v policy.Values, _ time.Duration) (faults []policy.KeyError) {
			fault := func(key, format string, args ...any) {
				faults = append(faults, policy.KeyError{Key: key, Err: fmt.Errorf(format, args...)})
			}
			if databricksAudienceOf(v) == "" {
				fault("audience", "is required: set the audience in the federation policy, or set account_id, which is "+
					"Databricks' default")
			}
			if v.Get("database_instance") != "" && v.Get("database_endpoint") != "" {
				fault("database_endpoint", "is for Lakebase Autoscaling, database_instance for Provisioned: set only one")
			}
			if v.Get("host") == "" {
				return faults
			}
			if isAccountsHost(v.Get("host")) && v.Get("account_id") == "" {
				fault("host", "is an account console, which requires account_id")
			}
			if err := checkDatabricksAudience(v, v.Get("host")); err != nil {
				fault("host", "%w", err)
			}
			return faults
		},
	},
	check:    checkDatabricks,
	exchange: exchangeDatabricks,
	endpoints: func(v policy.Values, w credential.Warehouse) []string {
		if databricksHost(v, w) == "" {
			return nil
		}
		return []string{databricksTokenURL(v, databricksHost(v, w))}
	},
}

// checkDatabricks holds the host of the dbt block, where it is the one, to the
// rules of `host`.
func checkDatabricks(v policy.Values, w credential.Warehouse) error {
	host := databricksHost(v, w)
	lakebase := v.Get("database_instance")+v.Get("database_endpoint") != ""
	switch {
	case host == "":
		return hostFault("host is required: the workspace that issues the token")
	case w.Asks.Login == credential.LakebaseLogin && !lakebase:
		return errors.New("database_instance or database_endpoint is required: Lakebase issues a password for one of them")
	case w.Asks.Login == credential.LakebaseLogin && isAccountsHost(host):
		return hostFault("host is an account console, but Lakebase accepts only tokens of its own workspace")
	case w.Asks.Login != credential.LakebaseLogin && lakebase:
		return fmt.Errorf("database_instance and database_endpoint are for Lakebase, which is type \"postgres\", not %s", w)
	case v.Get("host") != "":
		return checkOneWorkspace(v, w) // the rest was checked with the policy
	}
	if err := checkDatabricksHost(host); err != nil {
		return hostFault("host %q of the dbt output: %v", host, err)
	}
	if err := checkDatabricksAudience(v, host); err != nil {
		return hostFault("%v", err)
	}
	return nil
}

// checkOneWorkspace keeps the token of one of Databricks' hosts from another's
// domain: a dbt host of one's own exchanges the token itself.
func checkOneWorkspace(v policy.Values, w credential.Warehouse) error {
	if !w.Asks.Workspace || w.Host == "" {
		return nil
	}
	name := hostOf(databricksURL(w.Host)) // "" is no host, which CheckHost would let pass
	if name != "" && (name == hostOf(databricksURL(v.Get("host"))) || policy.CheckHost(databricksAudience, name) == nil) {
		return nil
	}
	return hostFault("host %q of the dbt output does not belong to Databricks, but the token of %q would be sent "+
		"there: remove host from the exchange", w.Host, v.Get("host"))
}

// databricksAudience is one that only Databricks' own hosts may get a token of.
const databricksAudience = "https://accounts.cloud.databricks.com/oidc/v1/token"

// databricksHost returns where to ask: a host, or a URL.
func databricksHost(v policy.Values, w credential.Warehouse) string {
	if h := v.Get("host"); h != "" {
		return h
	}
	if w.Asks.Workspace { // elsewhere it is a database's
		return w.Host
	}
	return ""
}

// databricksURL returns a host, or a URL, as a URL without a slash at its end.
func databricksURL(host string) string {
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return strings.TrimSuffix(host, "/")
}

func checkDatabricksHost(host string) error {
	if !strings.Contains(host, "://") && strings.ContainsAny(host, ":/") {
		return errors.New("want a host, or https://HOST")
	}
	return checkHostURL(databricksURL(host))
}

// hostOf returns the host of a URL that was checked, in lower case.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

func isAccountsHost(host string) bool { return accountsHost.MatchString(hostOf(databricksURL(host))) }

func databricksTokenURL(v policy.Values, host string) string {
	if isAccountsHost(host) {
		return databricksURL(host) + "/oidc/accounts/" + v.Get("account_id") + "/v1/token"
	}
	return databricksURL(host) + "/oidc/v1/token"
}

// databricksAudienceOf returns the audience, "" if the policy has none. The
// host of the dbt block does not count: a target's audience is known from the
// policy only.
func databricksAudienceOf(v policy.Values) string {
	switch {
	case v.Get("audience") != "":
		return v.Get("audience")
	case v.Get("account_id") != "":
		return v.Get("account_id")
	case v.Get("host") != "":
		return databricksTokenURL(v, v.Get("host"))
	}
	return ""
}

// checkDatabricksAudience is policy.CheckHost, and takes the account's id for
// an audience of Databricks' own, which no pattern can tell.
func checkDatabricksAudience(v policy.Values, host string) error {
	audience, name := databricksAudienceOf(v), hostOf(databricksURL(host))
	if audience != "" && strings.EqualFold(audience, v.Get("account_id")) && policy.CheckHost(databricksAudience, name) != nil {
		return fmt.Errorf("host %q is not one of Databricks, whose audience %q the token has: give an audience of its own", name, audience)
	}
	return v.CheckHost(audience, name)
}

func exchangeDatabricks(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	v, claims := r.Grant.Exchange(), r.Grant.Claims()
	host := databricksHost(v, r.Warehouse)
	form := url.Values{"grant_type": {tokenExchange}, "subject_token_type": {jwtToken}, "scope": {"all-apis"}}
	principal := "the account"
	if id := v.Get("client_id"); id != "" {
		form.Set("client_id", id)
		principal = "service principal " + id
	}
	c, err := tokenRequest{
		service: "Databricks", url: databricksTokenURL(v, host), idToken: []string{"subject_token"}, form: form,
		hint: func(_, description string) string {
			if strings.Contains(description, "TOKEN_SUBJECT_INVALID") {
				return fmt.Sprintf("the federation policy of %s has a different subject: this token's is %q, or the value of "+
					"its subject_claim if that is set", principal, claims.Subject())
			}
			return fmt.Sprintf("%s needs a federation policy with exactly issuer %s, audience %q and subject %q, and must be "+
				"in the workspace",
				principal, claims.Issuer(), r.Grant.Audience(), claims.Subject())
		},
	}.send(ctx, env, r.IDToken)
	if err != nil {
		return credential.Credential{}, err
	}
	c.ID = v.Get("client_id")
	if c.ID == "" {
		c.ID = claims.Subject()
	}
	if r.Warehouse.Asks.Login != credential.LakebaseLogin {
		return c, nil
	}
	if err := exchange.Usable(c, env.Now()); err != nil {
		return credential.Credential{}, err
	}
	return lakebase(ctx, env, r, c)
}

// lakebase exchanges the workspace's token for a password of a database.
func lakebase(ctx context.Context, env exchange.Env, r exchange.Request, workspace credential.Credential) (credential.Credential, error) {
	v := r.Grant.Exchange()
	path, body := "/api/2.0/postgres/credentials", map[string]any{"endpoint": v.Get("database_endpoint")}
	if name := v.Get("database_instance"); name != "" {
		id, _ := r.Grant.Claims().String("jti") // tries of one request have one id
		if id == "" {
			id = rand.Text()
		}
		path, body = "/api/2.0/database/credentials", map[string]any{"instance_names": []string{name}, "request_id": id}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("create the request: %w", err)
	}
	secrets := []secret.Value{r.IDToken, workspace.Token}
	reply, _, err := call{
		service: "Lakebase", url: databricksURL(v.Get("host")) + path, body: string(text), secrets: secrets,
		header: http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"},
			"Authorization": {"Bearer " + workspace.Token.Reveal()}},
		hint: func(code, _ string) string {
			if code == "RESOURCE_DOES_NOT_EXIST" {
				return "the database is not in this workspace: database_instance is for Lakebase Provisioned, database_endpoint " +
					"for Autoscaling"
			}
			return fmt.Sprintf("%s must be a user of the workspace and have a role of the same name in the database", workspace.ID)
		},
	}.do(ctx, env)
	if err != nil {
		return credential.Credential{}, err
	}
	var password struct {
		Token          string
		ExpirationTime string `json:"expiration_time"` // of an instance
		ExpireTime     string `json:"expire_time"`     // of an endpoint
	}
	if err := json.Unmarshal(reply, &password); err != nil {
		return credential.Credential{}, exchange.Foreign("Lakebase", "unexpected reply from Lakebase")
	}
	if password.Token == "" {
		return credential.Credential{}, exchange.Unreachable("the reply from Lakebase has no token")
	}
	expires := password.ExpirationTime + password.ExpireTime
	expiry, err := time.Parse(time.RFC3339, expires)
	if err != nil {
		return credential.Credential{},
			exchange.Unreachable("the reply from Lakebase has an expiry of %s, want a time",
				exchange.Quoted(expires, append(secrets, secret.New(password.Token))))
	}
	return credential.Credential{Kind: credential.AccessToken, ID: workspace.ID, Token: secret.New(password.Token), Expiry: expiry}, nil
}

// checkHostURL is checkURL for one without a path.
func checkHostURL(value string) error {
	u, err := web.CheckURL(value)
	if err == nil && strings.Trim(u.Path, "/") != "" {
		err = errors.New("has a path, want https://HOST")
	}
	return err
}
