package proposal_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/proposal"
)

// FuzzPropose: for any content of the files there is an error or a proposal whose
// policy parses and whose difference applies to a workflow that is YAML after it.
func FuzzPropose(f *testing.F) {
	files, err := filepath.Glob("testdata/repositories/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		part := map[string]string{}
		for _, p := range a.Files {
			part[p.Name] = string(p.Data)
		}
		f.Add(part["repo/profiles.yml"], part["repo/.github/workflows/dbt.yml"], part["repo/Makefile"], part["repo/.git/config"])
	}
	f.Fuzz(func(t *testing.T, profiles, workflow, makefile, git string) {
		c := newCheckout(t, txtar.Parse([]byte("-- repo/dbt_project.yml --\nname: a\nprofile: analytics\n")), false)
		for name, text := range map[string]string{"profiles.yml": profiles, ".github/workflows/dbt.yml": workflow, "Makefile": makefile, ".git/config": git} {
			c.write("repo/"+name, text)
		}
		p, err := proposal.Propose(proposal.Request{Dir: filepath.Join(c.root, "repo"), Repository: "acme/analytics", Catalog: job.Catalog()})
		if err != nil {
			return
		}
		if _, err := policy.Parse("", []byte(p.Files[0].Text), job.Catalog()); err != nil {
			t.Error(err)
		}
		var into any
		if err := yaml.Load([]byte(p.Files[1].Text), &into); err != nil {
			t.Errorf("the tests: %v\n%s", err, p.Files[1].Text)
		}
		for _, d := range p.Diffs {
			changed := apply(t, workflow, d.Text)
			if yaml.Load([]byte(workflow), &into) == nil && yaml.Load([]byte(changed), &into) != nil && !strings.ContainsAny(workflow, "?&*!") {
				t.Errorf("the workflow is not YAML any more:\n%s\n\nof\n%s", changed, workflow)
			}
		}
	})
}
