package proposal

import (
	"fmt"
	"strings"
)

// platform proposes a workflow that calls the platform's reusable one, and what
// the platform's policy needs for this repository.
func (p *Proposal) platform(req Request, repo *repository, targets []*target, workflows []*workflow) error {
	called := req.Platform + "/.github/workflows/dbt.yml"
	var out strings.Builder
	fmt.Fprintf(
		&out,
		"name: dbt\non:\n  push: {branches: [%s]}\n  workflow_dispatch:\npermissions: {}\njobs:\n",
		flowScalar(repo.branch),
	)
	for _, t := range targets {
		for _, dir := range t.dirs() {
			id := "build"
			if len(targets) > 1 || len(t.projects) > 1 {
				id = strings.ReplaceAll(
					strings.Trim(notInName.ReplaceAllString(t.name+"-"+strings.Trim(dir, "."), "-"), "-._"),
					".",
					"-",
				)
			}
			fmt.Fprintf(&out, "  %s:\n    permissions: {contents: read, id-token: write} # what the called workflow asks for\n"+
				"    uses: %s@0000000000000000000000000000000000000000 # put the commit and version of a release here\n"+
				"    with:\n      target: %s\n      environment: %s\n", id, called, t.name,
				scalar(cmpOr(t.rules[0].environment, "production")))
			if dir != "." {
				fmt.Fprintf(&out, "      project-dir: %s\n", scalar(dir))
			}
		}
	}
	name := ".github/workflows/dbt.yml"
	if old, err := repo.read(name); err == nil {
		if strings.Contains(string(old), "uses: "+called+"@") {
			return usage("", "%s calls %s already, and init overwrites nothing", name, called)
		}
		name = ".github/workflows/dbt-platform.yml"
	}
	p.Files = []File{{name, out.String()}}

	for _, t := range targets {
		for i := range t.rules {
			t.rules[i].hosted = false // the called workflow chooses the runner
		}
	}
	var entry strings.Builder
	for _, t := range targets {
		write(&entry, 2, []field{{key: t.name, fields: t.fields()}})
		t.writeRules(&entry, repo, called+"@refs/tags/v1")
	}
	p.Entry = entry.String()
	var old []string
	for _, w := range workflows {
		old = append(old, w.path+" still runs dbt by itself: remove it, or its dbt jobs")
	}
	p.Left = platformSteps(req, repo, targets, old)
	return nil
}

// dirs returns the folders of the projects that use the target.
func (t *target) dirs() (dirs []string) {
	for _, p := range t.projects {
		dirs = append(dirs, p.dir)
	}
	return dirs
}

func platformSteps(req Request, repo *repository, targets []*target, old []string) (list []Step) {
	if repo.id == "" {
		list = append(list, Step{Text: "Fill in the repository's number, which outlives its name:",
			Commands: []string{"gh api repos/" + repo.name + " --jq .id"}})
	}
	list = append(list, Step{Text: "Add the entry above to the policy of " + req.Platform + ", by a pull request there. " +
		"Where the policy has a target for many repositories, add only the number to its rule."},
		Step{Text: "See that the inputs are those of the called workflow, and put its commit and version into `uses:`."})
	list = append(list, repo.environmentSteps(targets)...)
	if len(old) > 0 {
		list = append(list, Step{Text: "Change by hand:", Details: old})
	}
	return append(list, Step{Text: "Check the policy there:", Commands: []string{"oidc-dbt lint", "oidc-dbt test-policy"}})
}
