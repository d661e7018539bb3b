package trust

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A vaultServer is a server of Vault's API as the policy names it, and what a
// role of its JWT auth method has next to the claims.
type vaultServer struct {
	cli                string // vault or bao
	address, namespace string
	method             string // the auth method's path below auth/
	role, secret       string
	static             bool
	issuer             policy.Identity // whose tokens the method verifies: it has one issuer
	policies           []string
	given              bool // the policies are the owner's
	ttl, maxTTL        string
}

func newVaultServer(d Demand, cli string) (vaultServer, error) {
	s := vaultServer{
		cli: cli, address: d.Get("address"), namespace: d.Get("namespace"), method: d.Get("auth_path"), role: d.Get("role"),
		secret: d.Get("secret"), static: d.Get("static") == "true", issuer: d.Rules[0].Identity,
		ttl: "20m", maxTTL: "6h",
	}
	if s.method == "" {
		s.method = "jwt"
	}
	if given := d.Options.Values["token-policies"]; given != "" {
		s.policies, s.given = strings.Split(given, ","), true
	} else {
		s.policies = []string{s.role}
	}
	if ttl := d.Options.Values["token-ttl"]; ttl != "" {
		s.ttl = ttl
	}
	if ttl := d.Options.Values["token-max-ttl"]; ttl != "" {
		s.maxTTL = ttl
	}
	return s, s.checkTTL()
}

// checkTTL refuses lifetimes that are none.
func (s vaultServer) checkTTL() error {
	for _, flag := range []struct{ name, text string }{{"token-ttl", s.ttl}, {"token-max-ttl", s.maxTTL}} {
		if d, err := time.ParseDuration(flag.text); err != nil || d < time.Second {
			return usage("flag --set %s=%s: want a duration such as 20m", flag.name, flag.text)
		}
	}
	return nil
}

// seconds is a lifetime in seconds.
func (s vaultServer) seconds(text string) string {
	return strconv.Itoa(int(s.duration(text) / time.Second))
}

func (s vaultServer) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err) // checkTTL was called
	}
	return d
}

// userClaim is the claim that becomes the login's alias. Every token has it, and
// the author of a workflow does not choose it: of GitHub's, one alias is one
// repository.
func (s vaultServer) userClaim() string {
	if s.issuer.Kind == "github" {
		return "repository_id"
	}
	return "sub"
}

// mappings are the claims that the audit device shows with each login.
func (s vaultServer) mappings() map[string]string {
	if s.issuer.Kind != "github" {
		return nil
	}
	return map[string]string{"sub": "sub", "run_id": "run_id"}
}

func (s vaultServer) otherIssuer() string {
	return fmt.Sprintf("the auth method at auth/%s verifies the tokens of one issuer, %s", s.method, s.issuer.Issuer)
}

// notes are what the owner must know of every role.
func (s vaultServer) notes() (list []string) {
	if !s.given {
		list = append(list, fmt.Sprintf("the role's tokens get the ACL policy %q, which is written unless there is one of that name; "+
			"name others with --set token-policies=NAME,…", s.policies[0]))
	}
	return append(list, fmt.Sprintf("tokens live for %s, and are renewed for %s at most: change that with --set token-ttl and token-max-ttl",
		s.ttl, s.maxTTL))
}

// acl is the ACL policy of a login: to read the secret, to keep its lease, and
// to end the login.
func (s vaultServer) acl() string {
	var b strings.Builder
	path := func(path, capability string) {
		fmt.Fprintf(&b, "path %s {\n  capabilities = [%q]\n}\n", hclString(path), capability)
	}
	path(s.secret, "read")
	path("auth/token/renew-self", "update")
	path("auth/token/revoke-self", "update")
	if !s.static {
		path("sys/leases/renew", "update")
	}
	return b.String()
}

func (s vaultServer) policyDocument() Document { return Document{s.cli + "-policy.hcl", s.acl()} }

// script writes the role with the vendor's own tool.
func (s vaultServer) script(role string) (script Script) {
	script.run("The server, and a token that may administer it (VAULT_TOKEN, or the one that `"+s.cli+" login` left).", s.environment()...)
	list := command(s.cli, "auth", "list", "-format=json")
	script.run("The JWT auth method at auth/"+s.method+", where there is none yet.",
		"if ! "+list+" | grep -F "+quote(`"`+s.method+`/"`)+" >/dev/null; then",
		"  "+command(s.cli, "auth", "enable", "-path="+s.method, "jwt"),
		"  "+command(s.cli, "write", "auth/"+s.method+"/config", s.keys(), "bound_issuer="+s.issuer.Issuer),
		"fi")
	script.run("It must verify the tokens of this issuer, and of no other.",
		`issuer="$(`+command(s.cli, "read", "-field=bound_issuer", "auth/"+s.method+"/config")+`)"`,
		`if [ "$issuer" != `+quote(s.issuer.Issuer)+" ]; then",
		`  echo "auth/`+s.method+` verifies the tokens of '$issuer': name another auth_path in the policy" >&2`,
		"  exit 1", "fi")
	if !s.given {
		script.run("What a login may do, where there is no policy of this name yet.",
			"if ! "+command(s.cli, "policy", "read", s.policies[0])+" >/dev/null 2>&1; then",
			feed("  "+command(s.cli, "policy", "write", s.policies[0], "-"), s.acl()), "fi")
	}
	script.run("The role. As JSON: lists and patterns do not survive as arguments.", s.write(role))
	return script
}

// keys says where the issuer's keys are.
func (s vaultServer) keys() string {
	if s.issuer.JWKS != "" {
		return "jwks_url=" + s.issuer.JWKS
	}
	return "oidc_discovery_url=" + s.issuer.Issuer
}

// environment are the variables that say which server.
func (s vaultServer) environment() []string {
	prefix := map[string]string{"vault": "VAULT", "bao": "BAO"}[s.cli]
	lines := []string{"export " + prefix + "_ADDR=" + quote(s.address)}
	if s.namespace != "" {
		lines = append(lines, "export "+prefix+"_NAMESPACE="+quote(s.namespace))
	}
	return lines
}

func (s vaultServer) terraformNamespace(b *hclBody) {
	if s.namespace != "" {
		b.set("namespace", s.namespace)
	}
}

// terraformMethod names the auth method, which exists once for each issuer.
func (s vaultServer) terraformMethod(t *terraform) {
	t.comment(fmt.Sprintf("The provider's address is %s. The JWT auth method exists once for each issuer:\n"+
		"its bound_issuer must be %s.", oneLine(s.address), s.issuer.Issuer))
	b := t.block("data", "vault_auth_backend", hclName(s.method))
	s.terraformNamespace(b)
	b.set("path", s.method)
}

func (s vaultServer) terraformPolicy(t *terraform, name string) {
	if s.given {
		return
	}
	b := t.block("resource", "vault_policy", name)
	s.terraformNamespace(b)
	b.set("name", s.policies[0])
	b.set("policy", s.acl())
}

func (s vaultServer) terraformPolicies(name string) any {
	if s.given {
		return slices.Clone(s.policies)
	}
	return hclList{hclRef("vault_policy." + name + ".name")}
}

// terraformEndpoint writes a role as it is.
func (s vaultServer) terraformEndpoint(t *terraform, name, path string, role any) {
	b := t.block("resource", "vault_generic_endpoint", name)
	s.terraformNamespace(b)
	b.set("path", hclText{"auth/", hclRef("data.vault_auth_backend." + hclName(s.method) + ".path"), "/" + path})
	b.set("ignore_absent_fields", true)
	b.set("data_json", hclCall{"jsonencode", hclJSON(role)})
}
