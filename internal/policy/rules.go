package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A rule admits a token when all of its matchers do.
type rule struct {
	index, line int
	anyEvent    bool // a rule without event_name is for every event, as those of `deny` are
	identity    *Identity
	matchers    []matcher
	guard       *Guard // that holds for whom the rule admits; nil for none
	faultyGuard bool   // guard has an error, of the rule's or of the target's
}

// claimText is what a claim may be called: GitHub's are lower case with _,
// CircleCI's have a host in front. What is in an object has the names on the
// way to it: kubernetes.io>serviceaccount>uid.
var claimText = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_./:-]*(?:>[A-Za-z0-9_./:-]+)*$`).
	Where(func(s string) bool { return len(s) <= maxClaimName })

// maxClaimName is twice the longest name that an organisation can give a
// property of its repositories. Counted repetitions in an expression are slow
// to compile.
const maxClaimName = 128

// timeClaims are numbers in every token: a matcher could never match them.
var timeClaims = []string{"exp", "iat", "nbf"}

// allow reads a target's rules.
func (d *document) allow(p *Policy, t *Target, n *yaml.Node) {
	d.allowed = n
	if n.Kind != yaml.SequenceNode {
		d.Report(n, "allow is %s, want a list of rules", strictyaml.KindOf(n))
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "allow is an empty list: add at least one rule to target %q", t.name)
	}
	unwise := unwiseRules{unknown: map[unknownClaim]ruleList{}}
	t.rules = make([]rule, 0, len(n.Content))
	for i, e := range n.Content {
		r, ok := d.rule(p, i, e)
		if r.identity == nil {
			continue
		}
		d.ruleGuard(t, &r, valueOf(e, "guard"))
		t.rules = append(t.rules, r) // one with faults too: it may still name what ${claim} needs
		if !slices.ContainsFunc(t.identities, func(id Identity) bool { return id.Name == r.identity.Name }) {
			t.identities = append(t.identities, *r.identity)
		}
		if ok {
			unwise.add(r)
		}
	}
	if t.name == p.audit.Bucket.Target {
		unwise.open = nil // it lets the records of denied requests in, too, and can only write them
	}
	for _, text := range unwise.warnings() {
		p.warnings = append(p.warnings, fmt.Sprintf("target %q: %s", t.name, text))
	}
}

// unwiseRules are the rules of a target that are allowed but unwise.
type unwiseRules struct {
	byName   ruleList
	identity *Identity // of the last rule that binds by name
	open     ruleList
	chosen   []string // claims of open rules that restrict nothing
	unknown  map[unknownClaim]ruleList
}

// An unknownClaim is a claim that no token of the kind has.
type unknownClaim struct{ kind, claim string }

func (u *unwiseRules) add(r rule) {
	if r.bindsNameOnly() {
		u.byName, u.identity = append(u.byName, r), r.identity
	}
	if free, yes := r.open(); yes {
		u.open, u.chosen = append(u.open, r), append(u.chosen, free...)
	}
	u.addUnknown(r)
}

func (u *unwiseRules) addUnknown(r rule) {
	for _, claim := range r.unknown() {
		key := unknownClaim{r.identity.Kind, claim}
		u.unknown[key] = append(u.unknown[key], r)
	}
}

// warnings returns one line for each thing that is unwise, with its rules.
func (u *unwiseRules) warnings() (list []string) {
	if len(u.byName) > 0 {
		list = append(list, fmt.Sprintf("%s %s by name only: anyone who takes the name once it is given up gets in: add %s",
			u.byName, u.byName.verb("binds", "bind"), strings.Join(u.identity.stable(), " or ")))
	}
	if len(u.open) > 0 {
		slices.Sort(u.chosen)
		note := ""
		if chosen := slices.Compact(u.chosen); len(chosen) == 1 {
			note = fmt.Sprintf(" (%s restricts nothing: the author of a workflow chooses it)", chosen[0])
		} else if len(chosen) > 1 {
			note = fmt.Sprintf(" (%s restrict nothing: the author of a workflow chooses it)", strings.Join(chosen, ", "))
		}
		list = append(list, fmt.Sprintf("%s %s only the repository: anyone who may push a branch to it gets in%s: "+
			"add a literal environment, a literal ref or job_workflow_ref", u.open, u.open.verb("restricts", "restrict"), note))
	}
	byName := func(a, b unknownClaim) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.claim, b.claim)) }
	for _, key := range slices.SortedFunc(maps.Keys(u.unknown), byName) {
		rules := u.unknown[key]
		list = append(list, fmt.Sprintf("%s %s %q, a claim that no token of kind %q has, and never %s%s",
			rules, rules.verb("names", "name"), key.claim, key.kind, rules.verb("matches", "match"),
			meant(key.claim, kinds[key.kind].claims)))
	}
	return list
}

// A ruleList is rules of a target as a warning names them.
type ruleList []rule

func (l ruleList) String() string {
	names := make([]string, min(len(l), maxRules))
	for i := range names {
		names[i] = fmt.Sprintf("%d (line %d)", l[i].index+1, l[i].line)
	}
	which := l.verb("rule ", "rules ") + strings.Join(names, ", ")
	if more := len(l) - maxRules; more > 0 {
		which += fmt.Sprintf(" and %d more", more)
	}
	return which
}

// verb returns what goes with one rule, or with several.
func (l ruleList) verb(one, several string) string {
	if len(l) == 1 {
		return one
	}
	return several
}

// rule reads one rule that allows. Its identity is nil where it is none at all;
// ok is false when it has a fault.
func (d *document) rule(p *Policy, index int, n *yaml.Node) (r rule, ok bool) {
	if r, ok = d.matchers(p, index, n); !ok {
		return r, false
	}
	if problem := r.unbound(); problem != "" {
		for _, m := range r.matchers {
			switch near := r.identity.probably(m.claim); {
			case near == "":
			case kinds[r.identity.Kind].claims == nil:
				problem += fmt.Sprintf("; by %q, did you mean %q?", m.claim, near)
			default:
				problem += fmt.Sprintf("; %q is not a claim: did you mean %q?", m.claim, near)
			}
		}
		d.Report(n, "%s", problem)
		return r, false
	}
	return r, true
}

// matchers reads what all rules have in common: whose tokens they are for, and
// their matchers. Its results are those of rule.
func (d *document) matchers(p *Policy, index int, n *yaml.Node) (r rule, ok bool) {
	before := d.Count()
	m, ok := d.Mapping(n, n, "a rule", nil)
	if !ok {
		return r, false
	}
	if len(n.Content) == 0 {
		d.Report(n, "a rule is empty and would match every token")
		return r, false
	}
	at, name := n, "github"
	if v := m.Get("identity"); v != nil {
		at, name = v, d.Text(v, "identity")
	}
	for _, id := range p.identities {
		if id.Name == name {
			r.identity = id
		}
	}
	if r.identity == nil {
		if name != "" && len(p.identities) > 0 {
			names := make([]string, len(p.identities))
			for i, id := range p.identities {
				names[i] = id.Name
			}
			near := otherNames.DidYouMean(name, names)
			if _, kind := kinds[name]; kind {
				near = "" // gitlab is not github
			}
			d.Report(at, "unknown identity %q, the policy has %q%s", name, names, near)
		}
		r.identity = &Identity{} // so that its matchers are read: all faults at once
	}
	r.index, r.line = index, n.Line
	r.matchers = make([]matcher, 0, len(n.Content)/2)
	for key, value := range m.Pairs {
		if key.Value != "identity" && key.Value != "guard" {
			r.matchers = append(r.matchers, d.matcher(r.identity.Kind, key, value))
		}
	}
	return r, d.Count() == before && !d.Merged(n) && !d.Faulty(n)
}

func (d *document) matcher(kind string, key, value *yaml.Node) matcher {
	m := matcher{claim: key.Value}
	switch {
	case d.names[m.claim]:
	case !claimText.MatchString(m.claim):
		d.Report(key, "claim name %q is malformed", m.claim)
	case slices.Contains(timeClaims, m.claim):
		d.Report(key, "%s is a time, which is always checked: remove it", m.claim)
	default:
		d.names[m.claim] = true
	}
	nodes := d.Texts(value, m.claim)
	m.patterns = make([]pattern, 0, len(nodes))
	for _, e := range nodes {
		pattern, err := compilePattern(kind, m.claim, e.Value)
		if err != nil {
			d.Report(e, "%s %q %v", m.claim, e.Value, err)
			continue
		}
		if why := impossible(kind, m.claim, pattern); why != "" {
			d.Report(e, "%s %q %s", m.claim, e.Value, why)
			continue
		}
		m.patterns = append(m.patterns, pattern)
	}
	return m
}

// unbound says why a rule matches too broadly, "" where it does not.
func (r rule) unbound() string {
	k, ok := kinds[r.identity.Kind]
	if !ok {
		return "" // the identity has the fault
	}
	k.bind = r.identity.bindings()
	bound := false
	for _, b := range k.bind {
		extent := wholly
		for _, claim := range b.claims {
			extent = min(extent, r.binds(claim))
		}
		if extent == wholly && !b.owner {
			return ""
		}
		bound = bound || extent > not
	}
	if !bound {
		return "the rule matches too broadly: add a literal " + k.wanted(true)
	}
	if len(k.workflow) == 0 || slices.ContainsFunc(r.matchers,
		func(m matcher) bool { return slices.Contains(k.workflow, m.claim) && m.pinsWorkflow() }) {
		return ""
	}
	return fmt.Sprintf("the rule binds only an owner, and any member can create a repository and an environment in it: "+
		"add %s of a literal repository, or a literal %s",
		strings.Join(k.workflow, " or "), k.wanted(false))
}

// wanted lists what a rule may bind, with or without what names only an owner.
func (k kind) wanted(owners bool) string {
	var list []string
	for _, b := range k.bind {
		if owners || !b.owner {
			list = append(list, strings.Join(b.claims, " with "))
		}
	}
	return alternatives(list)
}

// alternatives lists what there is a choice of, "" for nothing.
func alternatives(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

// extent is how far a rule's matchers hold a claim.
type extent int

const (
	not    extent = iota
	ofOne         // to one owner
	wholly        // to literals
)

// binds returns how far the rule holds a claim, in every alternative.
func (r rule) binds(claim string) extent {
	held := not
	for _, m := range r.matchers {
		if m.claim == claim && len(m.patterns) > 0 {
			held = wholly
			for _, p := range m.patterns {
				held = min(held, p.binds(r.identity.Kind, claim))
			}
		}
	}
	return held
}

// binds returns how far a pattern holds a claim.
func (p pattern) binds(kind, claim string) extent {
	isPath := LikeGitHub(kind) && claim == "repository" ||
		kind == "gitlab" && (claim == "project_path" || claim == "namespace_path")
	owner, repository, hasRepository := strings.Cut(p.text, "/")
	switch {
	case isPath && claim != "namespace_path" && (!hasRepository || owner == "" || repository == ""):
		return not // analytics, acme/: no repository is called so
	case p.literal:
		return wholly
	case isPath && hasRepository && owner != "" && !strings.Contains(owner, "*"):
		return ofOne
	}
	return not
}

// pinsWorkflow reports whether the workflow's repository is literal in every
// alternative: a wildcard there would let a new repository bring the workflow.
func (m matcher) pinsWorkflow() bool {
	for _, p := range m.patterns {
		path, _, _ := strings.Cut(p.text, "@")
		parts := strings.SplitN(path, "/", 3) // OWNER/REPO/PATH
		if project, _, ok := strings.Cut(path, "//"); ok {
			parts = []string{project, "", ""} // GitLab's HOST/GROUP/PROJECT//PATH
		}
		if len(parts) < 3 || strings.Contains(parts[0]+parts[1], "*") {
			return false
		}
	}
	return true
}

// bindsNameOnly reports whether the rule binds only names where it could bind an id.
func (r rule) bindsNameOnly() bool {
	ids := r.identity.stable()
	for _, id := range ids {
		if r.binds(id) == wholly {
			return false
		}
	}
	for _, m := range r.matchers {
		if m.claim == "sub" && !slices.ContainsFunc(m.patterns, func(p pattern) bool { return p.subject == nil || !p.subject.pinsIDs() }) {
			return false
		}
	}
	return len(ids) > 0
}

// unknown returns the rule's claims that no token of its kind has.
func (r rule) unknown() (claims []string) {
	for _, m := range r.matchers {
		if !kinds[r.identity.Kind].has(m.claim) {
			claims = append(claims, m.claim)
		}
	}
	return claims
}

// aboutRepository are GitHub's claims that say which repository it is, and
// nothing of who runs what in it.
var aboutRepository = []string{
	"repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "enterprise",
	"enterprise_id", "aud", "iss",
}

// open reports whether a rule restricts nothing but the repository: an author who may
// push a branch to it can then write a workflow that matches. free are the
// other claims that the rule names, all of that author's choosing.
func (r rule) open() (free []string, yes bool) {
	if r.identity.Kind != "github" {
		return nil, false
	}
	for _, m := range r.matchers {
		switch {
		case slices.Contains(aboutRepository, m.claim) || strings.HasPrefix(m.claim, "repo_property_"):
		case r.restricts(m):
			return nil, false
		default:
			free = append(free, m.claim)
		}
	}
	return free, true
}

// restricts reports whether each alternative of a matcher holds something that
// a workflow's author cannot choose: a ref may be protected, an environment
// with reviewers may be, a workflow of another repository is that one's.
func (r rule) restricts(m matcher) bool {
	held := func(p pattern) bool {
		switch m.claim {
		case "actor", "actor_id", "actor_kind", "base_ref", "check_run_id", "event_name", "head_ref", "jti", "ref_type",
			"run_attempt", "run_id", "run_number", "runner_environment", "sha", "workflow", "workflow_sha":
			return false // any name, trigger, commit or runner; an actor can be borrowed (re-runs, bots)
		case "environment", "environment_node_id":
			return p.literal // GitHub makes an environment, without reviewers, of any new name
		case "ref_protected":
			return p.text == "true"
		case "ref":
			return holdsRef(p.text)
		case "workflow_ref":
			_, ref, _ := strings.Cut(p.text, "@")
			return holdsRef(ref)
		case "job_workflow_ref":
			path, ref, _ := strings.Cut(p.text, "@")
			return holdsRef(ref) || !r.own(path)
		case "sub":
			if p.subject == nil {
				return true
			}
			if name, ok := strings.CutPrefix(p.subject.rest, "environment:"); ok {
				return !strings.Contains(name, "*")
			}
			return holdsRef(strings.TrimPrefix(p.subject.rest, "ref:"))
		}
		return true
	}
	return len(m.patterns) > 0 && !slices.ContainsFunc(m.patterns, func(p pattern) bool { return !held(p) })
}

// own reports whether a workflow's path is of a repository that the rule binds.
func (r rule) own(path string) bool {
	for _, m := range r.matchers {
		if m.claim != "repository" {
			continue
		}
		for _, p := range m.patterns {
			if parts := strings.SplitN(path, "/", 3); len(parts) < 3 || p.match(parts[0]+"/"+parts[1]) {
				return true
			}
		}
	}
	return false
}

// holdsRef reports whether a pattern of a ref names more than any branch or tag.
func holdsRef(text string) bool {
	for _, prefix := range []string{"refs/heads/", "refs/tags/", "refs/"} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text = rest
			break
		}
	}
	return strings.Trim(text, "*/") != ""
}

// A fill is a value with ${claim} in it.
type fill struct {
	node  *yaml.Node
	where string
	check func(string) error
}

// placeholder matches ${claim}, and what was meant as one.
var placeholder = lazy.MustCompile(`\$\{([^}]*)\}?`)

// maxFill bounds what a claim brings into a value: names of roles, schemas
// and users are shorter everywhere.
const maxFill = 128

// fillText is what a claim may bring into a value. No slash, no quote, no
// space: it lands in names of roles, schemas and accounts.
var fillText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// peopleText is fillText for people, whose names are mail addresses.
var peopleText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]*$`)

func fillable(kind, value string) bool {
	text := fillText
	if kind == "people" {
		text = peopleText
	}
	return len(value) <= maxFill && text.MatchString(value) && !strings.Contains(value, "..")
}

// checkFills checks that each ${claim} refers to a claim that every rule of
// the target matches by literals: only so was it checked.
func (d *document) checkFills(t *Target, fills []fill) {
	for _, f := range fills {
		d.checkFill(t, f)
	}
}

func (d *document) checkFill(t *Target, f fill) {
	claims := placeholder.FindAllStringSubmatch(f.node.Value, -1)
	for _, c := range claims {
		if !strings.HasSuffix(c[0], "}") || !claimText.MatchString(c[1]) {
			d.Report(f.node, "%s: %s is malformed, want ${claim}", f.where, strconv.Quote(strictyaml.Cut(c[0])))
			return
		}
	}
	for _, r := range t.rules {
		example := map[string]string{}
		for _, c := range claims {
			value, ok := d.checkName(t, f, r, c[1])
			if !ok {
				return
			}
			example[c[1]] = value
		}
		if f.check == nil || len(example) < len(claims) {
			continue
		}
		filled := placeholder.ReplaceAllStringFunc(f.node.Value, func(s string) string { return example[s[2:len(s)-1]] })
		if err := f.check(filled); err != nil {
			d.Report(f.node, "%s %q, as rule %d (line %d) fills it in: %v", f.where, filled, r.index+1, r.line, err)
			return
		}
	}
}

// checkName checks that ${name} is literal by a rule, and returns a value that
// it may have.
func (d *document) checkName(t *Target, f fill, r rule, name string) (example string, ok bool) {
	table := t.maps[name]
	if table != nil {
		if _, literal := r.literals(table.claim); literal && !d.unmapped(t, r, table) {
			return "", false
		}
	}
	values, ok := t.mayBe(r, name)
	if !ok {
		d.Report(f.node, "%s: %s", f.where, t.notLiteral(r, name, table))
		return "", false
	}
	for _, value := range values {
		if !fillable(r.identity.Kind, value) {
			d.Report(f.node, "%s: ${%s} may be %q by rule %d (line %d), want letters, digits, `.`, `_` and `-`, without `..`",
				f.where, name, value, r.index+1, r.line)
			return "", false
		}
		example = value
	}
	return example, true
}

// notLiteral says what ${name} lacks in a rule, and what may be used instead.
func (t *Target) notLiteral(r rule, name string, table *claimMap) string {
	if name == "pull_number" && r.identity.Kind == "github" {
		return fmt.Sprintf("${pull_number} is the number in a pull request's ref, and rule %d (line %d) is not for pull "+
			"requests only: it needs `event_name: pull_request` and `ref: \"refs/pull/*/merge\"`", r.index+1, r.line)
	}
	usable := t.usable()
	text := fmt.Sprintf("${%s} requires literal values of the claim in every rule, and rule %d (line %d) has none",
		name, r.index+1, r.line)
	switch {
	case table != nil:
		text = fmt.Sprintf("${%s} requires literal values of %s in every rule, and rule %d (line %d) has none",
			name, table.claim, r.index+1, r.line)
	case !kinds[r.identity.Kind].has(name):
		text = fmt.Sprintf("${%s}: no such claim%s", name, otherNames.DidYouMean(name, usable))
	}
	if len(usable) == 0 {
		return text + "; none may be used here: every rule of the target must match it by literals"
	}
	return fmt.Sprintf("%s; what may be used here: ${%s}", text, strings.Join(usable, "}, ${"))
}

// usable returns the claims and maps that may stand in a value: those that every
// rule of the target matches by literals.
func (t *Target) usable() (claims []string) {
	candidates := map[string]bool{"pull_number": true}
	for name := range t.maps {
		candidates[name] = true
	}
	for _, r := range t.rules {
		for _, m := range r.matchers {
			candidates[m.claim] = true
		}
	}
	for _, claim := range slices.Sorted(maps.Keys(candidates)) {
		if !slices.ContainsFunc(t.rules, func(r rule) bool {
			values, ok := t.mayBe(r, claim)
			return !ok || slices.ContainsFunc(values, func(v string) bool { return !fillable(r.identity.Kind, v) })
		}) {
			claims = append(claims, claim)
		}
	}
	return claims
}

// literals returns what a rule allows a claim to be, when that is literal. A
// rule for an event that it names, and only refs of pull requests, names
// pull_number.
func (r rule) literals(claim string) (values []string, ok bool) {
	for _, m := range r.matchers {
		if m.claim == claim {
			return m.literals()
		}
	}
	if claim != "pull_number" || r.identity.Kind != "github" || !r.namesEvent() {
		return nil, false // without an event the rule admits no pull request
	}
	for _, m := range r.matchers {
		if m.claim == "ref" && !slices.ContainsFunc(m.patterns, func(p pattern) bool { return !pullText.MatchString(p.text) }) {
			return []string{"1"}, true
		}
	}
	return nil, false
}

// pullText matches patterns that match nothing but refs of pull requests.
var pullText = lazy.MustCompile(`^refs/pull/(?:\*|[0-9]+)/merge$`)
