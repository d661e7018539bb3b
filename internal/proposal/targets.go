package proposal

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A target is one that is proposed.
type target struct {
	name     string
	output   string // the output's name
	project  *project
	projects []*project // all that use it
	about    []string   // lines of comment above it

	dbtType  string
	provider string
	from     bool   // the block is read from profiles.yml
	user     string // whom the output names, "" for none or a variable
	block    []field
	exchange []field
	lifetime string
	rules    []rule
	uses     []use
	fixes    []string        // what is wrong with the block, as the action would say it
	logins   map[string]bool // variables of the environment that only the profile's login reads
}

// A use is a call of dbt that a target is for.
type use struct {
	workflow *workflow
	job      *job
	run      run
}

// A rule is one of a target's `allow`.
type rule struct {
	environment string
	ref         string // "" for the default branch
	event       string // "" for those that need no listing
	guess       string // where the environment is from, "" where the workflow says it
	release     bool   // the ref is a release's tag
	hosted      bool   // its jobs run on GitHub's own runners only
}

// productive are names of outputs that no pull request should reach.
var productive = lazy.MustCompile(`(?i)^(?:.*[-_])?(?:prod|production|prd|live|main|release)(?:[-_].*)?$`)

// targetName is what a policy takes as a name.
var targetName = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

var notInName = lazy.MustCompile(`[^A-Za-z0-9._-]+`)

// chooser makes one target of all that use the same output.
type chooser struct {
	req     Request
	repo    *repository
	targets []*target

	environments map[*job]string // that were guessed
}

// chooseTargets returns one target for each output that a workflow uses.
func chooseTargets(req Request, repo *repository, projects []*project, workflows []*workflow) ([]*target, error) {
	if err := repo.readProfiles(projects, workflows); err != nil {
		return nil, err
	}
	c := &chooser{req: req, repo: repo, environments: map[*job]string{}}
	for _, w := range workflows {
		for _, j := range w.jobs {
			for _, r := range j.runs {
				c.use(projectOf(projects, r.call), &use{w, j, r})
			}
		}
	}
	for _, p := range projects {
		used := slices.ContainsFunc(c.targets, func(t *target) bool { return slices.Contains(t.projects, p) })
		if !used && (len(c.targets) == 0 || len(projects) == 1 || p.source != nil && !isNested(p, projects)) {
			c.use(p, nil)
		}
	}
	for _, t := range c.targets {
		if err := c.complete(t); err != nil {
			return nil, err
		}
	}
	c.overlaps()
	return c.targets, nil
}

// overlaps tells of targets that the same jobs may have.
func (c *chooser) overlaps() {
	for i, t := range c.targets {
		for _, o := range c.targets[:i] {
			if slices.ContainsFunc(t.rules, func(r rule) bool { return r.overlaps(o.rules) }) {
				t.about = append(t.about, fmt.Sprintf("guess: the jobs of %q may have this one too: "+
					"for a wall between them, give them environments of their own", o.name))
				break
			}
		}
	}
}

// overlaps reports whether a token may match the rule and one of others.
func (r rule) overlaps(others []rule) bool {
	return slices.ContainsFunc(others, func(o rule) bool {
		anywhere := r.environment == "" || o.environment == ""
		return (anywhere || r.environment == o.environment) && r.ref == o.ref && r.event == o.event
	})
}

// isNested reports whether a project is inside another one: its package, or
// its integration tests.
func isNested(p *project, projects []*project) bool {
	return slices.ContainsFunc(projects, func(o *project) bool {
		return o != p && (o.dir == "." || strings.HasPrefix(p.dir, o.dir+"/"))
	})
}

// use adds what one call of dbt needs; none is for a project that no workflow runs.
func (c *chooser) use(p *project, u *use) {
	outputs, own := []string(nil), ""
	if p.source != nil {
		outputs, own = p.source.Targets(p.profile)
	}
	var wanted []string
	about := ""
	switch {
	case u != nil && u.run.target != "" && known(u.run.target):
		wanted = []string{u.run.target}
	case u != nil && u.run.target != "":
		wanted = outputs
		about = fmt.Sprintf("guess: %s chooses the output by %s", u.workflow.path, u.run.target)
	case u != nil:
		wanted, about = c.defaultOutput(p, own, u)
	default:
		wanted = preferred(outputs, own)
		about = "guess: no workflow runs dbt"
	}
	if len(wanted) == 0 {
		wanted = []string{"prod"}
		about = cmpOr(about, "guess: no profiles.yml and no workflow names an output")
	}
	for _, output := range wanted {
		t := c.target(p, output)
		if about != "" && !slices.Contains(t.about, about) {
			t.about = append(t.about, about)
		}
		if !slices.Contains(t.projects, p) {
			t.projects = append(t.projects, p)
		}
		if u != nil {
			t.uses = append(t.uses, *u)
		}
	}
}

// defaultOutput is what dbt takes without --target: the profile's own `target`.
func (c *chooser) defaultOutput(p *project, own string, u *use) (wanted []string, about string) {
	if own == "" && p.source != nil {
		return []string{"default"}, ""
	}
	if !policy.IsJinja(own) {
		return slices.DeleteFunc([]string{own}, func(s string) bool { return s == "" }), ""
	}
	v := resolve(own, u)
	if v.value != "" && known(v.value) {
		return []string{v.value}, "guess: the profile's target is " + own
	}
	outputs, _ := p.source.Targets(p.profile)
	return outputs, "guess: the profile's target is " + own
}

// preferred returns the output that a first workflow should use.
func preferred(outputs []string, own string) []string {
	for _, o := range outputs {
		if productive.MatchString(o) {
			return []string{o}
		}
	}
	if slices.Contains(outputs, own) {
		return []string{own}
	}
	return outputs[:min(1, len(outputs))]
}

// target returns the target of an output, which may be there.
func (c *chooser) target(p *project, output string) *target {
	for _, t := range c.targets {
		if t.output == output && t.project.path == p.path && t.project.profile == p.profile && t.project.from == p.from {
			return t
		}
	}
	t := &target{output: output, project: p, logins: map[string]bool{}}
	t.name = strings.Trim(notInName.ReplaceAllString(output, "-"), "-._")
	if taken := slices.Contains(names(c.targets), t.name); taken || !targetName.MatchString(t.name) {
		base := strings.Trim(notInName.ReplaceAllString(p.profile+"-"+output, "-"), "-._")
		t.name = base
		for i := 2; slices.Contains(names(c.targets), t.name) || !targetName.MatchString(t.name); i++ {
			t.name = fmt.Sprintf("%.50s-%d", cmpOr(base, "target"), i)
		}
	}
	c.targets = append(c.targets, t)
	return t
}

// complete finds out the rest of a target.
func (c *chooser) complete(t *target) error {
	block, err := c.outputOf(t)
	if err != nil {
		return err
	}
	if _, ok := c.req.Catalog.Adapters[t.dbtType]; !ok {
		return usage(
			"",
			"unknown type %q of output %q in %s, valid types are %q",
			t.dbtType,
			t.output,
			cmpOr(t.project.path, "profiles.yml"),
			adapter.Types(),
		)
	}
	t.provider = c.req.Provider
	if t.provider == "" {
		t.provider = guessProvider(t, block)
	}
	if t.provider == "login" {
		return usage("see https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/identities/people.md",
			"flag --provider: provider \"login\" is for people at a terminal, and this proposes a target for a job")
	}
	if err := adapter.Check(t.dbtType, t.provider); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("flag --provider: %w", err), "")
	}
	c.readBlock(t, block)
	t.exchange = exchangeOf(t, block)
	c.allow(t)
	t.checkPlaces(block)
	return nil
}

// outputOf returns the output in profiles.yml, nil where there is none, and
// sets the type.
func (c *chooser) outputOf(t *target) (*yaml.Node, error) {
	p := t.project
	if p.source == nil {
		return nil, c.withoutOutput(t)
	}
	outputs, own := p.source.Targets(p.profile)
	if len(outputs) == 0 {
		return nil, usage("", "read profiles %q: it has no profile %q, which %s names; it has %q", p.path, p.profile,
			path.Join(p.dir, "dbt_project.yml"), p.source.Profiles())
	}
	name := t.output
	if !slices.Contains(outputs, name) {
		name = preferred(outputs, own)[0]
		t.about = append(t.about,
			fmt.Sprintf("guess: %s has no output %q: this is a copy of %q", p.path, t.output, name))
	}
	block, dbtType, err := p.source.Output(p.profile, name)
	if err != nil {
		return c.typedOutput(t, name, err)
	}
	if c.req.Type != "" && c.req.Type != dbtType {
		return nil, usage("", "flag --type: got %q, output %q of profile %q in %s has type %q",
			c.req.Type, name, p.profile, p.path, dbtType)
	}
	t.dbtType = dbtType
	t.from = name == t.output && p.from != ""
	return block, nil
}

// withoutOutput sets the type of a target that no profiles.yml has.
func (c *chooser) withoutOutput(t *target) error {
	t.dbtType = cmpOr(c.req.Type, t.project.dbtType)
	switch {
	case t.dbtType == "":
		return usage("name the warehouse: oidc-dbt init --type snowflake, or another of "+strings.Join(adapter.Types(), ", "),
			"project %q has no profiles.yml: it is neither in the project, nor in the repository's root, nor in ~/.dbt",
			t.project.dir)
	case c.req.Type == "":
		t.about = append(t.about,
			fmt.Sprintf("guess: there is no profiles.yml; dbt-%s is in %s", t.dbtType, t.project.typedBy))
	default:
		t.about = append(t.about, "there is no profiles.yml: every key is to be filled in")
	}
	return nil
}

// typedOutput returns an output whose type only a variable says, by the type
// that the user gave; err is why the output has none.
func (c *chooser) typedOutput(t *target, output string, err error) (*yaml.Node, error) {
	block, dbtType, terr := withType(t.project, output, cmpOr(c.req.Type, "snowflake"))
	switch {
	case terr != nil:
		return nil, err
	case c.req.Type == "":
		return nil, fault.New(fault.Usage, err, "name the type: oidc-dbt init --type snowflake, say")
	}
	t.dbtType = dbtType
	return block, nil
}

// withType returns an output whose type only a variable says.
func withType(p *project, output, dbtType string) (*yaml.Node, string, error) {
	given := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: "type"}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: dbtType}}}
	source, err := p.source.With([]string{p.profile}, output, given)
	if err != nil {
		return nil, "", err
	}
	return source.Output(p.profile, output)
}

// checkPlaces keeps what the action would say of the block. It is told of the
// placeholders elsewhere.
func (t *target) checkPlaces(block *yaml.Node) {
	if block == nil || t.from {
		return
	}
	whole := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	var text strings.Builder
	write(&text, 0, t.block)
	var doc yaml.Node
	if yaml.Load([]byte(text.String()), &doc) != nil || len(doc.Content) == 0 {
		return
	}
	whole.Content = doc.Content[0].Content
	audience := ""
	if t.provider == "oidc" {
		audience = valueOf(t.exchange, "audience")
	}
	for _, err := range fault.Each(adapter.CheckPlaces(t.dbtType, t.provider, audience, whole)) {
		t.fixes = append(t.fixes, strings.TrimPrefix(err.Error(), fmt.Sprintf("dbt output of type %q: ", t.dbtType)))
	}
}

func valueOf(fields []field, key string) string {
	for _, f := range fields {
		if f.key == key {
			return f.value
		}
	}
	return ""
}

// allow makes the rules from what starts the jobs that use the target.
func (c *chooser) allow(t *target) {
	add := func(r rule) {
		for i, o := range t.rules {
			if o.environment == r.environment && o.ref == r.ref && o.event == r.event {
				t.rules[i].hosted = o.hosted && r.hosted
				return
			}
		}
		t.rules = append(t.rules, r)
	}
	refused := ""
	for _, u := range t.uses {
		pushes, requests := u.starts()
		if pushes {
			environment, guess := c.environment(t, u)
			if ref := u.workflow.pushed(c.repo.branch); ref != "" || !u.workflow.onlyReleases() {
				add(rule{environment: environment, guess: guess, ref: ref, hosted: u.run.hosted})
			}
			if u.workflow.starts("release") {
				add(rule{environment: environment, guess: guess, ref: releaseRef, release: true, hosted: u.run.hosted})
			}
		}
		switch named := u.run.environment != "" && known(u.run.environment); {
		case !requests:
		case productive.MatchString(t.output):
			refused = u.workflow.path
		case named:
			add(rule{environment: u.run.environment, ref: pullRequestRef, event: "pull_request", hosted: u.run.hosted})
		default:
			add(rule{ref: pullRequestRef, event: "pull_request", hosted: u.run.hosted})
		}
	}
	if refused != "" {
		t.about = append(
			t.about,
			fmt.Sprintf("%s also runs it on pull requests, whose authors choose the code: they are not admitted; "+
				"give them an output of their own", refused),
		)
	}
	if len(t.rules) == 0 {
		environment, guess := c.environment(t, use{})
		add(rule{environment: environment, guess: guess, hosted: true}) // as the proposed workflow
	}
	if !slices.ContainsFunc(t.rules, func(r rule) bool { return r.event == "" }) {
		t.about = append(t.about, "schema: pr_${pull_number} gives each pull request a schema of its own")
	}
	for i := range t.rules {
		t.rules[i].hosted = t.rules[i].hosted && c.repo.hasHostedRunners()
	}
	slices.SortStableFunc(t.rules, func(a, b rule) int { return strings.Compare(a.event, b.event) })
}

const (
	pullRequestRef = "refs/pull/*/merge"
	releaseRef     = "refs/tags/v*"
)

// pushed returns the ref whose pushes start the workflow, where that is not the
// default branch's; "" for that.
func (w *workflow) pushed(branch string) string {
	if w.branch == "" || slices.Contains(w.branches, branch) {
		return ""
	}
	return "refs/heads/" + w.branch
}

// onlyReleases reports whether nothing but a release starts the workflow.
func (w *workflow) onlyReleases() bool { return len(w.events) == 1 && w.events[0] == "release" }

// environment returns the environment of a use, and why it is a guess.
func (c *chooser) environment(t *target, u use) (name, guess string) {
	own := u.run.environment
	switch {
	case own != "" && known(own) && environmentName.MatchString(own):
		return own, ""
	case own != "" && inCommand(own) == inCommand(u.run.target) && environmentName.MatchString(t.output):
		return t.output, "" // the same choice as the target's
	case c.req.Environment != "":
		return c.req.Environment, ""
	case own != "":
		guess = "guess: the workflow has " + own
	case u.job != nil:
		guess = "guess: the job has no environment"
	default:
		guess = "guess: create it, with protection rules"
	}
	if named := c.environments[u.job]; u.job != nil && own == "" && named != "" {
		return named, guess // a job has one
	}
	if name = "production"; !productive.MatchString(t.output) {
		name = t.name
	}
	// An environment of its own keeps one project's jobs from another's target.
	for _, o := range c.targets {
		if o != t && o.project != t.project &&
			slices.ContainsFunc(o.rules, func(r rule) bool { return r.environment == name }) {
			name = t.name
		}
	}
	if u.job != nil && own == "" {
		c.environments[u.job] = name
	}
	return name, guess
}

var (
	onlyRequests = lazy.MustCompile(`event_name\s*==\s*'pull_request'`)
	neverRequest = lazy.MustCompile(
		`event_name\s*!=\s*'pull_request'|event_name\s*==\s*'(?:push|schedule|workflow_dispatch|release)'|` +
			`github\.ref(?:_name)?\s*==`,
	)
)

// starts reports which kinds of events start the job: pushes and the like,
// which need no listing, and pull requests.
func (u use) starts() (pushes, requests bool) {
	for _, e := range u.workflow.events {
		switch e {
		case "pull_request":
			requests = true
		case "pull_request_target", "issue_comment", "workflow_run":
		default:
			pushes = true
		}
	}
	condition := u.job.condition + " " + text(get(u.run.step.node, "if"))
	if neverRequest.MatchString(condition) {
		requests = false
	} else if onlyRequests.MatchString(condition) {
		pushes = false
	}
	if !pushes && !requests {
		pushes = true // events that need a decision of the user's
	}
	return pushes, requests
}
