package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const keycloakExport = "what `kcadm.sh get clients -r REALM -q clientId=ID` and `kcadm.sh get " +
	"identity-provider/instances/ALIAS -r REALM` " +
	"print, or the realm's export"

// A keycloakExported is a client, an identity provider or a realm, as Keycloak
// prints them.
type keycloakExported struct {
	ClientID *string `json:"clientId"`
	Alias    *string `json:"alias"`
	Kind     *string `json:"providerId"`

	Clients   []json.RawMessage `json:"clients"`
	Providers []json.RawMessage `json:"identityProviders"`
}

func readKeycloak(d Demand, files []File) (Reading, error) {
	realm, err := d.keycloakRealm()
	if err != nil {
		return Reading{}, err
	}
	r := &keycloakReader{d: d, realm: realm}
	for _, f := range files {
		if err := r.file(f.Name, f.Text); err != nil {
			return Reading{}, err
		}
	}
	if len(r.realm.Clients) == 0 {
		return Reading{}, usage("%s: no client: want %s", files[0].Name, keycloakExport)
	}
	if len(r.realm.Providers) == 0 {
		return Reading{}, usage("%s: no identity provider: want %s", files[0].Name, keycloakExport)
	}
	for _, c := range r.realm.Clients {
		r.client(c)
	}
	return Reading{Admits: logic.And(logic.Equals("aud", realm.url), logic.Or(r.admits...)), Findings: r.findings}, nil
}

type keycloakReader struct {
	d        Demand
	realm    keycloakRealm
	admits   []logic.Formula
	findings []Finding
}

// file reads an object, or a list of them.
func (r *keycloakReader) file(name string, text []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(text, &list) != nil {
		list = []json.RawMessage{text}
	}
	for _, raw := range list {
		var x keycloakExported
		if err := json.Unmarshal(raw, &x); err != nil {
			return usage("%s: want %s: %v", name, keycloakExport, err)
		}
		switch {
		case x.Clients != nil || x.Providers != nil:
			for _, inner := range slices.Concat(x.Clients, x.Providers) {
				if err := r.file(name, inner); err != nil {
					return err
				}
			}
		case x.ClientID != nil:
			c := keycloakClient{Enabled: true}
			if err := json.Unmarshal(raw, &c); err != nil {
				return usage("%s: client %q: %v", name, *x.ClientID, err)
			}
			r.realm.Clients = append(r.realm.Clients, c)
		case x.Alias != nil && x.Kind != nil:
			p := keycloakProvider{Enabled: true}
			if err := json.Unmarshal(raw, &p); err != nil {
				return usage("%s: identity provider %q: %v", name, *x.Alias, err)
			}
			r.realm.Providers = append(r.realm.Providers, p)
		default:
			return usage("%s: neither a client nor an identity provider: want %s", name, keycloakExport)
		}
	}
	return nil
}

func (r *keycloakReader) add(name, severity, format string, args ...any) {
	r.findings = append(r.findings, Finding{Name: name, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

// client adds what a client admits, and finds what is wrong with it. Of a
// realm's export, clients that have nothing to do with the login are left out.
func (r *keycloakReader) client(c keycloakClient) {
	where := fmt.Sprintf("client %q", c.ClientID)
	ours := c.ClientID == r.d.Get("client_id")
	if c.Authenticator != federatedJWT {
		if ours {
			r.add("other-login", "error", "%s authenticates by %s, not by %s: who has its secret needs no ID token, and an ID token is refused",
				where, c.Authenticator, federatedJWT)
		}
		return
	}
	if id := r.d.Get("client_id"); id != "" && !ours {
		return // another target's, whose tokens do not fit client_id
	}
	i := slices.IndexFunc(r.realm.Providers, func(p keycloakProvider) bool { return p.Alias == c.Attributes[attributeIssuer] })
	if i < 0 {
		r.admits = append(r.admits, logic.Undecided(fmt.Sprintf("%s: identity provider %q is in none of the files", where,
			c.Attributes[attributeIssuer])))
		return
	}
	p := r.realm.Providers[i]
	r.provider(p)
	issuer, subject := p.Config["issuer"], c.Attributes[attributeSubject]
	switch {
	case subject == "":
		r.add("missing-subject", "error", "%s has no %s, so it admits nothing: set it to the subject", where, attributeSubject)
		return
	case !c.Enabled || !p.Enabled:
		r.add("disabled", "note", "%s, or its identity provider %q, is disabled and admits nothing", where, p.Alias)
		return
	case c.Public || !c.Service || p.Config["supportsClientAssertions"] != "true":
		r.add("not-a-service-client", "warning", "%s admits nothing: it must not be public, and wants serviceAccountsEnabled, and "+
			"supportsClientAssertions of the identity provider %q", where, p.Alias)
		return
	case p.Kind != "oidc":
		r.admits = append(r.admits, logic.Undecided(fmt.Sprintf("%s: identity provider %q is of kind %q", where, p.Alias, p.Kind)))
		return
	}
	r.flows(where, c)
	if !r.d.trusts(issuer) {
		r.add("other-issuer", "error", "%s trusts the issuer %q, which no rule of target %q names", where, issuer, r.d.Target.Name())
	}
	if double := r.doubles(c); double != nil {
		r.add("duplicate-subject", "error", "clients %q have the same subject %q: Keycloak finds a client by the subject, and refuses it where "+
			"there are several; remove it from all but one", double, subject)
		return
	}
	r.findings = append(r.findings, r.d.subjectFindings(where, issuer, subject)...)
	r.admits = append(r.admits, exact{issuer, subject}.formula())
}

// doubles returns the clients that have a client's subject, nil where it is the only one.
func (r *keycloakReader) doubles(c keycloakClient) (ids []string) {
	for _, other := range r.realm.Clients {
		if other.Authenticator == federatedJWT && other.Attributes[attributeIssuer] == c.Attributes[attributeIssuer] &&
			other.Attributes[attributeSubject] == c.Attributes[attributeSubject] {
			ids = append(ids, other.ClientID)
		}
	}
	if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) < 2 {
		return nil
	}
	return ids
}

// flows finds other ways to get a token of the client.
func (r *keycloakReader) flows(where string, c keycloakClient) {
	var others []string
	for _, f := range []struct {
		on   bool
		name string
	}{{c.Standard, "standardFlowEnabled"}, {c.Implicit, "implicitFlowEnabled"}, {c.Direct, "directAccessGrantsEnabled"}} {
		if f.on {
			others = append(others, f.name)
		}
	}
	if len(others) > 0 {
		r.add("other-login", "warning", "%s also has %s: people can get its tokens; switch it off", where, strings.Join(others, ", "))
	}
}

// provider finds what lets more than the clients' assertions through.
func (r *keycloakReader) provider(p keycloakProvider) {
	where := fmt.Sprintf("identity provider %q", p.Alias)
	if slices.ContainsFunc(r.findings, func(f Finding) bool { return strings.HasPrefix(f.Message, where+" ") }) {
		return // said for another client
	}
	if !p.LinkOnly {
		r.add("other-login", "note", "%s lets people log in, too: set linkOnly and hideOnLogin", where)
	}
	if p.Config["supportsClientAssertionReuse"] == "true" && slices.ContainsFunc(r.d.Rules, func(rule Rule) bool {
		return rule.Identity.Issuer == p.Config["issuer"] && mintsAnew(rule.Identity)
	}) {
		r.add("token-reuse", "note", "%s takes a token more than once, and the jobs get a new one for each login: set "+
			"supportsClientAssertionReuse to false", where)
	}
}
