package trust

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// goldens holds what a language generates to the cases in testdata/NAME: the
// policy and the options in; the report, each file and the scripts out. With
// `next.yml`, what a rotation changes to, the scripts for it are there, too.
func goldens(t *testing.T, name string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", name, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			golden.Case(t, path, archive, generated(t, archive)...)
		})
	}
}

func generated(t *testing.T, archive *txtar.Archive) (out []txtar.File) {
	t.Helper()
	var options struct {
		Template     []string          `yaml:"sub_template"`
		Owners       map[string]string `yaml:"owner_ids"`
		Repositories map[string]string `yaml:"repositories"`
		Values       map[string]string `yaml:"values"`
		NextAudience string            `yaml:"next_audience"`
		NextTemplate []string          `yaml:"next_template"`
	}
	var text string
	for _, f := range archive.Files {
		switch f.Name {
		case "policy.yml":
			text = string(f.Data)
		case "options.yml":
			if err := yaml.Unmarshal(f.Data, &options); err != nil {
				t.Fatal(err)
			}
		}
	}
	list := logins(t, text, Options{SubTemplate: options.Template, OwnerIDs: options.Owners,
		Repositories: options.Repositories, Values: options.Values})
	for _, d := range list {
		prefix := "want/"
		if len(list) > 1 {
			prefix += d.Name() + "."
		}
		out = append(out, generatedLogin(t, d, prefix)...)
		if options.NextAudience == "" && options.NextTemplate == nil {
			continue
		}
		add := func(name string, script Script, err error) {
			if err != nil {
				out = append(out, txtar.File{Name: prefix + name + ".error", Data: []byte(err.Error() + "\n")})
				return
			}
			out = append(out, txtar.File{Name: prefix + name + ".sh", Data: []byte(script.String())})
		}
		script, err := Rotate(d, d.To(options.NextAudience, options.NextTemplate))
		add("rotate", script, err)
		script, err = Revoke(d)
		add("revoke", script, err)
	}
	return out
}

func generatedLogin(t *testing.T, d Demand, prefix string) (out []txtar.File) {
	t.Helper()
	w, err := Generate(d)
	if err != nil {
		return []txtar.File{{Name: prefix + "error", Data: []byte(err.Error() + "\n")}}
	}
	if len(w.Admits.Reasons()) == 0 {
		if sampling.Share <= 4 {
			checkWall(t, d, w)
		}
	}
	out = append(out, txtar.File{Name: prefix + "report", Data: []byte(w.Report())})
	for _, f := range w.Files(d.Name()) {
		if strings.HasSuffix(f.Suffix, ".tf") {
			checkTerraform(t, f.Text)
		}
		out = append(out, txtar.File{Name: "want/" + f.Suffix, Data: []byte(f.Text)})
	}
	return out
}

// checkWall holds the reports to the differences that a comparison finds.
func checkWall(t *testing.T, d Demand, w Wall) {
	t.Helper()
	var parts []logic.Formula
	gaps := map[string]bool{}
	for i, r := range d.Rules {
		var claims []string
		for _, g := range w.Rules[i].WiderBy {
			claims = append(claims, g.Claim)
			gaps[r.label()+" "+g.Claim] = true
		}
		parts = append(parts, r.Without(claims...).Formula())
	}
	narrower := map[int]bool{}
	c := d.Compare(w.Admits, logic.Or(parts...))
	for _, diff := range c.Differences {
		if diff.Wider {
			t.Errorf("%s is wider by %v, which the report does not say: %v", diff.Rule.label(), diff.Claims,
				diff.Witness)
		} else {
			narrower[diff.Rule.Number] = true
		}
	}
	if len(c.Undecided) > 0 {
		t.Errorf("not decided: %v", c.Undecided)
	}
	for _, r := range w.Rules {
		if narrower[r.Rule] && len(r.Narrower) == 0 {
			t.Errorf("rule %d: tokens are missing: %t; the report: %v", r.Rule, narrower[r.Rule], r.Narrower)
		}
	}
	for _, diff := range d.Compare(w.Admits, logic.Never()).Differences {
		for _, claim := range append(diff.Claims, "deny") { // what is denied is within what another claim explains
			delete(gaps, diff.Rule.label()+" "+claim)
		}
	}
	for gap := range gaps {
		t.Errorf("%s: the report says that it is wider, and no token shows it", gap)
	}
}
