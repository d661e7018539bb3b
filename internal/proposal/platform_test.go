package proposal_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestPlatform: the entry for the platform's policy parses there and admits
// only its workflow, and the repository's own policy is not in the way.
func TestPlatform(t *testing.T) {
	t.Parallel()
	c := newCheckout(t, txtar.Parse([]byte(sound)), false)
	c.write("repo/.github/oidc-dbt.yml", "version: 1\n")
	p := c.propose("--platform", "acme/platform", "--repository-id", "487920697", "--write")
	text := "version: 1\ntargets:\n" + p.Entry
	parsed, err := policy.Parse("policy", []byte(text), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	if warnings := parsed.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings are %q", warnings)
	}
	if want := "job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v1 # guess"; strings.Count(text, want) != 1 {
		t.Errorf("the entry has no %q:\n%s", want, text)
	}
	if len(p.Written) != 1 || p.Written[0] != ".github/workflows/dbt.yml" || strings.Contains(p.Files[0].Text, "secrets") {
		t.Errorf("wrote %q:\n%s", p.Written, p.Files[0].Text)
	}
}

// TestPlatformsCheckout: what is printed for a platform's policy is enough there
// for the repository's job.
func TestPlatformsCheckout(t *testing.T) {
	t.Parallel()
	for file, there := range map[string]func(policy, entry string) string{
		"platform-many": func(policy, entry string) string {
			if !strings.Contains(entry, `"1041": FILL_IN`) || !strings.Contains(entry, `- repository_id: ["1041"] # add it to those of rule 1 (line 22)`) {
				t.Errorf("the entry is\n%s", entry)
			}
			lines := strings.SplitAfter(strings.Replace(policy, `"1003": SALES}`, `"1003": SALES, "1041": FINANCE}`, 1), "\n")
			lines[21] = strings.Replace(lines[21], "]", `, "1041"]`, 1)
			return strings.Join(lines, "")
		},
		"platform-defaults": func(policy, entry string) string {
			_, target, _ := strings.Cut(entry, "targets:\n")
			policy = strings.Replace(policy, "acme/sales: SALES}", "acme/sales: SALES, acme/ledger: LEDGER}", 1)
			return strings.Replace(policy, "targets:\n", "targets:\n"+target, 1)
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile("testdata/repositories/" + file + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			c := newCheckout(t, a, false)
			p := c.propose()
			before := c.read("../platform/.github/workflows/dbt.yml")
			if _, inline, ok := strings.Cut(before, "policy: |\n"); ok {
				before = regexp.MustCompile("(?m)^ {12}").ReplaceAllString(inline, "")
			} else {
				before = c.read("../platform/.github/oidc-dbt.yml")
			}
			c.write("platform/.github/oidc-dbt.yml", there(before, p.Entry))
			_, workflow, _ := strings.Cut(p.Files[0].Text, "uses: ")
			ref := regexp.MustCompile(`@(\S+) #`).FindStringSubmatch(workflow)[1]
			if ref == "v3" {
				ref = "refs/tags/v3"
			}
			status, out, errs := c.run("explain", "--policy", c.root+"/platform/.github/oidc-dbt.yml", "--repository", "acme/ledger",
				"--repository-id", "1041", "--environment", "production", "--ref", "refs/heads/main",
				"--claim", "job_workflow_ref=acme/platform/.github/workflows/dbt.yml@"+ref)
			if status != 0 {
				t.Errorf("explain: status %d\n%s%s\n%s", status, out, errs, p.Entry)
			}
		})
	}
}

// TestThePlatformsPage: the policy and the workflow of the pages about many
// repositories and organisations are what init assumes of a platform, and lint
// has nothing to say.
func TestThePlatformsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/many-repositories.md")
	if err != nil {
		t.Fatal(err)
	}
	organisations, err := os.ReadFile("../../docs/organisations.md")
	if err != nil {
		t.Fatal(err)
	}
	c := newCheckout(t, txtar.Parse([]byte(sound)), false)
	c.write("platform/.github/oidc-dbt.yml", fenced.FindAllStringSubmatch(string(page), -1)[0][2])
	c.write("platform/.github/workflows/dbt.yml", fenced.FindAllStringSubmatch(string(organisations), -1)[0][2])
	p := c.propose("--platform", "acme/platform", "--platform-dir", "../platform", "--repository-id", "1041", "--environment", "staging")
	if want := "maps:\n  team:\n    repository_id:\n      \"1041\": FILL_IN"; !strings.HasPrefix(p.Entry, want) {
		t.Errorf("the entry is\n%s\nwant one that begins with\n%s", p.Entry, want)
	}
	if want := "dbt.yml@v3 # the ref that job_workflow_ref has in the policy's rule\n    with:\n      target: staging\n      environment: staging\n"; !strings.HasSuffix(p.Files[0].Text, want) {
		t.Errorf("the workflow is\n%s\nwant one that ends in\n%s", p.Files[0].Text, want)
	}
	again := c.propose("--platform", "acme/platform", "--platform-dir", "../platform", "--repository-id", "1002", "--environment", "staging")
	if want := "Check that the policy has the right rules: .github/oidc-dbt.yml of acme/platform lacks nothing."; again.Entry != "" ||
		again.Left[0].Text != want || !slices.Equal(again.Left[0].Details, []string{"staging: rule 1 (line 26) has 1002 already"}) {
		t.Errorf("for a repository that is in the policy: %q, %q", again.Entry, again.Left[0])
	}
	const renamed = "dbt's `target.name` becomes staging, it was prod: change what asks for it in models and macros, " +
		"or add `output: prod` to the policy's target"
	for _, s := range p.Left {
		if s.Text == "Change by hand:" && slices.Equal(s.Details, []string{renamed}) {
			continue
		}
		if s.Text == "Change by hand:" || slices.ContainsFunc(s.Details, func(d string) bool { return strings.Contains(d, "--platform-dir") }) {
			t.Errorf("left to do is %q", s)
		}
	}
	if status, out, errs := c.run("lint", c.root+"/platform/.github"); status != 0 {
		t.Errorf("lint: status %d\n%s%s", status, out, errs)
	}
}

// TestPlatformOfItsOwn: the platform's own repository is its checkout, and its
// reusable workflow is not to be removed.
func TestPlatformOfItsOwn(t *testing.T) {
	t.Parallel()
	c := newCheckout(t, txtar.Parse([]byte(sound)), false)
	c.write("repo/.github/workflows/dbt.yml", "on: {workflow_call: {inputs: {target: {type: string}}}}\njobs:\n  build:\n    runs-on: ubuntu-latest\n"+
		"    environment: production\n    steps: [{run: dbt build}]\n")
	p := c.propose("--platform", "acme/analytics", "--repository-id", "487920697")
	if p.Files[0].Path != ".github/workflows/dbt-platform.yml" || !strings.HasSuffix(p.Files[0].Text, "    with:\n      target: prod\n") {
		t.Errorf("%s is\n%s", p.Files[0].Path, p.Files[0].Text)
	}
	for _, s := range p.Left {
		for _, d := range s.Details {
			if strings.Contains(d, "still runs dbt by itself") {
				t.Errorf("left to do is %q", s)
			}
		}
	}
}

// TestPlatformsCallerChooses: a block that the calling repository can change is marked.
func TestPlatformsCallerChooses(t *testing.T) {
	t.Parallel()
	a, err := txtar.ParseFile("testdata/repositories/snowflake-shared-user.txtar")
	if err != nil {
		t.Fatal(err)
	}
	p := newCheckout(t, a, false).propose("--platform", "acme/platform")
	const want = "    # guess: the calling repository's own ci/profiles.yml chooses account, user and role: " +
		"write them here if the platform is to choose\n    dbt:\n      from: ci/profiles.yml\n"
	if n := strings.Count(p.Entry, want); n != 2 {
		t.Errorf("the entry has %d times\n%s\nwant 2:\n%s", n, want, p.Entry)
	}
}
