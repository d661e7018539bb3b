package policy

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// An Identity says who may ask: an issuer, and the kind of its tokens.
type Identity struct {
	Name   string
	Issuer string
	Kind   string // one of kinds
	// JWKS is the address of the issuer's keys, JWKSFile a file with them, Keys
	// the JWK set itself: at most one is set; none where the address is known or
	// found by discovery.
	JWKS, JWKSFile, Keys string
	Audience             string // of every token, where its source cannot ask for another; for people the client id
	Source               Source
	Bind, IDs            []string // of a workload: the claims that a rule must match by literals, and those that are never reused
	ClientID             string   // for people: the ID token's audience
	ClientSecret         string   // for people at Google, whose clients have one that keeps nothing secret
	Flow                 string   // for people: "device" or "browser"
	Scopes               []string
	AWSSSO               *AWSSSO // for people who sign in through IAM Identity Center
}

// A Source is where an identity's tokens come from. The zero Source is the one
// that the kind's system documents.
type Source struct {
	Env        string   // the name of a variable
	File       string   // a path
	Command    []string // a program and its arguments, in which {audience} is the audience
	UnixSocket string   // whose protocol: one of unixSockets
}

// IsZero reports whether the policy names no source.
func (s Source) IsZero() bool {
	return s.Env == "" && s.File == "" && len(s.Command) == 0 && s.UnixSocket == ""
}

// RunsOrConnects reports whether the source runs a program or asks a socket.
func (s Source) RunsOrConnects() bool { return len(s.Command) > 0 || s.UnixSocket != "" }

// An AWSSSO is a role of a person in IAM Identity Center. Session is the name
// that the AWS CLI's configuration has for the sign-in, "" for none. Endpoint is
// where AWS is simulated, "" for AWS.
type AWSSSO struct{ StartURL, Region, Account, Role, Session, Endpoint string }

// unixSockets are the systems that hand out ID tokens over a socket of the machine.
var unixSockets = []string{"cursor", "fly"}

// bindings are what a rule for the identity may bind.
func (id Identity) bindings() []binding {
	switch {
	case id.Kind == "workload":
		return []binding{{claims: id.Bind}}
	case id.AWSSSO != nil:
		return []binding{{claims: []string{awsClaims + "identity_store_user_id"}}, {claims: []string{"sub"}}}
	case id.Issuer == "https://oidc.circleci.com": // of all organisations
		return []binding{{claims: []string{circleci + "org-id", circleci + "project-id"}}}
	}
	return kinds[id.Kind].bind
}

// stable are the claims that make a name harmless.
func (id Identity) stable() []string {
	if id.Kind == "workload" {
		return id.IDs
	}
	return kinds[id.Kind].ids
}

// FixedToken reports whether a job has one token for its whole life, so that
// nothing is kept fresh after the token's expiry.
func (id Identity) FixedToken() bool {
	return kinds[id.Kind].fixed || id.Source.Env != ""
}

// RunClaims are the claims that tell one run of the identity from another.
func (id Identity) RunClaims() []string { return slices.Clone(kinds[id.Kind].run) }

// RecordedClaims are those that an audit record keeps, next to those of the run and the actor.
func (id Identity) RecordedClaims() []string {
	switch {
	case id.Kind == "workload":
		return slices.Concat(id.Bind, id.IDs)
	case id.AWSSSO != nil: // the token is one of AWS
		return slices.Clone(kinds["aws"].recorded)
	}
	return slices.Clone(kinds[id.Kind].recorded)
}

// ActorClaims are the claims of who started the run, "" where there are none.
func (id Identity) ActorClaims() (name, account string) {
	a := kinds[id.Kind].actor
	return a.name, a.id
}

var identityKeys = []string{"issuer", "kind", "jwks_uri", "jwks_file", "jwks", "audience", "source", "bind", "ids",
	"client_id", "client_secret", "flow", "scopes", "aws_sso"}

// keyKinds are the kinds that a key of an identity is for; the others are for each.
var keyKinds = map[string]string{
	"client_id": "people", "client_secret": "people", "flow": "people", "scopes": "people", "aws_sso": "people",
	"bind": "workload", "ids": "workload",
}

func (d *document) identities(p *Policy, n *yaml.Node) {
	if n == nil {
		p.identities = []*Identity{{Name: "github", Issuer: githubIssuer, Kind: "github"}}
		return
	}
	m, ok := d.Mapping(n, n, "identities", nil)
	if !ok {
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "identities is empty: remove it to accept GitHub only")
	}
	for key, value := range m.Pairs {
		if !nameText.MatchString(key.Value) {
			d.Report(key, "identity name %q: %s", key.Value, wantName)
		}
		id := d.identity(key, value)
		// A token must belong to one identity. People's are told apart by
		// their audience, the client.
		for _, other := range p.identities {
			if id.Issuer == other.Issuer && id.Issuer != "" && (id.Kind == "people") == (other.Kind == "people") &&
				(id.Kind != "people" || id.Audience == other.Audience) {
				d.Report(key, "identity %q has the same issuer as identity %q: a token would belong to both", id.Name, other.Name)
				break
			}
		}
		p.identities = append(p.identities, id)
	}
}

func (d *document) identity(key, n *yaml.Node) *Identity {
	id := &Identity{Name: key.Value}
	m, ok := d.Mapping(key, n, fmt.Sprintf("identity %q", id.Name), identityKeys)
	if !ok {
		return id
	}
	d.kind(id, m)
	d.issuerKeys(id, m)
	if v := m.Get("audience"); v != nil {
		if LikeGitHub(id.Kind) {
			d.Report(v, "audience cannot be given for kind %q: each job asks for the audience of its target", id.Kind)
		} else {
			id.Audience = d.Text(v, "audience")
		}
	} else {
		id.Audience = kinds[id.Kind].audience
	}
	if v := m.Get("source"); v != nil {
		id.Source = d.source(id, v)
	}
	for _, name := range identityKeys {
		if v, kind := m.Get(name), keyKinds[name]; v != nil && kind != "" && id.Kind != "" && id.Kind != kind {
			d.Report(v, "%s requires kind %q, this is %q", name, kind, id.Kind)
		}
	}
	switch id.Kind {
	case "workload":
		d.workload(id, m)
	case "people":
		d.people(id, m)
	case "claude_code": // the issuer is no address, and the audience is the environment's
		if id.Audience == "" {
			m.Missing("audience: the id of the environment (ccpool_…), which is the audience of its tokens")
		}
		if id.JWKS == "" && id.JWKSFile == "" && id.Keys == "" {
			m.Missing("jwks_uri, jwks_file or jwks: the issuer of this kind is no address at which to look for keys")
		}
	}
	return id
}

// kind reads the issuer and the kind of an identity, one of which may follow from the other.
func (d *document) kind(id *Identity, m strictyaml.Mapping) {
	issuer := m.Get("issuer")
	if v := m.Get("kind"); v != nil {
		id.Kind = d.Text(v, "kind")
		if _, ok := kinds[id.Kind]; !ok && id.Kind != "" {
			d.Report(v, "unknown kind %q, valid kinds are %q%s", id.Kind, Kinds(), otherNames.DidYouMean(id.Kind, Kinds()))
		}
	}
	known := kinds[id.Kind].issuer
	switch {
	case issuer == nil && known != "":
		id.Issuer = known
	case issuer == nil:
		m.Missing("issuer")
	case id.Kind == "claude_code":
		id.Issuer = d.Text(issuer, "issuer")
	default:
		id.Issuer = d.url(issuer, "issuer")
		if why := notOneTenant(id.Issuer); why != "" {
			d.Report(issuer, "issuer %q %s", id.Issuer, why)
		}
	}
	if id.Kind != "" || m.Get("kind") != nil {
		return
	}
	if id.Kind = knownKind(id.Issuer); id.Kind == "" && id.Issuer != "" {
		m.Missing("kind, which an unknown issuer requires: valid kinds are %q", Kinds())
	}
}

// entraHosts are those of Entra ID's issuers, in each of its clouds.
var entraHosts = []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn",
	"login.windows.net", "sts.windows.net", "sts.chinacloudapi.cn"}

// notOneTenant says why no token of Entra ID can have an issuer: tokens have the
// id of their tenant in it. (Microsoft: OpenID Connect on the Microsoft identity
// platform, "Find your app's OpenID configuration document URI")
func notOneTenant(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || !slices.Contains(entraHosts, strings.ToLower(u.Hostname())) {
		return ""
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	why := ""
	switch {
	case slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(tenant)):
		why = "is an address for several tenants"
	case strings.Contains(tenant, "."):
		why = "names its tenant by a domain"
	default:
		return ""
	}
	u.Path = "/TENANT_ID/" + rest
	return fmt.Sprintf("%s, and tokens have their tenant's ID in it: want %s", why, u)
}

// issuerKeys reads where the issuer's keys are.
func (d *document) issuerKeys(id *Identity, m strictyaml.Mapping) {
	var given []string
	for _, name := range []string{"jwks_uri", "jwks_file", "jwks"} {
		v := m.Get(name)
		if v == nil {
			continue
		}
		if given = append(given, name); len(given) == 2 {
			d.Report(v, "%s cannot be combined with %s: give the issuer's keys once", name, given[0])
		}
		switch name {
		case "jwks_uri":
			id.JWKS = d.url(v, name)
		case "jwks_file":
			id.JWKSFile = d.Text(v, name)
		default:
			if id.Keys = d.Text(v, name); id.Keys != "" {
				if err := idtoken.CheckKeys([]byte(id.Keys)); err != nil {
					d.Hide(v) // it may have a key that is secret
					d.Report(v, "jwks: %v", err)
				}
			}
		}
	}
	known := kinds[id.Kind]
	switch {
	case len(given) > 0 || known.jwks == "":
	case id.Issuer == known.issuer:
		id.JWKS = known.jwks
	case id.Issuer != "":
		m.Missing("jwks_uri, jwks_file or jwks: of kind %q only the keys of %s are known, and the issuer is another one", id.Kind, known.issuer)
	}
}

var sourceKeys = []string{"env", "file", "command", "unix_socket"}

// source reads where an identity's tokens come from.
func (d *document) source(id *Identity, n *yaml.Node) (s Source) {
	m, ok := d.Mapping(n, n, "source", sourceKeys)
	if !ok {
		return s
	}
	if len(n.Content) != 2 && !d.Merged(n) {
		d.Report(n, "source has %s, want exactly one of %q", plural(len(n.Content)/2, "key"), sourceKeys)
		return s
	}
	if id.Kind == "people" {
		d.Report(n, "source cannot be combined with kind \"people\": people sign in by `oidc-dbt login`")
	}
	if v := m.Get("env"); v != nil {
		if s.Env = d.Text(v, "env"); s.Env != "" && !variableName.MatchString(s.Env) {
			d.Report(v, "env %q is not the name of a variable: want letters, digits and `_`, the first no digit", s.Env)
		}
	}
	if v := m.Get("file"); v != nil {
		s.File = d.Text(v, "file")
	}
	if v := m.Get("unix_socket"); v != nil {
		if s.UnixSocket = d.Text(v, "unix_socket"); s.UnixSocket != "" && !slices.Contains(unixSockets, s.UnixSocket) {
			d.Report(v, "unknown unix_socket %q, valid ones are %q", s.UnixSocket, unixSockets)
		}
	}
	if v := m.Get("command"); v != nil {
		s.Command = d.Strings(v, "command")
		if len(s.Command) > 0 && strings.Contains(s.Command[0], "{audience}") {
			d.Report(v, "command: the program cannot depend on the audience")
		}
	}
	return s
}

// tellNothing are the claims that all tokens for us have in common, each has
// anew, or no token has.
var tellNothing = []string{"iss", "aud", "exp", "iat", "nbf", "jti", "actor_kind", "pull_number"}

// workload reads what an identity of the generic kind says of its tokens itself.
func (d *document) workload(id *Identity, m strictyaml.Mapping) {
	if m.Get("source") == nil {
		m.Missing("source: where the tokens of this kind come from, one of %q", sourceKeys)
	}
	for _, list := range []struct {
		key string
		to  *[]string
	}{{"bind", &id.Bind}, {"ids", &id.IDs}} {
		v := m.Get(list.key)
		if v == nil {
			continue
		}
		*list.to = d.Strings(v, list.key)
		for _, claim := range *list.to {
			switch {
			case !claimText.MatchString(claim):
				d.Report(v, "%s: claim name %q is malformed", list.key, claim)
			case slices.Contains(tellNothing, claim):
				d.Report(v, "%s: claim %q does not tell one workload of the issuer from another: name one that does, such as sub",
					list.key, claim)
			}
		}
	}
	if m.Get("bind") == nil {
		m.Missing("bind: the claims that every rule must match by literals, such as [sub]")
	}
}

// people reads how people sign in.
func (d *document) people(id *Identity, m strictyaml.Mapping) {
	client, sso := m.Get("client_id"), m.Get("aws_sso")
	switch {
	case sso != nil:
		if client != nil {
			d.Report(client, "client_id cannot be combined with aws_sso: IAM Identity Center registers its clients itself")
		}
		if id.Audience == "" {
			m.Missing("audience, which sts:GetWebIdentityToken is asked for, such as oidc-dbt")
		}
		id.AWSSSO = d.awsSSO(sso)
	case client == nil:
		m.Missing("client_id, which is the audience of people's ID tokens")
	default:
		id.ClientID = d.Text(client, "client_id")
		if v := m.Get("audience"); v != nil {
			d.Report(v, "audience cannot be combined with client_id, which is the audience of people's ID tokens")
		}
		id.Audience = id.ClientID
	}
	d.clientSecret(id, m)
	id.Flow = "browser"
	if v := m.Get("flow"); v != nil {
		if id.Flow = d.Text(v, "flow"); id.Flow != "" && !slices.Contains(flows, id.Flow) {
			d.Report(v, "unknown flow %q, valid flows are %q%s", id.Flow, flows, otherNames.DidYouMean(id.Flow, flows))
		}
	}
	if v := m.Get("scopes"); v != nil {
		id.Scopes = d.Strings(v, "scopes")
	}
}

// clientSecret reads what Google alone asks of public clients: it is in every
// copy of a program, and what keeps others from using a code is PKCE. (Google:
// OAuth 2.0 for iOS & Desktop Apps). Loopback is for tests.
func (d *document) clientSecret(id *Identity, m strictyaml.Mapping) {
	atGoogle := id.Issuer == kinds["google"].issuer
	v := m.Get("client_secret")
	switch {
	case v == nil && atGoogle && id.AWSSSO == nil:
		m.Missing("client_secret, which Google asks of desktop and device clients, and which keeps nothing secret")
	case v == nil:
	case !atGoogle && !onLoopback(id.Issuer):
		d.Hide(v)
		d.Report(v, "client_secret is for https://accounts.google.com only, whose public clients have one: "+
			"register a public client, which has no secret")
	default:
		id.ClientSecret = d.Text(v, "client_secret")
	}
}

var (
	ssoKeys     = []string{"start_url", "region", "account", "role", "session", "endpoint"}
	ssoRequired = ssoKeys[:4]
)

// awsSSO reads a role of IAM Identity Center.
func (d *document) awsSSO(n *yaml.Node) *AWSSSO {
	sso := &AWSSSO{}
	m, ok := d.Mapping(n, n, "aws_sso", ssoKeys)
	if !ok {
		return sso
	}
	for _, name := range ssoRequired {
		if m.Get(name) == nil {
			m.Missing("%s", name)
		}
	}
	if v := m.Get("start_url"); v != nil {
		sso.StartURL = d.url(v, "start_url")
	}
	if v := m.Get("endpoint"); v != nil {
		// Whoever gets the session's token is the person at AWS, in every account.
		if sso.Endpoint = d.url(v, "endpoint"); sso.Endpoint != "" && !onLoopback(sso.Endpoint) {
			d.Report(v, "endpoint %q: want an address of loopback, where AWS is simulated: a login at AWS goes to AWS only", sso.Endpoint)
		}
	}
	for _, key := range []struct {
		name string
		to   *string
		form *lazy.Regexp
		want string
	}{
		{"region", &sso.Region, regionText, "want a region such as eu-central-1"},
		{"account", &sso.Account, accountText, "want the 12 digits of an account"},
		{"role", &sso.Role, roleText, "want the name of a permission set"},
		{"session", &sso.Session, sessionText, "want the name of an sso-session of the AWS CLI's configuration"},
	} {
		v := m.Get(key.name)
		if v == nil {
			continue
		}
		if *key.to = d.Text(v, key.name); *key.to != "" && !key.form.MatchString(*key.to) {
			d.Report(v, "%s %q: %s", key.name, *key.to, key.want)
		}
	}
	return sso
}

var (
	variableName = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	regionText   = lazy.MustCompile(`^[a-z]+(?:-[a-z]+)+-[0-9]+$`)
	accountText  = lazy.MustCompile(`^[0-9]{12}$`)
	sessionText  = lazy.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,128}$`)
	roleText     = lazy.MustCompile(`^[A-Za-z0-9+=,.@_-]+$`)
)

// onLoopback reports whether an address can only be one of this machine.
func onLoopback(address string) bool {
	u, err := url.Parse(address)
	return err == nil && web.IsLoopback(u.Hostname())
}

var flows = []string{"browser", "device"}

// Kinds returns the kinds of identities, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }
