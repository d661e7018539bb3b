package docs

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// kindPages are the pages of kinds of identities. GitHub's is the page about the policy.
var kindPages = map[string]string{
	"forgejo": "forgejo", "gitlab": "gitlab", "circleci": "circleci", "buildkite": "buildkite",
	"azure_pipelines": "azure-pipelines", "bitbucket": "bitbucket", "kubernetes": "kubernetes",
	"aws": "aws", "google": "google", "workload": "workload",
	"people": "people", "cursor": "agents", "claude_code": "agents", "warp": "agents",
}

// TestEveryKindHasItsPage: each kind has its page, its row in the overview, and its row of evidence.
func TestEveryKindHasItsPage(t *testing.T) {
	t.Parallel()
	all := pages(t)
	evidence := section(all["../docs/evidence.md"], "Kinds of identities")
	for _, kind := range policy.Kinds() {
		name := kindPages[kind]
		if _, ok := all["../docs/identities/"+name+".md"]; !ok && kind != "github" {
			t.Errorf("kind %s has no page in docs/identities", kind)
		}
		if !strings.Contains(all["../docs/identities/README.md"], "`"+kind+"`") {
			t.Errorf("docs/identities/README.md does not name kind %s", kind)
		}
		if !strings.Contains(evidence, "\n| `"+kind+"` |") {
			t.Errorf("docs/evidence.md has no row for kind %s", kind)
		}
	}
}

// section returns the text under a heading of the second level.
func section(page, heading string) string {
	_, text, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// TestKindPages holds the pages of CI systems and workloads to one form: the job's file with its call of the command,
// a policy that binds by ids, what can be bound, how long a run can be, and what to beware of.
func TestKindPages(t *testing.T) {
	t.Parallel()
	all := pages(t)
	help := map[string]string{}
	for kind, name := range kindPages {
		if slices.Contains([]string{"people", "agents"}, name) {
			continue // have forms of their own
		}
		path := "../docs/identities/" + name + ".md"
		if name != "workload" {
			checkKind(t, path, kind, all[path])
		}
		calls := 0
		for _, m := range block.FindAllStringSubmatch(all[path], -1) {
			for _, call := range execCall.FindAllStringSubmatch(listed.ReplaceAllStringFunc(m[2], unlist), -1) {
				calls++
				if err := knownFlags(t, help, strings.Fields(call[1])); err != nil {
					t.Errorf("%s: %q: %v", path, call[0], err)
				}
			}
		}
		if calls == 0 {
			t.Errorf("%s: no job calls oidc-dbt exec", path)
		}
	}
}

var (
	execCall = regexp.MustCompile(`oidc-dbt (exec [^"'\n]*)`)
	listed   = regexp.MustCompile(`\[(?:"?[\w./-]+"?, )*"?oidc-dbt"?,.*\]`)
)

// unlist writes a list of words as a command.
func unlist(list string) string {
	return strings.NewReplacer("[", "", "]", "", ",", "", `"`, "").Replace(list)
}

func checkKind(t *testing.T, path, kind, page string) {
	t.Helper()
	for _, part := range []string{"* **To bind**", "* **Length of a run**"} {
		if !strings.Contains(page, "\n"+part) {
			t.Errorf("%s has no %q", path, part)
		}
	}
	if n := strings.Count(page, "\n* "); n < 3 {
		t.Errorf("%s has %d remarks: it lacks the pitfalls", path, n)
	}
	var policies, jobs int
	for _, b := range blocks(page) {
		if !strings.HasPrefix(b, "version: 1\n") {
			if err := yaml.Load([]byte(b), new(any)); err != nil {
				t.Errorf("%s: a block does not parse: %v", path, err)
			}
			jobs++
			continue
		}
		policies++
		checkBinding(t, path, kind, b)
	}
	if policies == 0 || jobs == 0 {
		t.Errorf("%s has %d policies and %d files of jobs, want one of each", path, policies, jobs)
	}
}

// checkBinding holds a policy on a page to what the page says: it is of this kind, and warns of no name.
func checkBinding(t *testing.T, path, kind, text string) {
	t.Helper()
	p, err := policy.Parse(path, []byte(text), job.Catalog())
	if err != nil {
		t.Error(err)
		return
	}
	found := slices.ContainsFunc(p.Identities(), func(id policy.Identity) bool { return id.Kind == kind })
	if !found {
		t.Errorf("%s: a policy has no identity of kind %s", path, kind)
	}
}

// TestWorkloadPage: each system has its part, with a policy or what belongs into its pods.
func TestWorkloadPage(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/identities/workload.md"]
	for _, system := range []string{"SPIFFE", "Jenkins", "Spacelift", "HCP Terraform", "Harness", "Fly", "Modal"} {
		part := section(page, system)
		for _, want := range []string{"\n    kind: workload", "* **To bind**: ", "* **Length of a run**", "bind: ["} {
			if !strings.Contains(strings.ReplaceAll(part, ": {kind: workload", ":\n    kind: workload"), want) {
				t.Errorf("%s: the part lacks %q", system, want)
			}
		}
	}
	pods := section(page, "Airflow, Dagster, Prefect")
	for _, system := range []string{"Airflow: ", "Dagster: ", "Prefect: "} {
		if !strings.Contains(pods, "\n"+system) {
			t.Errorf("there is no example for %q", system)
		}
	}
	found := 0
	for _, m := range block.FindAllStringSubmatch(pods, -1) {
		var example any
		var err error
		if m[1] == "json" {
			err = json.Unmarshal([]byte(m[2]), &example)
		} else {
			err = yaml.Load([]byte(m[2]), &example)
		}
		if err != nil {
			t.Errorf("an example does not parse: %v\n%s", err, m[2])
		}
		if projects(example) {
			found++
		}
	}
	if found != 3 {
		t.Errorf("%d examples mount a token for STS where the policy expects it, want 3", found)
	}
}

// projects reports whether a part of an example is a projected token, and another its mount.
func projects(example any) bool {
	text, err := json.Marshal(example)
	const token = `"serviceAccountToken":{"audience":"sts.amazonaws.com","expirationSeconds":600,"path":"token"}`
	return err == nil && strings.Contains(string(text), token) &&
		strings.Contains(string(text), `"mountPath":"/var/run/secrets/oidc-dbt"`)
}
