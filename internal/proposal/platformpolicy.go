package proposal

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// match gives targets the names that they have in the platform's policy: a
// target of the same name, or the only one for the same environment.
func (p *platform) match(repo *repository, targets []*target) {
	for _, t := range targets {
		name := p.targetFor(t)
		if name != "" {
			t.user = "" // the policy's own
			own := get(p.policy, "targets", name, "exchange")
			if exchange := cmpNode(own, get(p.policy, "defaults", "exchange")); exchange != nil {
				t.provider = oneLine(exchange.Content[0].Value)
			}
		}
		if name == "" && get(p.policy, "targets", t.name) != nil { // another warehouse's
			name = path.Base(repo.name) + "-" + t.name
		}
		if name != "" && !slices.ContainsFunc(targets, func(o *target) bool { return o != t && o.name == name }) {
			t.name = name
		}
	}
}

// cmpNode returns the first of two mappings that has a key.
func cmpNode(n, otherwise *yaml.Node) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		n = otherwise
	}
	if n == nil || n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return nil
	}
	return n
}

// targetFor returns the name of the policy's target that a proposed one is, "" for none.
func (p *platform) targetFor(t *target) string {
	all := get(p.policy, "targets")
	if all == nil {
		return ""
	}
	var found []string
	for i := 0; i+1 < len(all.Content); i += 2 {
		name, node := all.Content[i].Value, all.Content[i+1]
		dbtType := cmpOr(text(get(node, "dbt", "type")), text(get(p.policy, "defaults", "dbt", "type")))
		if dbtType != t.dbtType || !targetName.MatchString(name) {
			continue
		}
		if name == t.name {
			return name
		}
		if slices.ContainsFunc(nodes(get(node, "allow")), func(r *yaml.Node) bool {
			return t.rules[0].environment != "" && slices.Contains(literals(get(r, "environment")), t.rules[0].environment)
		}) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// literals returns the values of a matcher: a text, or a list of texts.
func literals(n *yaml.Node) (list []string) {
	if n != nil && n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	for _, e := range nodes(n) {
		list = append(list, e.Value)
	}
	return list
}

// renamed tells of outputs that dbt has under another name with the platform's policy.
func (p *platform) renamed(targets []*target) (notes []string) {
	for _, t := range targets {
		there := get(p.policy, "targets", t.name)
		name := oneLine(cmpOr(text(get(there, "dbt", "output")), text(get(p.policy, "defaults", "dbt", "output")), t.name))
		if there != nil && name != t.output {
			notes = append(notes, fmt.Sprintf("dbt's `target.name` becomes %s, it was %s: change what asks for it in models and "+
				"macros, or add `output: %s` to the policy's target", name, t.output, t.output))
		}
	}
	return notes
}

// entry returns what the platform's policy needs for the repository, and what it is added to.
func (p *platform) entry(repo *repository, targets []*target) (text, where string) {
	workflow := field{key: "job_workflow_ref", value: scalar(p.called + "@" + p.ref)}
	if !p.ruled {
		workflow.comment = "guess: a tag that a ruleset protects, or a commit"
	}
	var out strings.Builder
	if p.policy == nil {
		for _, t := range targets {
			t.about = append(t.about, t.chosenByCaller()...)
			write(&out, 2, []field{{key: t.name, fields: t.fields()}})
			t.writeRules(&out, repo, t.rules, workflow)
		}
		return out.String(), "the platform's policy, under `targets:`"
	}
	if maps := p.maps(repo, targets); len(maps) > 0 {
		write(&out, 0, []field{{key: "maps", fields: maps}})
	}
	var lacking strings.Builder
	for _, t := range targets {
		if there := get(p.policy, "targets", t.name); there != nil {
			p.extend(&lacking, repo, t, workflow)
			continue
		}
		t.about = append(t.about, t.chosenByCaller()...)
		write(&lacking, 2, []field{{key: t.name, fields: p.beyondDefaults(t)}})
		t.writeRules(&lacking, repo, t.rules, workflow)
	}
	if lacking.Len() > 0 {
		out.WriteString("targets:\n" + lacking.String())
	}
	return out.String(), p.path + " of " + p.name + ": what to add"
}

// workflowRef returns the called workflow's ref that a rule of the policy names, "" for none.
func (p *platform) workflowRef(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	ref, ok := strings.CutPrefix(n.Value, p.called+"@")
	if ok && n.Kind == yaml.ScalarNode && branchName.MatchString(ref) {
		return ref
	}
	for _, c := range n.Content {
		if ref := p.workflowRef(c); ref != "" {
			return ref
		}
	}
	return ""
}

// chosenByCaller tells of a block that the calling repository can change.
func (t *target) chosenByCaller() []string {
	if !t.from {
		return nil
	}
	return []string{"guess: the calling repository's own " + t.project.from + " chooses account, user and role: " +
		"write them here if the platform is to choose"}
}

// extend writes what a target of the policy for many repositories needs for one more.
func (p *platform) extend(out *strings.Builder, repo *repository, t *target, workflow field) {
	var own []rule
	var lines []string
	for _, r := range t.rules {
		n, node := admitting(nodes(get(p.policy, "targets", t.name, "allow")), r)
		ids := get(node, "repository_id")
		has := func(what string) {
			p.has = append(p.has, fmt.Sprintf("%s: rule %d (line %d) %s", t.name, n, node.Line, what))
		}
		switch {
		case node == nil || ids == nil && get(node, "repository") != nil:
			own = append(own, r)
		case ids == nil:
			has("names no repository")
		case repo.id != "" && slices.Contains(literals(ids), repo.id):
			has("has " + repo.id + " already")
		default:
			line := fmt.Sprintf("      - repository_id: [%q] # add it to those of rule %d (line %d)\n",
				cmpOr(repo.id, noNumber), n, ids.Line)
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(own)+len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "  %s:\n", scalar(t.name))
	t.writeRules(out, repo, own, workflow)
	out.WriteString(strings.Join(lines, ""))
}

// admitting returns the rule of the policy, and its number, that is for the same
// environment and event as a proposed one.
func admitting(rules []*yaml.Node, r rule) (int, *yaml.Node) {
	for i, node := range rules {
		environments, events := literals(get(node, "environment")), literals(get(node, "event_name"))
		sameEnvironment := len(environments) == 0 || slices.Contains(environments, r.environment)
		if sameEnvironment && (r.event == "" && len(events) == 0 || slices.Contains(events, r.event)) {
			return i + 1, node
		}
	}
	return 0, nil
}

// maps returns the values that the policy's maps lack for the repository.
func (p *platform) maps(repo *repository, targets []*target) (fields []field) {
	all := get(p.policy, "maps")
	for i := 0; all != nil && i+1 < len(all.Content); i += 2 {
		name, byClaim := all.Content[i].Value, all.Content[i+1]
		if byClaim.Kind != yaml.MappingNode || len(byClaim.Content) != 2 {
			continue
		}
		claim, table := byClaim.Content[0].Value, byClaim.Content[1]
		var missing []field
		for _, t := range targets {
			if !p.uses(t, "${"+name+"}") {
				continue
			}
			for _, value := range t.valuesOf(claim, repo) {
				if get(table, value) != nil || slices.ContainsFunc(missing, func(f field) bool { return f.key == value }) {
					continue
				}
				missing = append(missing, field{key: value, value: "FILL_IN",
					comment: "fill in: a value such as " + strings.Join(someOf(table), ", ")})
			}
		}
		if len(missing) > 0 {
			fields = append(fields, field{key: name, fields: []field{{key: claim, fields: missing}}})
		}
	}
	return fields
}

// uses reports whether what a target comes to in the policy contains a map's value.
func (p *platform) uses(t *target, value string) bool {
	for _, n := range []*yaml.Node{get(p.policy, "targets", t.name), get(p.policy, "defaults")} {
		if n != nil && contains(n, value) {
			return true
		}
	}
	return false
}

func contains(n *yaml.Node, part string) bool {
	return n.Kind == yaml.ScalarNode && strings.Contains(n.Value, part) ||
		slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return contains(c, part) })
}

// valuesOf returns the values of a claim that the target's rules match.
func (t *target) valuesOf(claim string, repo *repository) (values []string) {
	owner, _, _ := strings.Cut(repo.name, "/")
	switch claim {
	case "repository":
		return []string{repo.name}
	case "repository_owner":
		return []string{owner}
	case "repository_id":
		return []string{cmpOr(repo.id, noNumber)}
	case "environment":
		for _, r := range t.rules {
			if r.environment != "" && !slices.Contains(values, r.environment) {
				values = append(values, r.environment)
			}
		}
	}
	return values
}

// someOf returns the first values of a table, each once.
func someOf(table *yaml.Node) (values []string) {
	for i := 1; i < len(table.Content) && len(values) < 4; i += 2 {
		if v := table.Content[i].Value; !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// beyondDefaults returns the fields of a new target without those that the
// policy's defaults give. A default that depends on a claim stays the policy's.
func (p *platform) beyondDefaults(t *target) (fields []field) {
	for _, f := range t.fields() {
		defaults := get(p.policy, "defaults", f.key)
		switch {
		case f.key == "dbt" && (t.from || text(get(defaults, "type")) != t.dbtType),
			f.key == "exchange" && get(defaults, t.provider) == nil:
		case f.key == "exchange":
			own := beyond(f.fields[0].fields, get(defaults, t.provider))
			if len(own) == 0 {
				continue
			}
			f.fields = []field{{key: t.provider, fields: own}}
		case f.key == "dbt":
			if f.fields = beyond(f.fields, defaults); len(f.fields) == 0 {
				continue
			}
		case defaults != nil && defaults.Value == f.value && f.key != "":
			continue
		}
		fields = append(fields, f)
	}
	return fields
}

func beyond(fields []field, defaults *yaml.Node) (own []field) {
	for _, f := range fields {
		n := get(defaults, f.key)
		if f.key == "" || n == nil {
			own = append(own, f)
			continue
		}
		switch value, _ := flow(n, true); {
		case value == f.value:
		case contains(n, "${"):
			own = append(own, field{
				comment: fmt.Sprintf("%s is %s in this repository, the defaults say %s", f.key, f.value, n.Value)})
		default:
			own = append(own, f)
		}
	}
	return own
}
