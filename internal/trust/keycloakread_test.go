package trust

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func onKeycloak(keys string) string {
	return strings.Replace(`
version: 1
targets:
  prod:
    exchange: `+keycloakExchange+`
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`, "grant: client_assertion", "grant: client_assertion"+keys, 1)
}

func TestReadKeycloak(t *testing.T) {
	t.Parallel()
	const (
		client = `{"id": "1", "clientId": "dbt-prod", "enabled": true, "publicClient": false, "serviceAccountsEnabled": true, ` +
			`"standardFlowEnabled": false, "implicitFlowEnabled": false, "directAccessGrantsEnabled": false, "clientAuthenticatorType": "federated-jwt", ` +
			`"attributes": {"jwt.credential.issuer": "github", "jwt.credential.sub": "repo:acme/analytics:environment:production"}}`
		provider = `{"alias": "github", "providerId": "oidc", "enabled": true, "linkOnly": true, "hideOnLogin": true, "config": ` +
			`{"issuer": "https://token.actions.githubusercontent.com", "supportsClientAssertions": "true", "useJwksUrl": "true"}}`
		broker   = `{"clientId": "broker", "clientAuthenticatorType": "client-secret", "standardFlowEnabled": true}`
		narrower = "\nwarning narrower: the provider refuses tokens that rule 1 (line 7) admits"
		nameOnly = "\nnote name-only: client \"dbt-prod\": the subject \"repo:acme/analytics:environment:production\" names the repository without " +
			"its id: who gets the name after a deletion or a renaming has the login, and a repository created, renamed or transferred after 15 " +
			"July 2026 has another subject"
		want = "want what `kcadm.sh get clients -r REALM -q clientId=ID` and `kcadm.sh get identity-provider/instances/ALIAS -r REALM` print, or " +
			"the realm's export"
	)
	for _, tt := range []struct{ name, keys, old, new, want string }{
		{"as kcadm.sh prints them", "", "", "", "same" + nameOnly},
		{"a realm's export", "", "1", "1", "same" + nameOnly},
		{"with client_id", ", client_id: dbt-prod", "", "", "same" + nameOnly},
		{"another client", ", client_id: other", "", "", "narrower" + narrower},
		{"a secret", ", client_id: dbt-prod", "federated-jwt", "client-secret", "narrower\nerror other-login: client \"dbt-prod\" authenticates by " +
			"client-secret, not by federated-jwt: who has its secret needs no ID token, and an ID token is refused" + narrower},
		{"another subject", "", "environment:production", "ref:refs/heads/main", "different\n" +
			strings.ReplaceAll(nameOnly[1:], "environment:production", "ref:refs/heads/main") + "\nerror wider: the provider admits tokens that rule 1 " +
			"(line 7) refuses by environment\nerror wider: the provider admits tokens that rule 1 (line 7) refuses by repository_id, environment, " +
			"event_name" + narrower},
		{"a wildcard", "", "environment:production", "*", "narrower\nwarning wildcard-under-exact-operator: client \"dbt-prod\": the subject " +
			"\"repo:acme/analytics:*\" is compared as it is, so its wildcard matches nothing: write each subject\n" +
			strings.ReplaceAll(nameOnly[1:], "environment:production", "*") + narrower},
		{"no subject", "", "jwt.credential.sub", "x", "narrower\nerror missing-subject: client \"dbt-prod\" has no jwt.credential.sub, so it admits " +
			"nothing: set it to the subject" + narrower},
		{"disabled", "", `"dbt-prod", "enabled": true`, `"dbt-prod", "enabled": false`, "narrower\nnote disabled: client \"dbt-prod\", or its " +
			"identity provider \"github\", is disabled and admits nothing" + narrower},
		{"a disabled provider", "", `"oidc", "enabled": true`, `"oidc", "enabled": false`, "narrower\nnote disabled: client \"dbt-prod\", or its " +
			"identity provider \"github\", is disabled and admits nothing" + narrower},
		{"no service account", "", `"serviceAccountsEnabled": true`, `"serviceAccountsEnabled": false`, "narrower\nwarning not-a-service-client: client " +
			"\"dbt-prod\" admits nothing: it must not be public, and wants serviceAccountsEnabled, and supportsClientAssertions of the identity " +
			"provider \"github\"" + narrower},
		{"a provider without assertions", "", `"supportsClientAssertions": "true"`, `"supportsClientAssertions": "false"`, "narrower\nwarning " +
			"not-a-service-client: client \"dbt-prod\" admits nothing: it must not be public, and wants serviceAccountsEnabled, and " +
			"supportsClientAssertions of the identity provider \"github\"" + narrower},
		{"people log in, too", "", `"standardFlowEnabled": false, "implicit`, `"standardFlowEnabled": true, "implicit`, "same\nwarning other-login: " +
			"client \"dbt-prod\" also has standardFlowEnabled: people can get its tokens; switch it off" + nameOnly},
		{"a provider for people", "", `"linkOnly": true`, `"linkOnly": false`, "same\nnote other-login: identity provider \"github\" lets people log " +
			"in, too: set linkOnly and hideOnLogin" + nameOnly},
		{"tokens more than once", "", `"useJwksUrl"`, `"supportsClientAssertionReuse": "true", "useJwksUrl"`, "same\nnote token-reuse: identity " +
			"provider \"github\" takes a token more than once, and the jobs get a new one for each login: set supportsClientAssertionReuse to false" + nameOnly},
		{"another issuer", "", "https://token.actions.githubusercontent.com", "https://gitlab.com", "different\nerror other-issuer: client \"dbt-prod\" " +
			"trusts the issuer \"https://gitlab.com\", which no rule of target \"prod\" names" +
			"\nerror wider: the provider admits tokens of the issuer \"https://gitlab.com\", which no rule of target \"prod\" names: remove it there" + narrower},
		{"another kind of provider", "", `"oidc"`, `"spiffe"`, "unknown\nwarning undecided: not evaluated: client \"dbt-prod\": identity provider " +
			"\"github\" is of kind \"spiffe\""},
		{"another provider", "", `"alias": "github"`, `"alias": "gitlab"`, "unknown\nwarning undecided: not evaluated: client \"dbt-prod\": identity " +
			"provider \"github\" is in none of the files"},
		{"a double", "", `{"id": "1"`, strings.Replace(client, "dbt-prod", "a-dbt", 1) + `, {"id": "1"`, "narrower\nerror duplicate-subject: clients [\"a-dbt\" \"dbt-prod\"] " +
			"have the same subject \"repo:acme/analytics:environment:production\": Keycloak finds a client by the subject, and refuses it where " +
			"there are several; remove it from all but one\nerror duplicate-subject: clients [\"a-dbt\" \"dbt-prod\"] have the same subject " +
			"\"repo:acme/analytics:environment:production\": Keycloak finds a client by the subject, and refuses it where there are several; remove " +
			"it from all but one" + narrower},
		{"no JSON", "", "[", "x", "1.json: " + want + ": invalid character 'x' looking for beginning of value"},
		{"another object", "", `"clientId": "dbt-prod"`, `"a": 1`, "1.json: neither a client nor an identity provider: " + want},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := func(text string) string {
				if tt.old == "" {
					return text
				}
				return strings.ReplaceAll(text, tt.old, tt.new)
			}
			files := []string{change("[" + client + ", " + broker + "]"), change(provider)}
			if tt.name == "a realm's export" {
				files = []string{`{"realm": "ci", "clients": [` + client + ", " + broker + `], "identityProviders": [` + provider + "]}"}
			}
			if diff := cmp.Diff(tt.want, checked(t, demand(t, onKeycloak(tt.keys), Options{}), files...)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	d := demand(t, onKeycloak(""), Options{})
	for text, want := range map[string]string{client: "1.json: no identity provider: want ", provider: "1.json: no client: want "} {
		if got := checked(t, d, text); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestKeycloakChecks(t *testing.T) {
	t.Parallel()
	checks{
		exchange: keycloakExchange, options: Options{OwnerIDs: map[string]string{"acme": "7"}}, policies: 20, tokens: 100,
		export: func(_ Demand, w Wall) []File { return []File{{Name: "realm.json", Text: []byte(w.Documents[0].Text)}} },
		evaluate: func(_ Demand, w Wall) (func(map[string]any) (bool, error), error) {
			return keycloakWall(w.Documents[0].Text)
		},
	}.run(t)
}

// FuzzKeycloakScript: no text of a policy leaves its quotes or its document.
func FuzzKeycloakScript(f *testing.F) {
	for _, s := range []string{"production", "a'b", `a"b`, "$(x)", "`x`", "a\nEND\nb", "END", "é\u2028", `\`} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, subject, id string) {
		subject, id = strings.ToValidUTF8(subject, "x"), strings.ToValidUTF8(id, "x")
		c := keycloakClient{ClientID: id, Attributes: map[string]string{attributeIssuer: "github", attributeSubject: subject}}
		text := asJSON(c)
		_, body, _ := strings.Cut(feed("kcadm.sh", text), "'\n")
		end := strings.LastIndex(body, "\n")
		var back keycloakClient
		if err := json.Unmarshal([]byte(body[:end]), &back); err != nil || back.ClientID != id || back.Attributes[attributeSubject] != subject {
			t.Errorf("%q of %q is read back as %+v (%v)", subject, id, back, err)
		}
		if strings.Contains("\n"+body[:end]+"\n", "\n"+body[end+1:]+"\n") {
			t.Errorf("%q ends its document early:\n%s", subject, body)
		}
		tf := newTerraform()
		c.terraform(tf, "data.keycloak_realm.ci.id", "prod")
		checkTerraform(t, tf.String())
	})
}
