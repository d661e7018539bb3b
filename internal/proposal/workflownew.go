package proposal

import (
	"fmt"
	"path"
	"strings"
)

// checkoutPin is the documentation's.
const checkoutPin = "actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1"

// newWorkflow returns a workflow for a repository that has none which runs dbt.
func newWorkflow(repo *repository, targets []*target, workflows []*workflow) (File, bool) {
	if len(workflows) > 0 {
		return File{}, false
	}
	var out strings.Builder
	fmt.Fprintf(
		&out,
		"name: dbt\non:\n  push: {branches: [%s]}\n  workflow_dispatch:\npermissions: {}\njobs:\n",
		flowScalar(repo.branch),
	)
	for _, t := range targets {
		for _, p := range t.projects {
			repo.newJob(&out, t, p)
		}
	}
	name := ".github/workflows/dbt.yml"
	if repo.has(name) {
		name = ".github/workflows/dbt-oidc.yml"
	}
	return File{name, out.String()}, true
}

func (r *repository) newJob(out *strings.Builder, t *target, p *project) {
	id := "build"
	if len(t.projects) > 1 || t.name != "prod" {
		id = strings.Trim(
			notInName.ReplaceAllString(t.name+"-"+strings.ReplaceAll(strings.Trim(p.dir, "."), "/", "-"), "-"),
			"-._",
		)
		id = strings.ReplaceAll(id, ".", "-")
	}
	if id == "" || id[0] >= '0' && id[0] <= '9' {
		id = "build-" + id
	}
	environment := t.rules[0].environment
	fmt.Fprintf(out, "  %s:\n    runs-on: ubuntu-latest\n    environment: %s # its protection rules gate this job\n"+
		"    permissions: {contents: read, id-token: write} # read the project; ask for an ID token\n    steps:\n"+
		"      - uses: %s\n        with: {persist-credentials: false}\n", id, scalar(environment), checkoutPin)
	install, comment := r.install(t, p)
	if comment != "" {
		comment = " # " + comment
	}
	fmt.Fprintf(
		out,
		"      - run: %s%s\n      - uses: %s\n        with:\n          target: %s\n",
		install,
		comment,
		actionPin,
		t.name,
	)
	if p.dir != "." {
		fmt.Fprintf(out, "          project-dir: %s\n", scalar(p.dir))
	}
	if r.has(path.Join(p.dir, "packages.yml")) || r.has(path.Join(p.dir, "dependencies.yml")) {
		out.WriteString("          run: |\n            dbt deps\n            dbt build\n")
		return
	}
	out.WriteString("          run: dbt build\n")
}

// install returns how the project's dbt is installed.
func (r *repository) install(t *target, p *project) (command, comment string) {
	for _, dir := range []string{p.dir, "."} {
		for _, name := range []string{"requirements.txt", "requirements/prod.txt", "requirements/requirements.txt"} {
			file := path.Join(dir, name)
			text, err := r.read(file)
			switch {
			case err != nil:
			case strings.Contains(string(text), "--hash="):
				return "python3 -m pip install --require-hashes --requirement " + file, ""
			default:
				return "python3 -m pip install --requirement " + file, "guess: better with hashes"
			}
		}
	}
	for _, tool := range []struct{ file, command string }{
		{"uv.lock", "pipx run uv sync --frozen && echo \"$PWD/.venv/bin\" >> \"$GITHUB_PATH\""},
		{"poetry.lock", "pipx run poetry install && echo \"$(pipx run poetry env info --path)/bin\" >> \"$GITHUB_PATH\""},
	} {
		if r.has(tool.file) {
			return tool.command, "guess: by " + tool.file
		}
	}
	return "python3 -m pip install dbt-core dbt-" + t.dbtType, "guess: pin the versions"
}
