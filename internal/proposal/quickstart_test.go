package proposal_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

var fenced = regexp.MustCompile("(?ms)^```(ya?ml|diff)\n(.*?)^```$")

// TestQuickstart: what the quick start shows is what init prints for its files.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	const path = "../../docs/quickstart.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := fenced.FindAllStringSubmatch(string(page), -1)
	if len(found) != 4 || found[3][1] != "diff" {
		t.Fatalf("the page has %d blocks of YAML and differences, want profiles, a workflow, a policy and a difference", len(found))
	}
	c := newCheckout(t, txtar.Parse([]byte("-- repo/dbt_project.yml --\nname: analytics\nprofile: analytics\n"+
		"-- repo/.git/config --\n[remote \"origin\"]\n\turl = https://github.com/acme/analytics.git\n"+
		"-- repo/.git/refs/remotes/origin/HEAD --\nref: refs/remotes/origin/main\n")), false)
	c.write("repo/profiles.yml", found[0][2])
	c.write("repo/.github/workflows/dbt.yml", found[1][2])
	p := c.propose("--repository-id", "487920697")
	_, policy, _ := strings.Cut(p.Files[0].Text, "version: 1\n") // without what is for editors
	want := strings.Replace(string(page), found[2][2], "version: 1\n"+policy, 1)
	want = strings.Replace(want, found[3][2], p.Diffs[0].Diff, 1)
	golden.Compare(t, path, want)
}
