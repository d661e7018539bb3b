package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// keycloakLanguage is clients of a realm of Keycloak that authenticate with the
// CI system's ID token ("Signed JWT - Federated"): each has an identity
// provider of the realm, and one exact subject.
var keycloakLanguage = language{generate: generateKeycloak, read: readKeycloak, rotate: rotateKeycloak, revoke: revokeKeycloak}

// maxKeycloakID is how long the id of a client, or an alias, may be.
const maxKeycloakID = 255

// federatedJWT is the authenticator of Keycloak's clients that takes the ID
// token of another issuer.
const federatedJWT = "federated-jwt"

// A keycloakClient is a client as Keycloak's admin API has it.
type keycloakClient struct {
	ClientID      string            `json:"clientId"`
	Name          string            `json:"name,omitempty"`
	Protocol      string            `json:"protocol"`
	Enabled       bool              `json:"enabled"`
	Authenticator string            `json:"clientAuthenticatorType"`
	Public        bool              `json:"publicClient"`
	Service       bool              `json:"serviceAccountsEnabled"`
	Standard      bool              `json:"standardFlowEnabled"`
	Implicit      bool              `json:"implicitFlowEnabled"`
	Direct        bool              `json:"directAccessGrantsEnabled"`
	FullScope     bool              `json:"fullScopeAllowed"`
	Attributes    map[string]string `json:"attributes"`
	Mappers       []keycloakMapper  `json:"protocolMappers,omitempty"`
}

// A keycloakMapper puts something into the access tokens of a client.
type keycloakMapper struct {
	Name     string            `json:"name"`
	Protocol string            `json:"protocol"`
	Mapper   string            `json:"protocolMapper"`
	Config   map[string]string `json:"config"`
}

// A keycloakProvider is an identity provider of a realm.
type keycloakProvider struct {
	Alias    string            `json:"alias"`
	Kind     string            `json:"providerId"`
	Enabled  bool              `json:"enabled"`
	Hidden   bool              `json:"hideOnLogin"`
	LinkOnly bool              `json:"linkOnly"`
	Config   map[string]string `json:"config"`
}

// keycloakRealm is what a realm must have, as its export has it.
type keycloakRealm struct {
	Realm     string             `json:"realm"`
	Providers []keycloakProvider `json:"identityProviders"`
	Clients   []keycloakClient   `json:"clients"`

	server string // the address that its admin API is at
	url    string // its issuer
}

const (
	attributeIssuer  = "jwt.credential.issuer" // the alias of an identity provider
	attributeSubject = "jwt.credential.sub"
)

// tokenEndpoint takes the address of a realm's token endpoint apart.
var tokenEndpoint = lazy.MustCompile(`^((https?://[^?#]+)/realms/([^/?#]+))/protocol/openid-connect/token$`)

// keycloakRealm returns the login's realm, empty.
func (d Demand) keycloakRealm() (k keycloakRealm, err error) {
	m := tokenEndpoint.FindStringSubmatch(d.Get("token_url"))
	if m == nil {
		return k, usage("target %q: token_url %q is not a realm of Keycloak (https://HOST/realms/REALM/protocol/openid-connect/token), "+
			"and no trust is generated for other authorization servers", d.Target.Name(), d.Get("token_url"))
	}
	k = keycloakRealm{url: m[1], server: m[2], Realm: m[3]}
	if issuer := d.Options.Values["realm-url"]; issuer != "" {
		k.url = issuer
	}
	if d.Audience() != k.url {
		return k, usage("target %q: audience %q: Keycloak takes only the realm's own issuer, which is %s by token_url: write that, or say "+
			"what the issuer is with --set realm-url=URL", d.Target.Name(), d.Audience(), k.url)
	}
	return k, nil
}

func generateKeycloak(d Demand) (Wall, error) {
	k, reports, err := d.keycloak()
	if err != nil {
		return Wall{}, err
	}
	w := Wall{Rules: reports, Admits: k.admits(), Notes: d.keycloakNotes(k)}
	w.Documents = []Document{{"keycloak.json", asJSON(k)}}
	w.Terraform = d.keycloakTerraform(k)
	w.Script = d.keycloakScript(k)
	return w, nil
}

// keycloak returns what the realm must have for the login, and what it leaves open.
func (d Demand) keycloak() (keycloakRealm, []RuleReport, error) {
	k, err := d.keycloakRealm()
	if err != nil {
		return k, nil, err
	}
	e := &exacter{d: d, provider: "Keycloak"}
	for _, r := range d.Rules {
		if err := e.add(r); err != nil {
			return k, nil, err
		}
	}
	subjects, err := d.keycloakSubjects(e.list)
	if err != nil {
		return k, nil, err
	}
	for _, s := range subjects {
		p := d.keycloakProvider(s.Issuer)
		if !slices.ContainsFunc(k.Providers, func(have keycloakProvider) bool { return have.Alias == p.Alias }) {
			k.Providers = append(k.Providers, p)
		}
		k.Clients = append(k.Clients, d.keycloakClient(s, p.Alias, k.url))
	}
	for i, own := range e.own {
		e.own[i] = logic.And(own, k.admits())
	}
	reports := e.reports(k.admits())
	if len(subjects) < len(e.list) {
		for i := range reports {
			if len(reports[i].Narrower) > 0 {
				reports[i].Narrower = []Gap{{"sub", "a client of Keycloak has one subject, so client_id binds the target to one of the two forms " +
					"of GitHub's", "--set subject=" + d.otherForm() + " for the other one, or no client_id in the policy: then each form has a client"}}
			}
		}
	}
	return k, reports, nil
}

// otherForm is the form of GitHub's subjects that is not used where there can
// be one only.
func (d Demand) otherForm() string {
	if d.Options.Values["subject"] == "ids" {
		return "names"
	}
	return "ids"
}

// keycloakSubjects are those that have a client. With client_id there is one
// client; of the two forms of a repository's subject it has one then.
func (d Demand) keycloakSubjects(list []exact) ([]exact, error) {
	form := d.Options.Values["subject"]
	if !slices.Contains([]string{"", "names", "ids"}, form) {
		return nil, usage("--set subject=%s: want names or ids", form)
	}
	if len(list) == 0 {
		return nil, usage("target %q: Keycloak compares whole subjects, and those of its rules cannot be listed: write values without "+
			"wildcards, or an environment, whose subject does not have the ref", d.Target.Name())
	}
	id := d.Get("client_id")
	if id == "" || len(list) == 1 {
		return list, nil
	}
	one := slices.DeleteFunc(slices.Clone(list), func(x exact) bool {
		s, ok := policy.SubjectOf(x.Subject)
		return ok && (s.OwnerID != "") != (form == "ids")
	})
	if len(one) != 1 {
		return nil, usage("target %q: its rules come to %d subjects, and client %q has one: leave client_id out of the policy, so that each "+
			"subject has a client of its own, or choose the client by a ${claim} in client_id", d.Target.Name(), len(list), id)
	}
	return one, nil
}

// keycloakProvider is the identity provider for an issuer. Nobody logs in
// through it: its tokens are the clients' assertions.
func (d Demand) keycloakProvider(issuer string) keycloakProvider {
	id := d.identityOf(issuer)
	p := keycloakProvider{Alias: slug(id.Name), Kind: "oidc", Enabled: true, Hidden: true, LinkOnly: true, Config: map[string]string{
		"issuer": issuer, "jwksUrl": keysOf(id), "useJwksUrl": "true", "validateSignature": "true", "supportsClientAssertions": "true",
	}}
	if alias := d.Options.Values["alias"]; alias != "" {
		p.Alias = alias
	}
	if !mintsAnew(id) {
		p.Config["supportsClientAssertionReuse"] = "true"
		p.Config["fedClientAssertionMaxExp"] = "3600"
	}
	return p
}

// mintsAnew reports whether a job gets a new token whenever it asks. Others get
// one at their start, and log in with it again and again.
func mintsAnew(id policy.Identity) bool { return id.Kind == "github" || id.Kind == "buildkite" }

// identityOf is the policy's identity with an issuer.
func (d Demand) identityOf(issuer string) policy.Identity {
	for _, r := range d.Rules {
		if r.Identity.Issuer == issuer {
			return r.Identity
		}
	}
	return policy.Identity{Issuer: issuer}
}

// keysOf is the address of an issuer's keys, "" where that takes discovery.
func keysOf(id policy.Identity) string {
	if id.JWKS == "" && id.Kind == "github" {
		return id.Issuer + "/.well-known/jwks"
	}
	return id.JWKS
}

// keycloakClient is the client for a subject.
func (d Demand) keycloakClient(x exact, alias, audience string) keycloakClient {
	c := keycloakClient{
		ClientID: d.Get("client_id"), Name: "dbt, target " + d.Name(), Protocol: "openid-connect", Enabled: true, Service: true,
		Authenticator: federatedJWT, Attributes: map[string]string{attributeIssuer: alias, attributeSubject: x.Subject},
	}
	if c.ClientID == "" {
		c.ClientID = named(d.Name(), x.Subject, maxKeycloakID, x.Issuer, x.Subject, audience)
	}
	if to := d.keycloakAccess(); to != "" {
		c.Mappers = []keycloakMapper{{Name: "warehouse", Protocol: "openid-connect", Mapper: "oidc-audience-mapper",
			Config: map[string]string{"included.custom.audience": to, "access.token.claim": "true", "id.token.claim": "false"}}}
	}
	return c
}

// keycloakAccess is the audience of the access tokens, "" where nothing says it.
func (d Demand) keycloakAccess() string {
	for _, text := range []string{d.Options.Values["access-audience"], d.Get("target_audience"), d.Get("resource")} {
		if text != "" {
			return text
		}
	}
	return ""
}

// named is a name for what admits a subject. It follows from what it is, so
// that others keep theirs when one is added, and an old and a new one can be
// side by side.
func named(target, subject string, longest int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	end := "-" + hex.EncodeToString(sum[:4])
	name := "oidc-dbt-" + slug(target) + "-" + slug(strings.TrimPrefix(subject, "repo:"))
	if len(name) > longest-len(end) {
		name = name[:longest-len(end)]
	}
	return strings.TrimRight(name, "-") + end
}

// admits is met by the tokens with which any of the clients gets a token of its own.
func (k keycloakRealm) admits() logic.Formula {
	var parts []logic.Formula
	for _, c := range k.Clients {
		for _, p := range k.Providers {
			if c.takes(p) {
				parts = append(parts, logic.And(logic.Equals("iss", p.Config["issuer"]), logic.Equals("sub", c.Attributes[attributeSubject])))
			}
		}
	}
	return logic.And(logic.Equals("aud", k.url), logic.Or(parts...))
}

// takes reports whether a client takes assertions of an identity provider, as
// Keycloak decides it.
func (c keycloakClient) takes(p keycloakProvider) bool {
	return c.Enabled && c.Service && !c.Public && c.Authenticator == federatedJWT && c.Attributes[attributeIssuer] == p.Alias &&
		c.Attributes[attributeSubject] != "" && p.Enabled && p.Kind == "oidc" && p.Config["supportsClientAssertions"] == "true"
}

func (d Demand) keycloakNotes(k keycloakRealm) (notes []string) {
	notes = []string{"Keycloak 26.7 has the feature client-auth-federated on; older ones, from 26.4, must be started with " +
		"--features=client-auth-federated, and their error without it is the one for a wrong subject"}
	if d.keycloakAccess() == "" {
		notes = append(notes, "nothing says what the access tokens are for: if the warehouse wants an audience, give it with "+
			"--set access-audience=NAME")
	}
	if len(k.Clients) > 1 {
		notes = append(notes, fmt.Sprintf("each of the %d clients has a service account of its own, service-account-CLIENT: the warehouse "+
			"must give all of them the same role", len(k.Clients)))
	}
	for _, p := range k.Providers {
		if p.Config["supportsClientAssertionReuse"] != "" {
			notes = append(notes, fmt.Sprintf("the jobs of %s have one token for all their logins, so the identity provider takes a token "+
				"more than once, and for an hour after it was issued", p.Config["issuer"]))
		}
	}
	return notes
}
