package trust

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const onGCP = `
version: 1
targets:
  prod:
    exchange:
      gcp: {workload_identity_provider: ` + gcpPool + `/providers/acme, service_account: dbt@acme-dbt.iam.gserviceaccount.com}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`

// A gcpCase changes what is read; the condition is the policy's own unless it is there.
type gcpCase struct {
	name      string
	condition string
	mapping   map[string]string
	provider  map[string]any // of the provider's document; nil removes a key
	members   []string
	more      string // further documents
	verdict   Verdict
	findings  []string // NAME SEVERITY: how the message begins
}

const gcpExact = `assertion.repository == 'acme/analytics' && assertion.repository_id == '487920697' && has(assertion.environment) && ` +
	`assertion.environment == 'production' && assertion.ref == 'refs/heads/main' && ` +
	`assertion.event_name in ['push', 'schedule', 'workflow_dispatch', 'merge_group', 'release']`

func (c gcpCase) files(t *testing.T) []File {
	t.Helper()
	condition := c.condition
	if condition == "" {
		condition = gcpExact
	}
	doc := map[string]any{
		"name": gcpPool + "/providers/acme", "state": "ACTIVE", "attributeCondition": condition,
		"attributeMapping": map[string]string{"google.subject": "assertion.repository_id",
			"attribute.repository_id": "assertion.repository_id"},
		"oidc": map[string]any{"issuerUri": "https://token.actions.githubusercontent.com",
			"allowedAudiences": []string{"https://iam.googleapis.com/" + gcpPool + "/providers/acme"}},
	}
	if c.mapping != nil {
		doc["attributeMapping"] = c.mapping
	}
	for key, value := range c.provider {
		doc[key] = value
		if value == nil {
			delete(doc, key)
		}
	}
	members := c.members
	if members == nil {
		members = []string{"principalSet://iam.googleapis.com/" + gcpPool + "/attribute.repository_id/487920697"}
	}
	files := []File{
		{"provider.json", marshal(t, doc)},
		{"policy.json", marshal(t, map[string]any{"version": 1, "etag": "x",
			"bindings": []any{map[string]any{"role": "roles/iam.workloadIdentityUser", "members": members}}})},
	}
	if c.more != "" {
		files = append(files, File{"more.json", []byte(c.more)})
	}
	return files
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var gcpCases = []gcpCase{
	{name: "exact", verdict: Same},
	{name: "no condition", provider: map[string]any{"attributeCondition": nil}, verdict: Wider, findings: []string{
		"missing-condition error: provider.json: provider " + gcpPool + "/providers/acme has no condition on claims",
		"wider error: the provider admits tokens that rule 1 (line 8) refuses by repository, environment, ref, " +
			"event_name"}},
	{name: "a condition on nothing", condition: "true", verdict: Wider, findings: []string{"missing-condition error",
		"wider error"}},
	{name: "any repository", condition: "assertion.ref == 'refs/heads/main'",
		mapping: map[string]string{"google.subject": "assertion.ref"},
		members: []string{"principal://iam.googleapis.com/" + gcpPool + "/subject/refs/heads/main"}, verdict: Wider,
		findings: []string{"missing-subject error: provider.json: neither condition nor binding asks for sub, the " +
			"repository or its owner",
			"wider error"}},
	{name: "by name", condition: "assertion.repository == 'acme/analytics'",
		mapping: map[string]string{"google.subject": "assertion.repository"},
		members: []string{"principal://iam.googleapis.com/" + gcpPool + "/subject/acme/analytics"}, verdict: Wider,
		findings: []string{"name-only warning: provider.json: owner and repository are bound by name only",
			"wider error"}},
	{name: "a beginning", condition: gcpExact + " && assertion.sub.startsWith('repo:acme')", verdict: Same,
		findings: []string{
			"unanchored-expression error: provider.json: attributeCondition: sub.startsWith('repo:acme') also begins " +
				"other names, such as repo:acme-evil"}},
	{name: "a closed beginning", condition: gcpExact + " && (assertion.sub.startsWith('repo:acme/') || " +
		"assertion.sub.startsWith('repo:acme@'))", verdict: Same},
	{name: "an end", condition: gcpExact + " && assertion.repository.endsWith('analytics')", verdict: Same,
		findings: []string{
			"unanchored-expression error: provider.json: attributeCondition: repository.endsWith('analytics') also ends " +
				"other names"}},
	{name: "a part", condition: "assertion.sub.contains('acme/analytics')", verdict: Different, findings: []string{
		"unanchored-expression error: provider.json: attributeCondition: sub.contains('acme/analytics') is anywhere " +
			"in the text", "wider error",
		"narrower warning"}},
	{name: "not a part", condition: gcpExact + " && !assertion.sub.contains('pull_request')", verdict: Same},
	{name: "unanchored", condition: "assertion.sub.matches('repo:acme/analytics:environment:production')",
		verdict: Different, findings: []string{
			"unanchored-expression error: provider.json: attributeCondition: " +
				"sub.matches('repo:acme/analytics:environment:production') matches anywhere",
			"wider error", "narrower warning"}},
	{name: "half anchored", condition: "assertion.repository.matches('^acme/analytics|acme/other$')", verdict: Wider,
		findings: []string{
			"unanchored-expression error", "wider error"}},
	{name: "anchored", condition: strings.Replace(gcpExact, "assertion.ref == 'refs/heads/main'",
		"assertion.ref.matches('^(?:refs/heads/main)$')", 1),
		verdict: Same},
	{name: "through the mapping", condition: "attribute.name.contains('analytics') && " + gcpExact, verdict: Same,
		mapping: map[string]string{"google.subject": "assertion.sub", "attribute.name": "assertion.repository",
			"attribute.repository_id": "assertion.repository_id"}, findings: []string{
			"unanchored-expression error: provider.json: attributeCondition: repository.contains('analytics')"}},
	{name: "without has", condition: strings.Replace(gcpExact, "has(assertion.environment) && ", "", 1), verdict: Same},
	{name: "a mapping without has", mapping: map[string]string{"google.subject": "assertion.repository_id",
		"attribute.repository_id": "assertion.repository_id", "attribute.environment": "assertion.environment"},
		verdict: Same, findings: []string{
			"unguarded-mapping warning: provider.json: attributeMapping attribute.environment fails for every token " +
				"without environment"}},
	{name: "other events", condition: strings.Split(gcpExact, " && assertion.event_name")[0], verdict: Wider,
		findings: []string{
			"wider error: the provider admits tokens that rule 1 (line 8) refuses by event_name"}},
	{name: "fewer events", condition: strings.Replace(gcpExact, ", 'schedule'", "", 1), verdict: Narrower,
		findings: []string{"narrower warning"}},
	{name: "another ref", condition: strings.Replace(gcpExact, "/main", "/dev", 1), verdict: Different,
		findings: []string{"wider error", "narrower warning"}},
	{name: "another audience",
		provider: map[string]any{"oidc": map[string]any{"issuerUri": "https://token.actions.githubusercontent.com",
			"allowedAudiences": []string{"x"}}}, verdict: Different, findings: []string{
			"wider error: the provider admits tokens that rule 1 (line 8) refuses by aud", "narrower warning"}},
	{name: "the default audience",
		provider: map[string]any{"oidc": map[string]any{"issuerUri": "https://token.actions.githubusercontent.com"}},
		verdict:  Wider, findings: []string{"wider error: the provider admits tokens that rule 1 (line 8) refuses by " +
			"aud"}},
	{name: "the whole pool", members: []string{"principalSet://iam.googleapis.com/" + gcpPool + "/*"}, verdict: Same,
		findings: []string{
			"pool-wide-binding error: roles/iam.workloadIdentityUser has principalSet://iam.googleapis.com/" + gcpPool + "/*"}},
	{name: "everyone", members: []string{"allUsers", "user:mona@example.com"}, verdict: Same, findings: []string{
		"public-binding error: roles/iam.workloadIdentityUser has allUsers: everyone",
		"other-member note: roles/iam.workloadIdentityUser has user:mona@example.com as well"}},
	{name: "a second provider",
		more: `{"name": "` + gcpPool + `/providers/other", "attributeCondition": "assertion.repository_owner_id == '7'",
		"attributeMapping": {"google.subject": "assertion.sub", "attribute.repository_id": "assertion.repository_id"},
		"oidc": {"issuerUri": "https://token.actions.githubusercontent.com",
			"allowedAudiences": ["other"]}}`, verdict: Wider, findings: []string{
			"pool-wide-binding error: roles/iam.workloadIdentityUser has principalSet://iam.googleapis.com/" + gcpPool +
				"/attribute.repository_id/487920697, which provider " + gcpPool + "/providers/other of the same pool " +
				"can give to its tokens as well",
			"wider error: the provider admits tokens that rule 1 (line 8) refuses by aud"}},
	{name: "a second provider that maps nothing of it",
		more: `[{"name": "` + gcpPool + `/providers/other", "attributeCondition": "assertion.sub == 'x'",
		"attributeMapping": {"google.subject": "assertion.sub"},
			"oidc": {"issuerUri": "https://gitlab.com"}}]`, verdict: Same},
	{name: "a provider of another pool",
		more: `{"name": "projects/123/locations/global/workloadIdentityPools/other/providers/acme",
		"attributeMapping": {"google.subject": "assertion.sub"},
			"oidc": {"issuerUri": "https://gitlab.com"}}`, verdict: Same, findings: []string{
			"other-pool note: more.json: provider " +
				"projects/123/locations/global/workloadIdentityPools/other/providers/acme is in another pool"}},
	{name: "disabled", provider: map[string]any{"disabled": true}, verdict: Narrower, findings: []string{
		"disabled-provider warning: provider.json: provider " + gcpPool + "/providers/acme exchanges no ID token: " +
			"it is disabled", "narrower warning"}},
	{name: "deleted", provider: map[string]any{"state": "DELETED"}, verdict: Narrower,
		findings: []string{"disabled-provider warning", "narrower warning"}},
	{name: "a disabled pool", more: `{"name": "` + gcpPool + `", "state": "ACTIVE", "disabled": true}`,
		verdict: Narrower, findings: []string{
			"disabled-provider warning: pool " + gcpPool + " is disabled", "narrower warning"}},
	{name: "not mapped",
		members: []string{"principalSet://iam.googleapis.com/" + gcpPool + "/attribute.repository/acme/analytics"},
		verdict: Narrower,
		findings: []string{"key-not-read warning: roles/iam.workloadIdentityUser has principalSet://",
			"narrower warning"}},
	{name: "a claim that is none", condition: gcpExact + " && assertion.repo == 'acme/analytics'", verdict: Narrower,
		findings: []string{
			"key-not-read warning: provider.json: attributeCondition: no token of GitHub's has the claim repo",
			"narrower warning"}},
	{name: "a chosen beginning", condition: gcpExact + " && assertion.sub in " +
		"['environment:production:repo:acme/analytics']", verdict: Narrower,
		findings: []string{"customised-subject error: provider.json: subject " +
			"\"environment:production:repo:acme/analytics\" begins with environment",
			"narrower warning"}},
	{name: "dashes", condition: gcpExact + " && assertion.sub == " +
		"'repo:acme-7/analytics-487920697:environment:production'", verdict: Narrower,
		findings: []string{"old-subject-form warning: provider.json: subject " +
			"\"repo:acme-7/analytics-487920697:environment:production\" has ids behind a dash",
			"narrower warning"}},
	{name: "the old form", condition: gcpExact + " && assertion.sub == 'repo:acme/analytics:environment:production'",
		verdict: Narrower, findings: []string{
			"old-subject-form note: provider.json: subject \"repo:acme/analytics:environment:production\" is not that " +
				"of a repository that was created",
			"narrower warning"}},
	{name: "long", condition: gcpExact + strings.Repeat(" && assertion.repository_id == '487920697'", 110),
		verdict: Same, findings: []string{
			"over-limit error: provider.json: characters of attributeCondition: 4906, Google allows 4096"}},
	{name: "a function that is not known", condition: gcpExact + " && assertion.sub.frobnicate()", verdict: Unknown,
		findings: []string{
			"undecided warning: not evaluated: the function frobnicate"}},
	{name: "a sum", condition: gcpExact, mapping: map[string]string{"google.subject": "assertion.repository_id + " +
		"':' + assertion.environment"},
		members: []string{"principal://iam.googleapis.com/" + gcpPool + "/subject/487920697:production"}, verdict: Same,
		findings: []string{
			"unguarded-mapping warning: provider.json: attributeMapping google.subject fails for every token " +
				"without environment"}},
	{name: "a part of a claim", condition: gcpExact + " && assertion.repository.extract('{owner}/') == 'acme' && " +
		"assertion.repository.split('/')[1] == 'analytics'",
		verdict: Same},
	{name: "no bindings", members: []string{}, verdict: Narrower, findings: []string{"narrower warning"}},
	{name: "a group", mapping: map[string]string{"google.subject": "assertion.sub",
		"google.groups": "[assertion.repository_id, 'x']"},
		members: []string{"principalSet://iam.googleapis.com/" + gcpPool + "/group/487920697"}, verdict: Same},
}

func TestReadGCP(t *testing.T) {
	t.Parallel()
	for _, tt := range gcpCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Check(demand(t, onGCP, Options{}), tt.files(t))
			if err != nil {
				t.Fatal(err)
			}
			if c.Verdict != tt.verdict {
				t.Errorf("verdict %s, want %s", c.Verdict, tt.verdict)
			}
			var got []string
			for _, f := range c.Findings {
				if f.Name != "long-subject" {
					got = append(got, f.Name+" "+f.Severity+": "+f.Message)
				}
			}
			slices.Sort(got)
			slices.Sort(tt.findings)
			if !slices.EqualFunc(got, tt.findings, strings.HasPrefix) {
				t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.findings, "\n"))
			}
		})
	}
}

func TestReadGCPConditionalBinding(t *testing.T) {
	t.Parallel()
	files := gcpCase{}.files(t)[:1]
	binding := `{"bindings": [{"role": "roles/iam.workloadIdentityUser", "members": ["principalSet://iam.googleapis.com/` + gcpPool +
		`/attribute.repository_id/487920697"], "condition": {"title": "t", "expression": "request.time < timestamp('2027-01-01T00:00:00Z')"}}]}`
	for text, want := range map[string]string{
		binding: `not evaluated: the condition "request.time < timestamp('2027-01-01T00:00:00Z')" of a binding of roles/iam.workloadIdentityUser`,
		"": "not evaluated: who is bound: add what `gcloud iam service-accounts get-iam-policy " +
			"dbt@acme-dbt.iam.gserviceaccount.com --format json` prints",
	} {
		all := files
		if text != "" {
			all = append(slices.Clip(files), File{"policy.json", []byte(text)})
		}
		c, err := Check(demand(t, onGCP, Options{}), all)
		if err != nil || c.Verdict != Unknown || len(c.Findings) != 1 || c.Findings[0].Message != want {
			t.Errorf("got %+v, %v, want %s", c, err, want)
		}
	}
}

func TestReadGCPErrors(t *testing.T) {
	t.Parallel()
	const wanted = "want what these print: " + gcpWanted
	for _, tt := range []struct{ text, err string }{
		{"{", "f.json: " + wanted + ": unexpected end of JSON input"},
		{`{"name": 1}`, "f.json: " + wanted + ": json: cannot unmarshal number into Go struct field gcpExport.name " +
			"of type string"},
		{`{}`, "f.json: it is neither a provider, a pool nor an IAM policy: " + wanted},
		{`{"etag": "x"}`, "no file has a provider of pool " + gcpPool + ": " + wanted},
		{`{"oidc": {"issuerUri": "https://x"}, "attributeCondition": "a ="}`, "f.json: attributeCondition: " +
			"unexpected '=' at character 3"},
		{`{"oidc": {"issuerUri": "https://x"}, "attributeMapping": {"google.subject": "a b"}}`,
			`f.json: attributeMapping google.subject: unexpected "b" at character 3`},
	} {
		if _, err := Check(demand(t, onGCP, Options{}), []File{{"f.json", []byte(tt.text)}}); err == nil || err.Error() != tt.err {
			t.Errorf("%s: got %v, want %s", tt.text, err, tt.err)
		}
	}
}

// TestGCPReadsItself: what is generated is read as what it was generated for.
func TestGCPReadsItself(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/gcp/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range logins(t, string(archive.Files[0].Data), Options{}) {
				w, err := Generate(d)
				if err != nil {
					continue // the golden has the error
				}
				c, err := Check(d, []File{{"x.json", []byte(w.Documents[0].Text)}})
				if err != nil || c.Verdict != Same {
					t.Errorf("%s: %+v, %v", d.Name(), c, err)
				}
				for _, f := range c.Findings {
					if f.Severity != "note" {
						t.Errorf("%s: %+v", d.Name(), f)
					}
				}
			}
		})
	}
}

// TestReadGCPAgrees compares what is read of random documents with what Google
// would do, and each witness with both sides.
func TestReadGCPAgrees(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	d := demand(t, onGCP, Options{})
	formula := d.PolicyFormula()
	decided, admitted, witnesses := 0, 0, 0
	for i := range 400 / sampling.Share {
		c := randomGCP(random)
		files := c.files(t)
		reading, err := readGCP(d, files)
		if err != nil {
			t.Fatal(err)
		}
		p, err := wall.Google(files[0].Text)
		if err != nil {
			t.Fatalf("%v\n%s", err, files[0].Text)
		}
		admits, err := wall.GoogleWall(p, c.members)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			claims := randomToken(random, d)
			texts := map[string]string{}
			for name, value := range claims {
				texts[name] = value.(string)
			}
			got := reading.Admits.Eval(texts)
			if got == logic.Unknown {
				continue
			}
			decided++
			want, err := admits(claims)
			if err != nil || (got == logic.True) != want {
				t.Fatalf("read as %v, Google: %t, %v\n%v\n%s\n%s", got, want, err, claims, files[0].Text, c.members)
			}
			if want {
				admitted++
			}
		}
		if i%10 > 0 {
			continue
		}
		for _, diff := range d.Compare(reading.Admits, logic.Never()).Differences {
			claims := map[string]any{}
			for name, value := range diff.Witness {
				claims[name] = value
			}
			got, err := admits(claims)
			if err != nil || got != diff.Wider || (formula.Eval(diff.Witness) == logic.True) == diff.Wider {
				t.Fatalf("witness %v: wider %t, Google: %t, %v\n%s", claims, diff.Wider, got, err, files[0].Text)
			}
			witnesses++
		}
	}
	t.Logf("%d of 40,000 tokens decided, %d admitted; %d witnesses", decided, admitted, witnesses)
	if sampling.Share <= 4 && (decided < 30_000/sampling.Share || admitted < 1000/sampling.Share || witnesses < 30/sampling.Share) {
		t.Error("the test shows little")
	}
}

// randomGCP is a document such as people write, with mistakes.
func randomGCP(r *rand.Rand) gcpCase {
	terms := []string{
		"assertion.repository == 'acme/analytics'", "assertion.repository in ['acme/analytics', 'acme/other']",
		"assertion.repository.startsWith('acme/')", "assertion.repository_owner == 'acme'",
		"assertion.repository_id == '487920697'",
		"assertion.environment == 'production'", "has(assertion.environment) && assertion.environment == 'production'",
		"(assertion.environment == 'production' || assertion.ref == 'refs/heads/main')", "assertion.ref == " +
			"'refs/heads/main'",
		"assertion.ref.matches('^refs/heads/(main|release/[^/]+)$')", "assertion.ref.matches('refs/heads/main')",
		"assertion.event_name != 'pull_request'", "!(assertion.event_name in ['pull_request', 'pull_request_target'])",
		"assertion.sub.startsWith('repo:acme/analytics:')", "assertion.sub.endsWith(':environment:production')",
		"assertion.sub.split(':')[0] == 'repo'", "assertion.repository.extract('{owner}/') == 'acme'",
		"(has(assertion.environment) ? assertion.environment == 'production' : assertion.event_name == 'push')",
		"attribute.x == 'acme/analytics'", "google.subject.contains('acme')", "attribute.decision == 'yes'",
	}
	var condition []string
	for range 1 + r.IntN(5) {
		condition = append(condition, pick(r, terms))
	}
	mapping := map[string]string{
		"google.subject": pick(r, []string{"assertion.sub", "assertion.repository_id", "assertion.repository + " +
			"':' + assertion.ref"}),
		"attribute.x": pick(r, []string{"assertion.repository", "assertion.environment",
			"has(assertion.environment) ? assertion.environment : ''"}),
		"attribute.decision": pick(r, terms[:len(terms)-3]) + " ? 'yes' : 'no'",
	}
	members := []string{pick(r, []string{"principalSet://iam.googleapis.com/%s/*",
		"principalSet://iam.googleapis.com/%s/attribute.decision/yes",
		"principalSet://iam.googleapis.com/%s/attribute.x/acme/analytics",
		"principal://iam.googleapis.com/%s/subject/487920697",
		"principal://iam.googleapis.com/%s/subject/repo:acme/analytics:environment:production",
		"principal://iam.googleapis.com/%s/subject/acme/analytics:refs/heads/main"})}
	members[0] = fmt.Sprintf(members[0], gcpPool)
	return gcpCase{condition: strings.Join(condition, pick(r, []string{" && ", " && ", " || "})), mapping: mapping,
		members: members}
}
