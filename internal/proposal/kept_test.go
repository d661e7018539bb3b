package proposal_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestProposedPoliciesWork: the command makes a profile of each proposed
// target, and it has every key of the user's own output but the logins, and
// what only variables said.
func TestProposedPoliciesWork(t *testing.T) {
	t.Parallel()
	var kept atomic.Int64
	eachRepository(t, func(t *testing.T, file string, a *txtar.Archive) {
		c := newCheckout(t, a, isCRLF(file))
		if fails(a) || slices.Contains(c.args, "--platform") {
			return
		}
		p := c.propose("--write")
		text := p.Files[0].Text
		parsed, err := policy.Parse(p.Files[0].Path, []byte(text), job.Catalog())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "# fix: ") {
			return // it says what is wrong
		}
		for _, name := range parsed.Targets() {
			project, profiles := c.profileOnly(a, name)
			if project == "" {
				continue
			}
			kept.Add(c.compare(a, name, project, profiles, text))
		}
	})
	t.Cleanup(func() {
		if kept := kept.Load(); kept < 150 {
			t.Errorf("%d keys were compared, want at least 150", kept)
		}
	})
}

// profileOnly returns the profile of a target, and the project that it is for.
func (c checkout) profileOnly(a *txtar.Archive, target string) (project, profiles string) {
	c.t.Helper()
	var said, dirs []string
	for _, f := range a.Files {
		dir, ok := strings.CutSuffix(strings.TrimPrefix(f.Name, "repo/"), "dbt_project.yml")
		if !ok || strings.Contains(dir, "dbt_packages") {
			continue
		}
		if dir = path.Clean("./" + dir); strings.HasPrefix(target, dir) { // named after it
			dirs = slices.Insert(dirs, 0, dir)
		} else {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		status, out, errs := c.run("exec", "--profile-only", "--policy", ".github/oidc-dbt.yml", "--target", target, "--project-dir", dir, "--",
			"sh", "-c", `cat "$DBT_PROFILES_DIR/profiles.yml"`)
		if status == 0 {
			return dir, out
		}
		said = append(said, errs)
	}
	c.t.Errorf("target %q: %s", target, said)
	return "", ""
}

// compare compares the profile with the user's own, and returns how many keys it has seen.
func (c checkout) compare(a *txtar.Archive, target, project, profiles, policyText string) (count int64) {
	c.t.Helper()
	var written, own map[string]struct {
		Target  string
		Outputs map[string]map[string]any
	}
	if err := yaml.Load([]byte(profiles), &written); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"repo/" + path.Join(project, "profiles.yml"), "repo/profiles.yml", "home/.dbt/profiles.yml"} {
		for _, f := range a.Files {
			if f.Name != name || own != nil {
				continue
			}
			if err := yaml.Load(f.Data, &own); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	for profile, p := range written {
		output := p.Outputs[p.Target]
		spec := job.Catalog().Adapters[fmt.Sprint(output["type"])]
		for key, want := range own[profile].Outputs[p.Target] {
			name := spec.Canonical(key)
			jinja := strings.Contains(fmt.Sprint(want), "{{")
			if slices.Contains(spec.Written, name) || spec.IsLogin(name) || name == "user" || name == "secrets" || name == "cluster_id" || jinja ||
				strings.Contains(fmt.Sprint(want), marker) {
				continue
			}
			if want == "no" { // YAML 1.1
				want = false
			}
			count++
			if got := output[key]; fmt.Sprint(got) != fmt.Sprint(want) {
				c.t.Errorf("target %q: %s of profile %q is %v, want %v\n%s", target, key, profile, got, want, policyText)
			}
		}
	}
	return count
}
