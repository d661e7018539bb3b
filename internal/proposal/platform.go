package proposal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// calledWorkflow is the platform's reusable workflow, in its repository.
const calledWorkflow = workflowDir + "/dbt.yml"

// A platform is the repository whose reusable workflow is called, as far as it is known.
type platform struct {
	name   string     // OWNER/NAME
	called string     // its workflow, as `uses` has it without a ref
	call   *yaml.Node // what the workflow says of its calls; nil without a checkout
	path   string     // of the policy, as it is shown
	policy *yaml.Node // nil where none is known
	ref    string     // of the workflow, as `job_workflow_ref` has it
	ruled  bool       // a rule of the policy names that ref
	has    []string   // what the policy has for the repository already
}

// readPlatform reads the platform's checkout, if there is one.
func readPlatform(req Request, repo *repository) (*platform, error) {
	p := &platform{name: req.Platform, called: req.Platform + "/" + calledWorkflow, ref: "refs/tags/v1"}
	there := &repository{root: absolute(req.Dir, req.PlatformDir)}
	switch {
	case req.PlatformDir != "":
	case req.Platform == repo.name:
		there.root = repo.root
	default:
		return p, nil
	}
	src, err := there.read(calledWorkflow)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("name a checkout of "+req.Platform, "flag --platform-dir: there is no %s in %q",
			calledWorkflow, cmpOr(req.PlatformDir, "."))
	}
	if err != nil {
		return nil, usage("", "flag --platform-dir: %w", err)
	}
	w, err := there.workflow(calledWorkflow, string(src))
	if err != nil {
		return nil, usage("", "flag --platform-dir: %w", err)
	}
	if !w.starts("workflow_call") {
		return nil, usage("add `on: workflow_call:` to it", "flag --platform-dir: %s in %q is no reusable workflow",
			calledWorkflow, cmpOr(req.PlatformDir, "."))
	}
	if p.call = get(w.root, "on", "workflow_call"); p.call == nil {
		p.call = &yaml.Node{Kind: yaml.MappingNode}
	}
	if err := p.readPolicy(there, w); err != nil {
		return nil, err
	}
	if ref := p.workflowRef(p.policy); ref != "" {
		p.ref, p.ruled = ref, true
	}
	return p, nil
}

// readPolicy reads the platform's policy: a file, or an input of the called workflow's step.
func (p *platform) readPolicy(there *repository, w *workflow) (err error) {
	for _, name := range []string{policyPath, ".github/oidc-dbt.yaml"} {
		src, err := there.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			p.path = name
			p.policy, err = loadYAML(name, string(src))
		}
		if err != nil {
			return usage("", "flag --platform-dir: %w", err)
		}
		return nil
	}
	jobs := get(w.root, "jobs")
	for i := 1; jobs != nil && i < len(jobs.Content); i += 2 {
		for _, s := range nodes(get(jobs.Content[i], "steps")) {
			if inline := text(get(s, "with", "policy")); strings.Contains(inline, "\n") {
				p.path = calledWorkflow + " (the input policy)"
				if p.policy, err = loadYAML(p.path, inline); err != nil {
					return usage("", "flag --platform-dir: %w", err)
				}
				return nil
			}
		}
	}
	return nil
}

// platform proposes a workflow that calls the platform's reusable one, and what
// the platform's policy needs for this repository.
func (p *Proposal) platform(req Request, repo *repository, targets []*target, workflows []*workflow) error {
	there, err := readPlatform(req, repo)
	if err != nil {
		return err
	}
	there.match(repo, targets)
	name := workflowDir + "/dbt.yml"
	if req.Platform == repo.name {
		name = workflowDir + "/dbt-platform.yml"
	} else if old, err := repo.read(name); err == nil {
		if strings.Contains(string(old), "uses: "+there.called+"@") {
			return usage("", "%s calls %s already, and init overwrites nothing", name, there.called)
		}
		name = workflowDir + "/dbt-platform.yml"
	}
	text, notes := there.caller(repo, targets)
	p.Files = []File{{name, text}}
	notes = append(notes, there.renamed(targets)...)
	for _, t := range targets {
		for i := range t.rules {
			t.rules[i].hosted = false // the called workflow chooses the runner
		}
	}
	p.Entry, p.entryFor = there.entry(repo, targets)
	var removed []secretUse
	for _, w := range workflows {
		if w.path == calledWorkflow && req.Platform == repo.name {
			continue
		}
		events := oneLine(strings.Join(w.events, ", "))
		notes = append(notes, w.path+" still runs dbt by itself: take over what starts it ("+events+
			") and the order of its jobs (`needs`), then remove it, or its dbt jobs")
		_, edited := w.diff(targets)
		removed = append(removed, edited.secrets...)
	}
	p.Left = there.steps(repo, targets, p.Entry != "", notes, removed)
	return nil
}

// caller returns the workflow that calls the platform's, and what is to be changed by hand.
func (p *platform) caller(repo *repository, targets []*target) (string, []string) {
	var out strings.Builder
	fmt.Fprintf(&out, "name: dbt\non:\n  push: {branches: [%s]}\n  workflow_dispatch:\npermissions: {}\njobs:\n",
		flowScalar(repo.branch))
	ref := strings.TrimPrefix(strings.TrimPrefix(p.ref, "refs/tags/"), "refs/heads/")
	why := "guess: the ref that job_workflow_ref has in the policy's rule"
	if p.ruled {
		why = "the ref that job_workflow_ref has in the policy's rule"
	}
	var notes []string
	for _, t := range targets {
		for _, dir := range t.dirs() {
			id := "build"
			if len(targets) > 1 || len(t.projects) > 1 {
				id = notInName.ReplaceAllString(t.name+"-"+strings.Trim(dir, "."), "-")
				id = strings.ReplaceAll(strings.Trim(id, "-._"), ".", "-")
			}
			fmt.Fprintf(&out, "  %s:\n    permissions: {contents: read, id-token: write} # what the called workflow asks for\n"+
				"    uses: %s@%s # %s\n", id, p.called, ref, why)
			inputs, missing := p.inputs(t, dir)
			if len(inputs) > 0 {
				write(&out, 4, []field{{key: "with", fields: inputs}})
			}
			for _, note := range missing {
				if !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
			}
		}
	}
	secrets := get(p.call, "secrets")
	for i := 0; secrets != nil && i+1 < len(secrets.Content); i += 2 {
		if text(get(secrets.Content[i+1], "required")) == "true" {
			notes = append(notes, "the called workflow requires the secret "+oneLine(secrets.Content[i].Value)+
				": pass it under `secrets:`")
		}
	}
	return out.String(), notes
}

// inputs returns what is passed to the called workflow: the inputs that it
// declares, or those that it is assumed to have.
func (p *platform) inputs(t *target, dir string) (inputs []field, missing []string) {
	environment := cmpOr(t.rules[0].environment, "production")
	given := []field{{key: "target", value: scalar(t.name)}, {key: "environment", value: scalar(environment)}}
	if dir != "." {
		given = append(given, field{key: "project-dir", value: scalar(dir)})
	}
	if p.call == nil {
		return given, nil
	}
	var declared []string
	list := get(p.call, "inputs")
	for i := 0; list != nil && i+1 < len(list.Content); i += 2 {
		name, about := list.Content[i].Value, list.Content[i+1]
		declared = append(declared, strings.ReplaceAll(name, "_", "-"))
		at := slices.IndexFunc(given, func(f field) bool { return f.key == strings.ReplaceAll(name, "_", "-") })
		switch required := text(get(about, "required")) == "true" && get(about, "default") == nil; {
		case at >= 0:
			inputs = append(inputs, field{key: name, value: given[at].value})
		case required:
			value := map[string]string{"boolean": "false", "number": "0"}[text(get(about, "type"))]
			inputs = append(inputs, field{key: name, value: cmpOr(value, `""`),
				comment: "fill in: " + cmpOr(text(get(about, "description")), "the called workflow requires it")})
		}
	}
	for _, f := range given {
		if !slices.Contains(declared, f.key) {
			missing = append(missing, "the called workflow has no input "+f.key+": see that it uses "+f.value+" by itself")
		}
	}
	return inputs, missing
}

// dirs returns the folders of the projects that use the target.
func (t *target) dirs() (dirs []string) {
	for _, p := range t.projects {
		dirs = append(dirs, p.dir)
	}
	return dirs
}

func (p *platform) steps(
	repo *repository, targets []*target, lacks bool, notes []string, removed []secretUse,
) (list []Step) {
	if repo.id == "" {
		list = append(list, Step{Text: "Fill in the repository's number, which outlives its name:",
			Commands: []string{"gh api repos/" + repo.name + " --jq .id"}})
	}
	list = append(list, p.addEntry(lacks))
	if p.call == nil {
		list = append(list, Step{Text: "Compare the inputs: this call assumes that " + p.called + " has those under `with:`.",
			Details: []string{"with --platform-dir DIR, a checkout of " + p.name + ", init reads them"}})
	}
	if !p.ruled {
		list = append(list, Step{Text: "Choose the ref of " + p.called + ": " +
			"the same in each `uses:` and in `job_workflow_ref` of the rule, or the policy denies the job.",
			Details: []string{"a tag that a ruleset protects (in the rule refs/tags/…), or a commit, in full in both"}})
	}
	list = append(list, trustSteps(repo, targets, p.name)...)
	list = append(list, repo.environmentSteps(targets)...)
	if len(notes) > 0 {
		list = append(list, Step{Text: "Change by hand:", Details: notes})
	}
	list = append(list, Step{Text: "Check the policy there:", Commands: []string{"oidc-dbt lint", "oidc-dbt test-policy"}})
	if s := superfluous(repo, removed); len(s.Details) > 0 {
		list = append(list, s)
	}
	return list
}

// addEntry says where the entry goes.
func (p *platform) addEntry(lacks bool) Step {
	switch {
	case !lacks:
		return Step{Text: "Check that the policy has the right rules: " + p.path + " of " + p.name + " lacks nothing.",
			Details: p.has}
	case p.policy != nil:
		return Step{Text: "Add the lines above to " + p.path + " of " + p.name + ", by a pull request there.", Details: p.has}
	}
	s := Step{Text: "Add the entry above to the policy of " + p.name + ", by a pull request there.", Details: []string{
		"a target for many repositories needs only this repository's number: in its rule, and in the `maps` by repository_id",
		"leave out what the policy's `defaults` say",
	}}
	if p.call == nil {
		s.Details = append(s.Details, "with --platform-dir DIR, a checkout of "+p.name+", init says what is missing")
	}
	return s
}
