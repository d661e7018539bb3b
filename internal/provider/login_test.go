package provider_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	people "github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// personToken is the one hop at the identity provider. (RFC 6749 §6; Microsoft
// identity platform: Refresh the access token)
var personToken = hop{
	name: "token",
	reply: `{"token_type": "Bearer", "scope": "https://database.windows.net/user_impersonation https://database.windows.net/.default", ` +
		`"expires_in": 3599, "access_token": "eyJ0eXAi.person-access-token.0123456789", "refresh_token": "0.next-refresh-token-0123456789"}`,
	secrets: []string{"access_token"},
	expiry:  "expires_in",
	kind:    "token_type",
	also: []mutation{{"token_type", nil}, {"expires_in", "3599s"}, {"scope", "openid"}, {"scope", ""}, {"scope", 7},
		{"refresh_token", "a b"}},
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE"}`,
	refusals: []refusal{
		{400, "invalid_scope", "One or more scopes are not configured for the authorization server resource."},
		{400, "invalid_grant", "AADSTS65001: The user or administrator has not consented to use the application."},
		{400, "consent_required", "Consent is required."},
		{400, "invalid_resource", "AADSTS500011: The resource principal named https://database.windows.net was not found in the tenant named Acme."},
		{400, "invalid_target", "Unknown resource"},
		{400, "unauthorized_client", "The client is not authorized to use this grant."},
		{400, "invalid_grant", "AADSTS700082: The refresh token has expired due to inactivity."},
		{400, "interaction_required", "AADSTS50076: You must use multi-factor authentication to access the resource."},
	},
}

var login = []fixture{
	personAt("azure-sql", `exchange: {login: {}}
    dbt: {type: sqlserver, driver: ODBC Driver 18 for SQL Server, host: acme.database.windows.net, port: 1433, database: marts, schema: dbo}`,
		"https://database.windows.net/user_impersonation https://database.windows.net/.default"),
	personAt("snowflake", `exchange: {login: {}}
    dbt: {type: snowflake, account: acme-prod, role: ANALYST, database: ANALYTICS, schema: dev}`, "openid session:role:ANALYST"),
	personAt("snowflake-scope", `exchange: {login: {scope: "api://snowflake.acme.example/.default"}}
    dbt: {type: snowflake, account: acme-prod, role: ANALYST, database: ANALYTICS, schema: dev}`, "api://snowflake.acme.example/session:scope:analyst"),
	personAt("databricks", `exchange: {login: {}}
    dbt: {type: databricks, host: adb-1234567890123456.7.azuredatabricks.net, http_path: /sql/1.0/warehouses/abc, schema: dev}`,
		credential.DatabricksResource+"/user_impersonation"),
	personAt("postgres", `exchange: {login: {}}
    dbt: {type: postgres, host: acme-dw.postgres.database.azure.com, port: 5432, user: ann@acme.example, database: dw, schema: dev}`,
		"https://ossrdbms-aad.database.windows.net/user_impersonation"),
	personAtAWS("athena", `exchange: {login: {region: us-east-1}}
    dbt: {type: athena, schema: dev, database: awsdatacatalog, s3_staging_dir: "s3://acme-athena/staging/"}`,
		issued{"aws_session", personARN, "", time.Hour}),
	personAtAWS("redshift", `exchange: {login: {}}
    dbt: {type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, user: ann, dbname: analytics, schema: dev}`,
		issued{"database_login", personARN, "IAM:ann", time.Hour}, redshiftHop("GetClusterCredentials", "IAM:ann", "2000-01-01T01:00:00Z",
			refusal{403, "AccessDenied", "User: " + personARN + " is not authorized to perform: redshift:GetClusterCredentials on resource: " +
				"arn:aws:redshift:eu-central-1:123456789012:dbuser:acme/ann"})),
}

// personRole is the role that IAM Identity Center gives. (IAM Identity Center
// Portal API Reference, GetRoleCredentials)
var personRole = hop{
	name: "GetRoleCredentials",
	reply: `{"roleCredentials": {"accessKeyId": "ASIAPERSONSESSION123", "secretAccessKey": "person/SecretAccessKey+0123456789abcdefgh", ` +
		`"sessionToken": "person+SessionToken/////////wEaDGV1LWNlbnRyYWw==", "expiration": 946688400000}}`,
	secrets: []string{"roleCredentials.accessKeyId", "roleCredentials.secretAccessKey", "roleCredentials.sessionToken"},
	expiry:  "roleCredentials.expiration",
	refusal: `{"__type": "$CODE", "message": "$MESSAGE"}`,
	refusals: []refusal{
		{401, "UnauthorizedException", "Session token not found or invalid"},
		{403, "ForbiddenException", "No access"},
		{404, "ResourceNotFoundException", "The specified account does not exist."},
		{400, "InvalidRequestException", "Invalid role name"},
	},
	passing: []refusal{{429, "TooManyRequestsException", "HTTP 429 Unknown Code"}},
}

// personSession asks whose session the role's credentials are.
var personSession = hop{
	name: "GetCallerIdentity",
	reply: `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>` +
		`<Arn>` + personARN + `</Arn><UserId>AROA123456789EXAMPLE:ann@acme.example</UserId><Account>123456789012</Account>` +
		`</GetCallerIdentityResult><ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></GetCallerIdentityResponse>`,
	also:    []mutation{{"Arn", nil}, {"Arn", ""}, {"Arn", "two\nlines"}},
	refusal: stsError,
	refusals: []refusal{
		{403, "InvalidClientTokenId", "The security token included in the request is invalid"},
		{403, "ExpiredToken", "The security token included in the request is expired"},
	},
	passing: []refusal{{400, "Throttling", "Rate exceeded"}},
}

const personARN = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Analyst_fedcba9876543210/ann@acme.example"

// personAtAWS is a fixture of a person's role in IAM Identity Center.
func personAtAWS(name, target string, want issued, hops ...hop) fixture {
	return fixture{name: "login-" + name, target: target, login: true, sso: true, hops: append([]hop{personRole, personSession}, hops...), want: want}
}

// personAt is a fixture of a person's access token whose reply names the scope.
func personAt(name, target, scope string) fixture {
	token := personToken
	if name != "azure-sql" {
		token.reply = strings.Replace(token.reply, "https://database.windows.net/user_impersonation https://database.windows.net/.default", scope, 1)
		token.refusals = token.refusals[:1]
	}
	return fixture{
		name: "login-" + name, target: target, login: true, hops: []hop{token},
		want: issued{"access_token", "repo:acme/analytics:environment:production", "", 3599 * time.Second},
	}
}

// logins are what the job gives to an exchange, for one identity.
type logins struct{ *people.Account }

func (l logins) AccessToken(ctx context.Context, _ policy.Identity, scope string) (secret.Value, time.Time, error) {
	return l.Account.AccessToken(ctx, scope)
}

func (l logins) RoleCredentials(ctx context.Context, _ policy.Identity) (credential.Credential, error) {
	return l.Account.RoleCredentials(ctx)
}

// session is what a sign-in at IAM Identity Center leaves in the AWS CLI's cache.
const session = "aoaAAAAAGperson-session-at-identity-center"

// signedInAtAWS returns the login of a person at IAM Identity Center.
func (r run) signedInAtAWS(t *testing.T, env exchange.Env) exchange.Login {
	t.Helper()
	id, cache := r.grant.Identity(), t.TempDir()
	sum := sha1.Sum([]byte(id.AWSSSO.StartURL))
	text, err := json.Marshal(map[string]string{
		"startUrl": id.AWSSSO.StartURL, "region": id.AWSSSO.Region, "accessToken": session, "expiresAt": "2000-01-01T08:00:00Z",
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(cache, hex.EncodeToString(sum[:])+".json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return logins{people.New(people.Env{HTTP: env.HTTP, Now: env.Now, State: t.TempDir(), AWS: cache, Say: func(string) {}}, id)}
}

// signedIn returns the login of the token's subject, as a sign-in has left it in files.
func (r run) signedIn(t *testing.T, env exchange.Env) exchange.Login {
	t.Helper()
	if r.sso {
		return r.signedInAtAWS(t, env)
	}
	id, state := r.grant.Identity(), t.TempDir()
	sum := sha256.Sum256([]byte(strings.Join([]string{id.Issuer, id.ClientID, ""}, "\n")))
	name := filepath.Join(state, "logins", hex.EncodeToString(sum[:12]))
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	for extension, content := range map[string]map[string]string{
		".json":  {"issuer": id.Issuer, "client_id": id.ClientID, "store": people.File, "subject": r.grant.Claims().Subject()},
		".token": {"refresh_token": "0.first-refresh-token-0123456789", "id_token": r.idToken.Reveal()},
	} {
		text, _ := json.Marshal(content)
		err = errors.Join(err, os.WriteFile(name+extension, text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return logins{people.New(people.Env{HTTP: env.HTTP, Now: env.Now, State: state, Say: func(string) {}}, id)}
}

// TestLoginIsForPeople: what a policy may say of a person's login, and of whom.
func TestLoginIsForPeople(t *testing.T) {
	t.Parallel()
	const (
		client = "{issuer: https://id.acme.example, kind: people, client_id: dbt-cli}"
		sso    = `{issuer: "https://id.acme.example", kind: people, audience: oidc-dbt, aws_sso: ` +
			`{start_url: "https://acme.awsapps.com/start", region: eu-central-1, account: "123456789012", role: Analyst}}`
		job       = "{issuer: https://id.acme.example, kind: github}"
		snowflake = "{type: snowflake, account: acme-prod, role: ANALYST, database: D, schema: S}"
		athena    = "{type: athena, schema: marts, database: awsdatacatalog, s3_staging_dir: s3://acme/staging/}"
	)
	for _, tt := range []struct {
		name, identity, dbt, exchange, want string
	}{
		{"a person", client, snowflake, "{login: {}}", ""},
		{"a person with a role", sso, athena, "{login: {}}", ""},
		{"a job", job, snowflake, "{login: {}}", `p.yml:9:9: identity "us" is of kind "github", and this credential of provider "login" is for ` +
			`identities of kind "people" only`},
		{"a role for a token", sso, snowflake, "{login: {}}", `p.yml:9:9: identity "us" has aws_sso, which gives no access token, and type "snowflake" ` +
			`takes one from provider "login": name an identity with client_id`},
		{"a token for a role", client, athena, "{login: {}}", `p.yml:9:9: identity "us" has no aws_sso, and type "athena" takes from provider "login" ` +
			`the session of a role in IAM Identity Center`},
		{"a lifetime", client, snowflake, "{login: {}}\n    lifetime: 15m", `p.yml:7:15: lifetime: provider "login" cannot be asked for one: remove this line`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rule := `{identity: us, sub: "00u1ann"}`
			if tt.identity == job {
				rule = `{identity: us, repository_id: "1", ref: refs/heads/main}`
			}
			text := fmt.Sprintf("version: 1\nidentities:\n  us: %s\ntargets:\n  dev:\n    exchange: %s\n    dbt: %s\n    allow:\n      - %s\n",
				tt.identity, tt.exchange, tt.dbt, rule)
			p, err := policy.Parse("p.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			got := ""
			if err != nil {
				got = strings.TrimSpace(strings.Split(err.Error(), "\n")[1])
			}
			if got != tt.want {
				t.Errorf("error is %s, want %s", got, tt.want)
			}
			if err != nil {
				return
			}
			target, err := p.Target("dev")
			if err != nil || target.Audience() != map[string]string{client: "dbt-cli", sso: "oidc-dbt"}[tt.identity] {
				t.Errorf("audience is %q, %v", target.Audience(), err)
			}
		})
	}
}

// TestLoginAtPlaces: what a warehouse asks of the keys.
func TestLoginAtPlaces(t *testing.T) {
	t.Parallel()
	redshift := credential.Redshift{Cluster: "acme"}
	for _, tt := range []struct {
		dbtType, exchange string
		place             credential.Warehouse
		want              string
	}{
		{"snowflake", "{}", credential.Warehouse{Role: "ANALYST"}, ""},
		{"snowflake", "{}", credential.Warehouse{}, "scope is required: type \"snowflake\" has a default only with a `role`"},
		{"snowflake", "{scope: https://graph.microsoft.com/User.Read}", credential.Warehouse{}, `scope is "https://graph.microsoft.com/User.Read", ` +
			`so type "snowflake" would get a token that is valid for a Microsoft service: set the scope of your own resource`},
		{"snowflake", "{scope: session:role:A User.Read}", credential.Warehouse{}, `scope is "User.Read", so type "snowflake" would get a token for ` +
			`the identity provider's own API: set session:role:ROLE, or the scope of your own resource`},
		{"snowflake", "{region: eu-central-1}", credential.Warehouse{Role: "A"}, `region is not supported by type "snowflake": remove it`},
		{"sqlserver", "{}", credential.Warehouse{}, ""},
		{"athena", "{scope: x}", credential.Warehouse{}, `scope is not supported by type "athena": remove it`},
		{"duckdb", "{region: eu-central-1}", credential.Warehouse{}, ""},
		{"redshift", "{}", credential.Warehouse{Host: "acme.abc.eu-central-1.redshift.amazonaws.com", Redshift: redshift}, ""},
		{"redshift", "{}", credential.Warehouse{Host: "127.0.0.1", Redshift: redshift}, "region is required: the host does not name it"},
		{"redshift", "{region: eu-central-1}", credential.Warehouse{Host: "127.0.0.1"}, `host "127.0.0.1" does not name the cluster or workgroup: ` +
			`set cluster_id or serverless_work_group`},
	} {
		t.Run(tt.dbtType+" "+tt.exchange, func(t *testing.T) {
			t.Parallel()
			kind, rule := standin.Identity(standin.Exchange(tt.dbtType, "login"))
			rule = strings.Replace(rule, "{", "{identity: us, ", 1)
			text := fmt.Sprintf("version: 1\nidentities:\n  us: {issuer: \"https://id.acme.example\", %s}\ntargets:\n  dev:\n    exchange: {login: %s}\n"+
				"    dbt: {from: profiles.yml}\n    allow:\n      - %s\n", kind, tt.exchange, rule)
			p, err := policy.Parse("p.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.Target("dev")
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want != "" {
				want = `provider "login": ` + want
			}
			got := ""
			if err := provider.Check("login", target.Exchange(), typed(tt.dbtType, "login", tt.place)); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("error is %s, want %s", got, want)
			}
		})
	}
}

// TestLoginAfterwards: of a profiles.yml the type is known late, and the
// identities are held to it then.
func TestLoginAfterwards(t *testing.T) {
	t.Parallel()
	text := "version: 1\nidentities:\n  us: {issuer: https://id.acme.example, kind: people, client_id: dbt-cli}\ntargets:\n  dev:\n" +
		"    exchange: {login: {}}\n    dbt: {from: profiles.yml}\n    allow:\n      - {identity: us, sub: ann}\n"
	p, err := policy.Parse("p.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("dev")
	if err != nil {
		t.Fatal(err)
	}
	for dbtType, want := range map[string]string{
		"snowflake": "",
		"redshift": `target "dev": identity "us" has no aws_sso, and type "redshift" takes from provider "login" the session of a role ` +
			`in IAM Identity Center`,
	} {
		got := ""
		err := target.CheckIdentities(dbtType, string(adapter.Asks(dbtType, "login").Login))
		if err != nil {
			got = err.Error()
		}
		if got != want || err != nil && fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: error is %s, want %s", dbtType, got, want)
		}
	}
}
