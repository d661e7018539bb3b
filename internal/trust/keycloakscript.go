package trust

import (
	"strconv"
	"strings"
)

// kcadm writes a command of Keycloak's admin tool for the realm.
func (k keycloakRealm) kcadm(verb, resource string, more ...any) string {
	return command(append([]any{"kcadm.sh", verb, resource, "-r", k.Realm}, more...)...)
}

// keycloakScript creates what is not there yet.
func (d Demand) keycloakScript(k keycloakRealm) (s Script) {
	d.keycloakLogin(&s, k)
	for _, p := range k.Providers {
		d.createProvider(&s, k, p)
	}
	for _, c := range k.Clients {
		k.createClient(&s, c)
	}
	return s
}

func (d Demand) keycloakLogin(s *Script, k keycloakRealm) {
	s.run("Log in first, as who may change the realm:\n"+
		command("kcadm.sh", "config", "credentials", "--server", k.server, "--realm", "master", "--user", "ADMIN"),
		command("kcadm.sh", "get", "realms/"+k.Realm, "--fields", "realm,enabled"))
}

// createProvider adds the identity provider for an issuer. Nobody logs in
// through it.
func (d Demand) createProvider(s *Script, k keycloakRealm, p keycloakProvider) {
	at := "identity-provider/instances/" + p.Alias
	s.run("The issuer "+p.Config["issuer"]+", whose tokens authenticate clients. Nobody can log in through it.\n"+
		"An identity provider that is there under this name is left as it is.",
		k.kcadm("get", at, "--fields", "alias")+" >/dev/null 2>&1 ||",
		feed("  "+k.kcadm("create", "identity-provider/instances", "-f", "-"), asJSON(p)))
	if p.Config["jwksUrl"] == "" {
		keys := s.needs(keysVariable(p))
		s.run("Where its keys are.", k.kcadm("update", at, "-s", shellText(`"config.jwksUrl=$`+string(keys)+`"`)))
	}
}

func keysVariable(p keycloakProvider) Variable {
	return Variable{
		Name: strings.ToUpper(hclName(p.Alias)) + "_JWKS_URL", Doc: "the address of the keys of " + p.Config["issuer"] +
			": jwks_uri of its discovery document",
		Find: "curl --fail --silent --show-error " + quote(strings.TrimSuffix(p.Config["issuer"],
			"/")+"/.well-known/openid-configuration") + " | jq -r .jwks_uri",
	}
}

func (k keycloakRealm) createClient(s *Script, c keycloakClient) {
	s.run("The client for "+c.Attributes[attributeSubject]+".\nA client that is there under this name is left as it is.",
		`test -n "$(`+k.kcadm("get", "clients", "-q", "clientId="+c.ClientID, "--fields", "id", "--format", "csv", "--noquotes")+`)" ||`,
		feed("  "+k.kcadm("create", "clients", "-f", "-"), asJSON(c)))
}

// keycloakTerraform is the same for Keycloak's provider.
func (d Demand) keycloakTerraform(k keycloakRealm) string {
	f, label := newTerraform(), hclName(d.Name())
	data := f.block("data", "keycloak_realm", label)
	data.set("realm", k.Realm)
	realm := hclRef("data.keycloak_realm." + label + ".id")
	if d.Options.Values["identity-provider"] != "existing" {
		f.comment("A realm has one identity provider for an issuer: where another target's file has it, --set identity-provider=existing")
		for _, p := range k.Providers {
			p.terraform(f, realm, label)
		}
	}
	for i, c := range k.Clients {
		if len(k.Clients) > 1 {
			label = hclName(d.Name()) + "_" + strconv.Itoa(i+1)
		}
		c.terraform(f, realm, label)
	}
	return f.String()
}

func (p keycloakProvider) terraform(f *terraform, realm hclRef, label string) {
	keys := any(p.Config["jwksUrl"])
	if keys == "" {
		keys = f.variable("keycloak_"+hclName(p.Alias)+"_jwks_url", "jwks_uri of the discovery document of "+p.Config["issuer"])
	}
	f.comment("Nobody logs in through it: authorization_url, token_url and what follows are there because the provider wants them.")
	b := f.block("resource", "keycloak_oidc_identity_provider", label+"_"+hclName(p.Alias))
	b.set("realm", realm)
	b.set("alias", p.Alias)
	b.set("issuer", p.Config["issuer"])
	b.set("jwks_url", keys)
	b.set("validate_signature", true)
	b.set("hide_on_login_page", p.Hidden)
	b.set("link_only", p.LinkOnly)
	b.set("store_token", false)
	b.set("authorization_url", p.Config["issuer"])
	b.set("token_url", p.Config["issuer"])
	b.set("client_id", "unused")
	b.set("client_secret", "unused")
	extra := hclObject{}
	for _, name := range []string{"useJwksUrl", "supportsClientAssertions", "supportsClientAssertionReuse", "fedClientAssertionMaxExp"} {
		if value := p.Config[name]; value != "" {
			extra = append(extra, hclField{name, value})
		}
	}
	b.set("extra_config", extra)
}

func (c keycloakClient) terraform(f *terraform, realm hclRef, label string) {
	b := f.block("resource", "keycloak_openid_client", label)
	b.set("realm_id", realm)
	b.set("client_id", c.ClientID)
	b.set("name", c.Name)
	b.set("access_type", "CONFIDENTIAL")
	b.set("service_accounts_enabled", true)
	b.set("standard_flow_enabled", false)
	b.set("implicit_flow_enabled", false)
	b.set("direct_access_grants_enabled", false)
	b.set("full_scope_allowed", false)
	b.set("client_authenticator_type", c.Authenticator)
	b.set("extra_config", hclObject{
		{attributeIssuer, c.Attributes[attributeIssuer]},
		{attributeSubject, c.Attributes[attributeSubject]},
	})
	for _, m := range c.Mappers {
		b := f.block("resource", "keycloak_openid_audience_protocol_mapper", label)
		b.set("realm_id", realm)
		b.set("client_id", hclRef("keycloak_openid_client."+label+".id"))
		b.set("name", m.Name)
		b.set("included_custom_audience", m.Config["included.custom.audience"])
		b.set("add_to_access_token", true)
		b.set("add_to_id_token", false)
	}
}

// events adds the commands that read the realm's events about the clients.
func (k keycloakRealm) events(s *Script, doc string) {
	var lines []string
	for _, c := range k.Clients {
		lines = append(lines, k.kcadm("get", "events", "-q", "client="+c.ClientID, "-q", "max=1000"))
	}
	s.run(doc+"\nA realm keeps events if it is told to: kcadm.sh update events/config -r "+quote(k.Realm)+" -s eventsEnabled=true", lines...)
}
