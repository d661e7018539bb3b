package wall

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	poolName     = "projects/123456789/locations/global/workloadIdentityPools/github-pool"
	providerName = poolName + "/providers/prod"
)

// googleProvider is a provider as gcloud describes it, with changes; nil removes a key.
func googleProvider(t *testing.T, changes map[string]any) []byte {
	t.Helper()
	doc := map[string]any{
		"name": providerName, "state": "ACTIVE",
		"attributeMapping":   map[string]string{"google.subject": "assertion.sub", "attribute.repository": "assertion.repository"},
		"attributeCondition": "assertion.repository_owner == 'acme'",
		"oidc":               map[string]any{"issuerUri": "https://token.actions.githubusercontent.com", "allowedAudiences": []string{"gcp"}},
	}
	for key, value := range changes {
		doc[key] = value
		if value == nil {
			delete(doc, key)
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoogleConditions has one condition a case.
func TestGoogleConditions(t *testing.T) {
	t.Parallel()
	noEnvironment := map[string]any{"environment": nil}
	for _, tt := range []struct {
		condition string
		changes   map[string]any
		want      bool
	}{
		{"assertion.repository_owner == 'acme'", nil, true},
		{"assertion.repository_owner == 'acme' && assertion.ref == 'refs/heads/dev'", nil, false},
		{"assertion.ref in ['refs/heads/main', 'refs/heads/dev']", nil, true},
		{"assertion['event_name'] != 'pull_request_target'", nil, true},
		{"!(assertion.event_name == 'push')", nil, false},
		{"attribute.repository == 'acme/analytics' && google.subject.startsWith('repo:acme/')", nil, true},
		{"assertion.sub.endsWith(':production') && assertion.sub.contains('acme')", nil, true},
		{"assertion.sub.startsWith('repo:acme')", map[string]any{"sub": "repo:acme-evil/x:ref:refs/heads/main"}, true},
		{"assertion.environment == 'production'", noEnvironment, false},
		{"assertion.environment != 'staging'", noEnvironment, false},
		{"assertion.environment == 'production' || assertion.ref == 'refs/heads/main'", noEnvironment, true},
		{"assertion.environment == 'production' || assertion.ref == 'refs/heads/dev'", noEnvironment, false},
		{"has(assertion.environment) && assertion.environment == 'production'", noEnvironment, false},
		{"has(assertion.environment) ? assertion.environment == 'production' : assertion.event_name == 'push'", noEnvironment, true},
		{"assertion.sub.matches('repo:acme/analytics')", map[string]any{"sub": "xrepo:acme/analyticsx"}, true},
		{"assertion.sub.matches('^repo:acme/analytics:.*$')", map[string]any{"sub": "xrepo:acme/analytics:x"}, false},
		{"assertion.sub.matches('^repo:acme/analytics$')", map[string]any{"sub": "repo:acme/analytics\n"}, false},
		{"assertion.sub.matches('^repo:acme/[^/]*$')", nil, true},
		{"assertion.repository.extract('{owner}/') == 'acme'", nil, true},
		{"assertion.sub.split(':')[1] == 'acme/analytics'", nil, true},
		{"assertion.repository.split('/').join('-') == 'acme-analytics'", nil, true},
		{"assertion.run_attempt == 1", nil, false},
		{"assertion.number == 1.0", map[string]any{"number": 1}, true},
		{"assertion.sub", nil, false},
	} {
		t.Run(tt.condition, func(t *testing.T) {
			t.Parallel()
			p, err := Google(googleProvider(t, map[string]any{"attributeCondition": tt.condition}))
			if err != nil {
				t.Fatal(err)
			}
			tt.changes = withAudience(tt.changes, "gcp")
			if _, got := p.Identity(gitHubClaims(tt.changes)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func withAudience(changes map[string]any, audience any) map[string]any {
	with := map[string]any{"aud": audience}
	for k, v := range changes {
		with[k] = v
	}
	return with
}

// TestGoogleIdentity is about everything but the condition.
func TestGoogleIdentity(t *testing.T) {
	t.Parallel()
	mapping := func(of ...string) map[string]any {
		m := map[string]string{"google.subject": "assertion.sub"}
		for i := 0; i < len(of); i += 2 {
			m[of[i]] = of[i+1]
		}
		return map[string]any{"attributeMapping": m}
	}
	long := strings.Repeat("x", 127)
	for _, tt := range []struct {
		name     string
		provider map[string]any
		claims   map[string]any
		want     string // "" is refused
	}{
		{"good", nil, nil, `{repo:acme/analytics:environment:production [] map[repository:acme/analytics]}`},
		{"several audiences", nil, map[string]any{"aud": []any{"x", "gcp"}}, `{repo:acme/analytics:environment:production [] map[repository:acme/analytics]}`},
		{"another audience", nil, map[string]any{"aud": "vault"}, ""},
		{"another issuer", nil, map[string]any{"iss": "https://gitlab.com"}, ""},
		{"disabled", map[string]any{"disabled": true}, nil, ""},
		{"deleted", map[string]any{"state": "DELETED"}, nil, ""},
		{"a claim that is not there", mapping("attribute.environment", "assertion.environment"), map[string]any{"environment": nil}, ""},
		{"a claim that is not there, guarded", mapping("attribute.e", "has(assertion.environment) ? assertion.environment : ''"), map[string]any{"environment": nil}, `{repo:acme/analytics:environment:production [] map[e:]}`},
		{"the decision", mapping("attribute.oidc_dbt_target", "assertion.ref == 'refs/heads/main' ? 'prod' : 'none'"), nil, `{repo:acme/analytics:environment:production [] map[oidc_dbt_target:prod]}`},
		{"a sum", mapping("google.subject", "assertion.repository_id + ':' + assertion.environment"), nil, `{74:production [] map[]}`},
		{"groups", mapping("google.groups", "assertion.groups"), map[string]any{"groups": []any{"a", "b"}}, `{repo:acme/analytics:environment:production [a b] map[]}`},
		{"groups of numbers", mapping("google.groups", "assertion.groups"), map[string]any{"groups": []any{1}}, ""},
		{"no text", mapping("attribute.x", "assertion.x"), map[string]any{"x": true}, ""},
		{"127 bytes", nil, map[string]any{"sub": long}, "{" + long + " [] map[repository:acme/analytics]}"},
		{"128 bytes", nil, map[string]any{"sub": long + "x"}, ""},
		{"no subject", nil, map[string]any{"sub": ""}, ""},
		{"8 KB", nil, map[string]any{"repository": strings.Repeat("x", 8<<10)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := Google(googleProvider(t, tt.provider))
			if err != nil {
				t.Fatal(err)
			}
			id, ok := p.Identity(gitHubClaims(withAudience(tt.claims, "gcp")))
			got := fmt.Sprint(id)
			if !ok {
				got = ""
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestGoogleDefaultAudience: without a list it is the provider's own name.
func TestGoogleDefaultAudience(t *testing.T) {
	t.Parallel()
	p, err := Google(googleProvider(t, map[string]any{"oidc": map[string]any{"issuerUri": "https://token.actions.githubusercontent.com"}}))
	if err != nil {
		t.Fatal(err)
	}
	for audience, want := range map[string]bool{
		"https://iam.googleapis.com/" + providerName: true, "//iam.googleapis.com/" + providerName: true, providerName: false, "gcp": false,
	} {
		if _, got := p.Identity(gitHubClaims(map[string]any{"aud": audience})); got != want {
			t.Errorf("%s: got %v, want %v", audience, got, want)
		}
	}
}

func TestGoogleRefuses(t *testing.T) {
	t.Parallel()
	many := map[string]string{"google.subject": "assertion.sub"}
	for i := range 51 {
		many[fmt.Sprintf("attribute.a%d", i)] = "assertion.sub"
	}
	mapping := func(key, value string) map[string]any {
		return map[string]any{"attributeMapping": map[string]string{"google.subject": "assertion.sub", key: value}}
	}
	audiences := func(list ...string) map[string]any {
		return map[string]any{"oidc": map[string]any{"issuerUri": "https://x", "allowedAudiences": list}}
	}
	const claims = "attributeCondition must reference one of the claims of https://token.actions.githubusercontent.com"
	for _, tt := range []struct {
		name    string
		changes map[string]any
		err     string // how it begins
	}{
		{"no condition", map[string]any{"attributeCondition": nil}, claims},
		{"a condition on nothing", map[string]any{"attributeCondition": "true || false"}, claims},
		{"a long condition", map[string]any{"attributeCondition": "assertion.sub == '" + strings.Repeat("x", 4078) + "'"}, "attributeCondition has 4097 characters, more than 4096"},
		{"no subject", map[string]any{"attributeMapping": map[string]string{"attribute.a": "assertion.sub"}}, "attributeMapping has no google.subject"},
		{"a key", mapping("attribute.Repo", "assertion.sub"), `attributeMapping has the invalid key "attribute.Repo"`},
		{"a key of Google's", mapping("google.display_name", "assertion.sub"), `attributeMapping has the invalid key "google.display_name"`},
		{"a long key", mapping("attribute."+strings.Repeat("a", 101), "assertion.sub"), `attributeMapping has the invalid key "attribute.aaa`},
		{"a long mapping", mapping("attribute.a", "assertion.sub + '"+strings.Repeat("x", 2031)+"'"), "attributeMapping attribute.a has 2049 characters, want 1 to 2048"},
		{"many attributes", map[string]any{"attributeMapping": many}, "attributeMapping has 51 custom attributes, more than 50"},
		{"many audiences", audiences(slices.Repeat([]string{"a"}, 11)...), "oidc.allowedAudiences has 11 values, more than 10"},
		{"a long audience", audiences(strings.Repeat("a", 257)), "oidc.allowedAudiences has a value of 257 characters, want 1 to 256"},
		{"a long name", map[string]any{"displayName": strings.Repeat("x", 33)}, "displayName has more than 32 characters"},
		{"a long description", map[string]any{"description": strings.Repeat("x", 257)}, "description has more than 256 characters"},
		{"no issuer", map[string]any{"oidc": nil}, "oidc.issuerUri is no https URL"},
		{"another name", map[string]any{"name": "projects/acme/x"}, `invalid provider name "projects/acme/x"`},
		{"syntax", map[string]any{"attributeCondition": "assertion.sub = 'x'"}, "attributeCondition: ERROR: <input>:1:15: Syntax error: "},
		{"a mapping's other variables", mapping("attribute.a", "google.subject"), "attributeMapping attribute.a: ERROR: <input>:1:1: undeclared reference to 'google'"},
		{"types", map[string]any{"attributeCondition": "assertion.sub.startsWith(1)"}, "attributeCondition: ERROR: <input>:1:25: found no matching overload"},
		{"a macro", map[string]any{"attributeCondition": "assertion.groups.exists(g, g == 'a')"}, "attributeCondition: ERROR: <input>:1:24: undeclared reference to 'exists'"},
		{"a function of others", map[string]any{"attributeCondition": "assertion.sub.lowerAscii() == 'x'"}, "attributeCondition: ERROR: <input>:1:25: undeclared reference to 'lowerAscii'"},
		{"a function of CEL", map[string]any{"attributeCondition": "size(assertion.sub) > 3"}, `attributeCondition: Google documents no function "_>_" for it`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Google(googleProvider(t, tt.changes)); !strings.HasPrefix(message(err), tt.err) || err == nil {
				t.Errorf("got  %s\nwant %s", message(err), tt.err)
			}
		})
	}
}

// TestGoogleExtract has the table of Google's page on extracting values.
func TestGoogleExtract(t *testing.T) {
	t.Parallel()
	const name = "projects/_/buckets/acme-orders-aaa/objects/data_lake/orders/order_date=2019-11-03/aef87g87ae0876"
	for template, want := range map[string]string{
		"/order_date={date}/":                          "2019-11-03",
		"buckets/{name}/":                              "acme-orders-aaa",
		"/orders/{empty}order_date":                    "",
		"{start}/objects/data_lake":                    "projects/_/buckets/acme-orders-aaa",
		"orders/{end}":                                 "order_date=2019-11-03/aef87g87ae0876",
		"{all}":                                        name,
		"/orders/{none}/order_date=":                   "",
		"/orders/order_date=2019-11-03/{id}/data_lake": "",
	} {
		p, err := Google(googleProvider(t, map[string]any{"attributeMapping": map[string]string{
			"google.subject": "'s'", "attribute.a": fmt.Sprintf("assertion.name.extract('%s')", template)}}))
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := p.Identity(gitHubClaims(map[string]any{"aud": "gcp", "name": name})); !ok || id.Attributes["a"] != want {
			t.Errorf("%s: got %v %q, want %q", template, ok, id.Attributes["a"], want)
		}
	}
}

func TestGoogleBinds(t *testing.T) {
	t.Parallel()
	id := GoogleIdentity{Subject: "s", Groups: []string{"g"}, Attributes: map[string]string{"repository": "acme/analytics", "empty": ""}}
	const base = "://iam.googleapis.com/" + poolName
	for _, tt := range []struct {
		member string
		want   bool
		err    string
	}{
		{"principal" + base + "/subject/s", true, ""},
		{"principal" + base + "/subject/t", false, ""},
		{"principalSet" + base + "/attribute.repository/acme/analytics", true, ""},
		{"principalSet" + base + "/attribute.repository/acme", false, ""},
		{"principalSet" + base + "/attribute.other/acme", false, ""},
		{"principalSet" + base + "/group/g", true, ""},
		{"principalSet" + base + "/*", true, ""},
		{"principal" + strings.Replace(base, "github-pool", "other-pool", 1) + "/subject/s", false, ""},
		{"serviceAccount:s", false, ""},
		{"allAuthenticatedUsers", false, ""},
		{"allUsers", true, ""},
		{"principal" + base + "/*", false, "invalid member \"principal" + base + "/*\""},
		{"principalSet" + base + "/attribute.repository/", false, "invalid member \"principalSet" + base + "/attribute.repository/\""},
		{"principalSet" + base + "/subject/s", false, "invalid member \"principalSet" + base + "/subject/s\""},
		{"principal" + strings.Replace(base, "123456789", "my-project", 1) + "/subject/s", false, "invalid member \"principal" + strings.Replace(base, "123456789", "my-project", 1) + "/subject/s\""},
	} {
		got, err := GoogleBinds([]string{tt.member}, poolName, id)
		if got != tt.want || message(err) != tt.err {
			t.Errorf("%s: got %v, %q", tt.member, got, message(err))
		}
	}
}

func TestGoogleWall(t *testing.T) {
	t.Parallel()
	p, err := Google(googleProvider(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	wall, err := GoogleWall(p, []string{"principalSet://iam.googleapis.com/" + poolName + "/attribute.repository/acme/analytics"})
	if err != nil {
		t.Fatal(err)
	}
	wantWall(t, wall, gitHubClaims(map[string]any{"aud": "gcp"}), true, "")
	wantWall(t, wall, gitHubClaims(map[string]any{"aud": "gcp", "repository": "acme/other"}), false, "")
	wantWall(t, wall, gitHubClaims(map[string]any{"aud": "gcp", "repository_owner": "evil"}), false, "")
	if _, err := GoogleWall(p, []string{"principal://x"}); message(err) != `invalid member "principal://x"` {
		t.Error(err)
	}
}
