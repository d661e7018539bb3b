package trust

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// externalOAuthLanguage is Snowflake's part where an authorization server of
// one's own exchanges the ID token: the wall is that server's.
var externalOAuthLanguage = language{
	generate: func(d Demand) (Wall, error) {
		w := Wall{Admits: logic.Undecided("the authorization server decides which ID tokens it exchanges")}
		for _, r := range d.Rules {
			rep := report(r)
			for _, c := range r.Conditions {
				rep.wider(c.Claim, "the authorization server decides which ID tokens it exchanges: Snowflake sees its access token", "")
			}
			w.Rules = append(w.Rules, rep)
		}
		d.addExternalOAuth(&w)
		return w, nil
	},
	read: func(d Demand, files []File) (Reading, error) {
		return Reading{}, usage("%s: Snowflake trusts the authorization server of target %q, and nothing there says which ID tokens it "+
			"exchanges: check the server itself", files[0].Name, d.Target.Name())
	},
	rotate: func(d, _ Demand) (Script, error) {
		return Script{}, usage("target %q: the ID token's audience and subject are the authorization server's to trust: add the new ones "+
			"there, change the policy, and remove the old ones there", d.Target.Name())
	},
	revoke: revokeSnowflake,
}

// addWarehouse adds what the warehouse itself must be told where the login's
// provider is another: Snowflake over an AWS role, and by External OAuth.
func (d Demand) addWarehouse(language string, w *Wall) {
	if d.Case.Login.DBT.Type != "snowflake" {
		return
	}
	switch language {
	case "aws":
		d.addSnowflake(w, []workloadIdentity{{Type: "AWS", ARN: d.finalRole()}})
	case "entra", "keycloak":
		d.addExternalOAuth(w)
	}
}

// finalRole is the AWS role whose session signs the login.
func (d Demand) finalRole() string {
	if role := d.Get("then_assume.role"); role != "" {
		return role
	}
	return d.Get("role")
}

// An oauthServer is an authorization server as a security integration names it.
// What is "" is not known.
type oauthServer struct {
	Type, Issuer, Keys, Audience string
	Subject                      string // `sub` of the access token
}

// oauthServer returns what the policy says of the server. Entra ID's access
// tokens for a resource of one's own are of version 1.0 unless its registration
// asks for 2.0. (Microsoft identity platform: Access token claims reference)
func (d Demand) oauthServer() oauthServer {
	s := oauthServer{Type: "CUSTOM", Issuer: d.Options.Values["oauth-issuer"], Keys: d.Options.Values["oauth-keys-url"],
		Audience: d.Options.Values["oauth-audience"], Subject: d.Options.Values["principal-id"]}
	if d.Provider() == "entra" {
		s.Type = "AZURE"
		tenant := d.Options.Values["tenant-id"]
		if uuidText.MatchString(d.Get("tenant")) {
			tenant = d.Get("tenant")
		}
		authority := strings.TrimSuffix(d.Get("authority"), "/")
		if authority == "" {
			authority = "https://login.microsoftonline.com"
			if tenant != "" && s.Issuer == "" {
				s.Issuer = "https://sts.windows.net/" + tenant + "/"
			}
		}
		if s.Keys == "" {
			s.Keys = authority + "/" + d.Get("tenant") + "/discovery/v2.0/keys"
		}
		if s.Audience == "" {
			s.Audience = strings.TrimSuffix(d.Get("scope"), "/.default")
		}
		return s
	}
	if s.Audience == "" {
		s.Audience = d.Get("resource")
	}
	if s.Audience == "" {
		s.Audience = d.Get("target_audience")
	}
	return s
}

const (
	oauthIssuerDoc   = "the issuer of the access tokens: `iss` of one of them"
	oauthKeysDoc     = "where the authorization server publishes its keys: jwks_uri of its metadata"
	oauthAudienceDoc = "the audience of the access tokens: `aud` of one of them"
	oauthSubjectDoc  = "`sub` of the access tokens, which names the user: for Entra ID the object id of the service principal"
)

// addExternalOAuth adds the security integration that trusts the authorization
// server, and the user that its access tokens become.
func (d Demand) addExternalOAuth(w *Wall) {
	sql := d.snowflakeExternalOAuth()
	fence := d.snowflakeFence("OAUTH", []string{"SECURITY_INTEGRATIONS = (" + d.fenceName().SQL + ")"})
	grants := d.snowflakeGrants()
	w.Documents = append(w.Documents, Document{"snowflake.sql", sql.with(fence).String()}, Document{"grants.sql", grants.String()})
	w.Terraform = joinTerraform(w.Terraform, d.externalOAuthTerraform())
	grants.addTo(&w.Script, grantsDoc)
	sql.addTo(&w.Script, "Snowflake trusts the authorization server, for this user and role. Run it as ACCOUNTADMIN, or a role that may\n"+
		"create integrations and users.")
	fence.addTo(&w.Script, fenceDoc)
	w.Notes = append(w.Notes, "Snowflake sees the authorization server's access token, none of the ID token's claims: the wall is the "+
		"authorization server's, and any other client that gets a token with this `sub` from it is this user, too")
}

// snowflakeExternalOAuth are the statements for Snowflake to accept the access
// tokens that the login gets. (Snowflake: CREATE SECURITY INTEGRATION, External OAuth)
func (d Demand) snowflakeExternalOAuth() *sqlText {
	s, server := &sqlText{d: d}, d.oauthServer()
	user := s.name("user", "the user that the login becomes")
	role := s.name("role", "the role that dbt runs with")
	value := func(text, variable, doc string) string {
		if text != "" {
			return sqlLiteral(text)
		}
		s.variable(variable, doc)
		return "$" + variable
	}
	s.say("Target %q: the access tokens of its authorization server log in.", d.Target.Name())
	lines := []string{"CREATE SECURITY INTEGRATION IF NOT EXISTS " + d.fenceName().SQL, "TYPE = EXTERNAL_OAUTH", "ENABLED = TRUE",
		"EXTERNAL_OAUTH_TYPE = " + server.Type,
		"EXTERNAL_OAUTH_ISSUER = " + value(server.Issuer, "OIDC_DBT_ISSUER", oauthIssuerDoc),
		"EXTERNAL_OAUTH_JWS_KEYS_URL = " + value(server.Keys, "OIDC_DBT_KEYS_URL", oauthKeysDoc),
		"EXTERNAL_OAUTH_AUDIENCE_LIST = (" + value(server.Audience, "OIDC_DBT_AUDIENCE", oauthAudienceDoc) + ")",
		"EXTERNAL_OAUTH_TOKEN_USER_MAPPING_CLAIM = 'sub'",
		"EXTERNAL_OAUTH_SNOWFLAKE_USER_MAPPING_ATTRIBUTE = 'LOGIN_NAME'",
		"EXTERNAL_OAUTH_ANY_ROLE_MODE = 'DISABLE'"}
	if role.Exact != "" {
		lines = append(lines, "EXTERNAL_OAUTH_ALLOWED_ROLES_LIST = ("+sqlLiteral(role.Exact)+")")
	}
	s.run(lines...)
	lines = []string{"CREATE USER IF NOT EXISTS " + user.SQL, "TYPE = SERVICE",
		"LOGIN_NAME = " + value(server.Subject, "OIDC_DBT_SUBJECT", oauthSubjectDoc)}
	if role.Exact != "" {
		lines = append(lines, "DEFAULT_ROLE = "+role.SQL)
	}
	s.run(lines...)
	s.run("GRANT ROLE " + role.SQL + " TO USER " + user.SQL)
	return s
}

// externalOAuthTerraform is the same for Snowflake's provider.
func (d Demand) externalOAuthTerraform() string {
	f, label, server := newTerraform(), hclName(d.Name()), d.oauthServer()
	user := d.tfName(f, "user", "the user that the login becomes")
	role := d.tfName(f, "role", "the role that dbt runs with")
	value := func(text, variable, doc string) any {
		if text != "" {
			return text
		}
		return f.variable("snowflake_"+variable, doc)
	}
	issuer := value(server.Issuer, "oauth_issuer", oauthIssuerDoc)
	keys := value(server.Keys, "oauth_keys_url", oauthKeysDoc)
	audience := value(server.Audience, "oauth_audience", oauthAudienceDoc)
	subject := value(server.Subject, "oauth_subject", oauthSubjectDoc)
	b := f.block("resource", "snowflake_external_oauth_integration", label)
	b.set("name", d.fenceName().Exact)
	b.set("enabled", true)
	b.set("external_oauth_type", server.Type)
	b.set("external_oauth_issuer", issuer)
	b.set("external_oauth_jws_keys_url", hclList{keys})
	b.set("external_oauth_audience_list", hclList{audience})
	b.set("external_oauth_token_user_mapping_claim", []string{"sub"})
	b.set("external_oauth_snowflake_user_mapping_attribute", "LOGIN_NAME")
	b.set("external_oauth_any_role_mode", "DISABLE")
	b.set("external_oauth_allowed_roles_list", hclList{role})
	u := f.block("resource", "snowflake_service_user", label)
	u.set("name", user)
	u.set("login_name", subject)
	u.set("default_role", role)
	grant := f.block("resource", "snowflake_grant_account_role", label)
	grant.set("role_name", role)
	userRef := hclRef("snowflake_service_user." + label + ".name")
	grant.set("user_name", userRef)
	d.terraformFence(f, label, userRef, "OAUTH", func(b *hclBody) {
		b.set("security_integrations", hclList{hclRef("snowflake_external_oauth_integration." + label + ".name")})
	})
	return f.String()
}

var uuidText = lazy.MustCompile(`^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
