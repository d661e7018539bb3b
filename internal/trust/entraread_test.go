package trust

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const onEntra = `
version: 1
targets:
  prod:
    exchange: ` + entraExchange + `
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`

// checked is the verdict and the findings of a check, one a line.
func checked(t *testing.T, d Demand, files ...string) string {
	t.Helper()
	var list []File
	for i, text := range files {
		list = append(list, File{Name: fmt.Sprintf("%d.json", i+1), Text: []byte(text)})
	}
	c, err := Check(d, list)
	if err != nil {
		return err.Error()
	}
	out := string(c.Verdict)
	for _, f := range c.Findings {
		out += fmt.Sprintf("\n%s %s: %s", f.Severity, f.Name, f.Message)
	}
	return out
}

func TestReadEntra(t *testing.T) {
	t.Parallel()
	const (
		head     = `{"name": "c", "issuer": "https://token.actions.githubusercontent.com", "audiences": ["api://AzureADTokenExchange"], `
		subject  = `"subject": "repo:acme/analytics:environment:production"}`
		nameOnly = "\nnote name-only: credential \"c\": the subject \"repo:acme/analytics:environment:production\" names the repository without its " +
			"id: who gets the name after a deletion or a renaming has the login, and a repository created, renamed or transferred after 15 July " +
			"2026 has another subject"
		wider    = "\nerror wider: the provider admits tokens that rule 1 (line 7) refuses by "
		narrower = "\nwarning narrower: the provider refuses tokens that rule 1 (line 7) admits"
		want     = "want what `az ad app federated-credential list`, `az identity federated-credential list`, or `az rest` of Graph's " +
			"beta/applications/OBJECT_ID/federatedIdentityCredentials prints"
	)
	flexible := func(expression string) string {
		return `[` + head + fmt.Sprintf(`"subject": null, "claimsMatchingExpression": {"value": %q, "languageVersion": 1}}]`, expression)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"az ad app", "[" + head + subject + "]", "same" + nameOnly},
		{"Graph", `{"@odata.context": "x", "value": [` + head + subject + "]}", "same" + nameOnly},
		{"one", head + subject, "same" + nameOnly},
		{"az identity, Resource Manager", `[{"name": "c", "type": "x", "properties": ` + head[:1] + head[len(`{"name": "c", `):] + subject + `}]`, "same" + nameOnly},
		{"none", "[]", "narrower\nwarning narrower: the provider refuses tokens that rule 1 (line 7) admits"},
		{"another environment", "[" + head + `"subject": "repo:acme/analytics:environment:staging"}]`, "different\n" +
			strings.ReplaceAll(nameOnly[1:], "production", "staging") + wider + "environment" + wider +
			"repository_id, environment, ref, event_name" + narrower},
		{"another audience", strings.ReplaceAll("["+head+subject+"]", "api://AzureADTokenExchange", "x"), "different" + nameOnly + wider +
			"aud\nwarning narrower: the provider refuses tokens that rule 1 (line 7) admits"},
		{"another issuer", "[" + head + subject + "," + strings.ReplaceAll(head, "https://token.actions.githubusercontent.com", "https://gitlab.com") +
			`"subject": "project_path:x/y"}]`, "wider" + nameOnly + "\nerror other-issuer: credential \"c\" trusts the issuer \"https://gitlab.com\", which no " +
			"rule of target \"prod\" names: its tokens log in, too; remove it" +
			"\nerror wider: the provider admits tokens of the issuer \"https://gitlab.com\", which no rule of target \"prod\" names: remove it there"},
		{"a wildcard", "[" + head + subject + "," + head + `"subject": "repo:acme/*:environment:production"}]`, "same" + nameOnly +
			"\nwarning wildcard-under-exact-operator: credential \"c\": the subject \"repo:acme/*:environment:production\" is compared as it is, so " +
			"its wildcard matches nothing: write each subject"},
		{"no audience", `[{"name": "c", "issuer": "https://token.actions.githubusercontent.com", ` + subject + "]", "unknown\nerror missing-audience: " +
			"credential \"c\" has no audience: give it \"api://AzureADTokenExchange\"\nwarning undecided: not evaluated: credential \"c\" has no audience"},
		{"version 1.0 of Graph shows no expression", "[" + head + `"subject": null}]`, "unknown\nerror missing-subject: credential \"c\" shows neither " +
			"a subject nor an expression: export it by the beta version of Graph, which shows flexible credentials\nwarning undecided: not " +
			"evaluated: credential \"c\" shows neither a subject nor an expression"},
		{"flexible", flexible("claims['sub'] eq 'repo:acme/analytics:environment:production' and claims['repository_id'] eq '487920697'"), "same"},
		{"no id", flexible("claims['sub'] eq 'repo:acme/analytics:environment:production'"), "same\nwarning flexible-without-id: credential \"c\" " +
			"compares no id by eq: Entra ID refuses such new credentials, and who gets the name after a deletion or a renaming has the login; " +
			"compare repository_id"},
		{"any context", flexible("claims['sub'] matches 'repo:acme/analytics:*' and claims['repository_id'] eq '487920697'"), "wider\nwarning " +
			"wide-subject: credential \"c\" matches sub with \"repo:acme/analytics:*\", so any branch, event and environment of the repository: " +
			"write what comes behind it" + wider + "environment" + wider + "environment, ref, event_name"},
		{"an owner", flexible("claims['sub'] matches 'repo:acme/*:environment:production' and claims['repository_owner_id'] eq '9'"), "different\nerror " +
			"wide-subject: credential \"c\" matches sub with \"repo:acme/*:environment:production\", which any repository of the owner has: compare " +
			"repository_id, or job_workflow_ref" + wider + "repository" + wider + "repository, repository_id, ref, event_name" + narrower},
		{"owners that begin alike", flexible("claims['sub'] matches 'repo:acme*/analytics:environment:production' and claims['job_workflow_ref'] matches '*'"),
			"wider\nwarning flexible-without-id: credential \"c\" compares no id by eq: Entra ID refuses such new credentials, and who gets the name " +
				"after a deletion or a renaming has the login; compare repository_id\nerror wide-subject: credential \"c\" matches sub with " +
				"\"repo:acme*/analytics:environment:production\", which other owners' repositories have, too: write the whole owner, and compare " +
				"repository_owner_id" + wider + "repository" + wider + "repository, repository_id, ref, event_name"},
		{"another key first", flexible("claims['sub'] eq 'environment:production:repo:acme/analytics' and claims['repository_owner_id'] eq '9'"),
			"narrower\nerror customised-subject: credential \"c\" compares sub with \"environment:production:repo:acme/analytics\", which does not begin " +
				"with the repository, so any repository can have it: begin with repo:OWNER/REPOSITORY\nwarning narrower: the provider refuses tokens " +
				"that rule 1 (line 7) admits"},
		{"a claim that is not read", flexible("claims['sub'] eq 'x' and claims['event_name'] eq 'push'"), "unknown\nwarning key-not-read: credential " +
			"\"c\" compares event_name, and Entra ID compares sub, repository_id, repository_owner_id, job_workflow_ref of GitHub's claims only\n" +
			"warning undecided: not evaluated: credential \"c\": what Entra ID makes of claim event_name"},
		{"eq with a wildcard", flexible("claims['sub'] eq 'repo:acme/*' and claims['repository_id'] eq '487920697'"), "narrower\nwarning " +
			"wildcard-under-exact-operator: credential \"c\" compares sub by eq with \"repo:acme/*\", whose wildcard matches nothing: write matches\n" +
			"warning narrower: the provider refuses tokens that rule 1 (line 7) admits"},
		{"or", flexible("claims['sub'] eq 'x' or claims['sub'] eq 'y'"), "unknown\nwarning undecided: not evaluated: credential \"c\": expression " +
			"\"claims['sub'] eq 'x' or claims['sub'] eq 'y'\": want ` and ` at \" or claims['sub'] eq 'y'\""},
		{"a quote", flexible("claims['sub'] eq 'it''s'"), "unknown\nwarning undecided: not evaluated: credential \"c\": expression " +
			"\"claims['sub'] eq 'it''s'\": how a single quote in a value is read is not specified"},
		{"no comparison", flexible(""), "unknown\nwarning undecided: not evaluated: credential \"c\": expression \"\": want claims['NAME'] OPERATOR 'VALUE' at \"\""},
		{"another version", strings.Replace(flexible("x"), `"languageVersion": 1`, `"languageVersion": 2`, 1), "unknown\nwarning undecided: not evaluated: " +
			"credential \"c\": version 2 of the language of expressions"},
		{"no JSON", "x", "1.json: " + want + ": invalid character 'x' looking for beginning of value"},
		{"another object", `{"a": 1}`, "1.json: credential 1 has no issuer: " + want},
		{"a part", `{"@odata.nextLink": "https://x", "value": []}`, `1.json: the list goes on at "https://x": want all of it`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, checked(t, demand(t, onEntra, Options{}), tt.text)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestReadEntraTwice: version 1.0 of Graph does not show expressions, the beta
// version does; too many credentials are of several applications.
func TestReadEntraTwice(t *testing.T) {
	t.Parallel()
	d := demand(t, onEntra, Options{Values: map[string]string{"flexible": "always"}})
	w, err := Generate(d)
	if err != nil {
		t.Fatal(err)
	}
	beta := w.Documents[0].Text
	old := strings.ReplaceAll(beta, "claimsMatchingExpression", "unknown")
	for _, files := range [][]string{{beta}, {beta, old}, {old, beta}, {beta, beta}} {
		if got := checked(t, d, files...); got != "same" {
			t.Errorf("%s", got)
		}
	}
	var many []string
	for i := range 21 {
		many = append(many, fmt.Sprintf(`{"name": "c%d", "issuer": "https://token.actions.githubusercontent.com", "audiences": ["x"], "subject": "repo:a@1/b@2:%d"}`, i, i))
	}
	if got := checked(t, d, "["+strings.Join(many, ",")+"]"); !strings.Contains(got, "\nerror over-limit: there are 21 credentials, and an application or "+
		"managed identity has at most 20: the files are of several") {
		t.Errorf("%s", got)
	}
}

func TestEntraChecks(t *testing.T) {
	t.Parallel()
	checks{
		exchange: entraExchange, policies: 20, tokens: 100,
		export: func(_ Demand, w Wall) []File {
			return []File{{Name: "credentials.json", Text: []byte(w.Documents[0].Text)}}
		},
		evaluate: func(_ Demand, w Wall) (func(map[string]any) (bool, error), error) {
			return wall.Entra([]byte(w.Documents[0].Text))
		},
	}.run(t)
}

// FuzzEntraExpression: what the reader understands, the evaluator evaluates alike.
func FuzzEntraExpression(f *testing.F) {
	f.Add("claims['sub'] matches 'repo:acme/*' and claims['repository_id'] eq '1'", "repo:acme/x", "1")
	f.Add("claims['sub'] eq 'it''s' and claims['repository_id'] eq '1'", "it's", "1")
	f.Add("claims['sub'] matches 'a?c*'", "abc", "")
	f.Add("claims['sub'] eq 'x' or claims['sub'] eq 'y'", "y", "")
	f.Fuzz(func(t *testing.T, expression, sub, id string) {
		list, err := parseExpression(expression)
		doc := asJSON([]entraCredential{{Name: "abc", Issuer: flexibleIssuer, Audiences: []string{"a"}, Expression: &entraExpression{expression, 1}}})
		trust, refused := wall.Entra([]byte(doc))
		if err != nil || refused != nil {
			if err == nil && list.String() != expression {
				t.Errorf("%q is read as %q", expression, list)
			}
			if err != nil && refused == nil {
				t.Errorf("%q is not read: %v", expression, err)
			}
			return
		}
		claims := map[string]string{"sub": strings.ToValidUTF8(sub, "x"), "repository_id": id}
		all := map[string]any{"iss": flexibleIssuer, "aud": "a", "sub": claims["sub"], "repository_id": id}
		if claims["sub"] == "" || id == "" {
			return // an empty claim is none
		}
		if want, _ := trust(all); (list.formula().Eval(claims) == 1) != want {
			t.Errorf("%q admits %q: %t, want %t", expression, claims, !want, want)
		}
	})
}
