package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	sqlguard "github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A Guard is which statements may go on to the warehouse of a target.
type Guard struct {
	Statements sqlguard.Level
	Also       []statement.Class // admitted in addition, from the least to the worst
	Observe    bool              // what would be denied goes on, and is recorded as such
	StopAfter  int               // denials that end the run; 0 for never
	Text       bool              // records have the text of statements
	Limits     sqlguard.Limits
}

// String describes the guard in one line, as a policy writes it.
func (g Guard) String() string {
	text := "statements: " + string(g.Statements)
	if len(g.Also) > 0 {
		text += ", also: [" + strings.Join(namesOf(g.Also), ", ") + "]"
	}
	if l := limitsText(g.Limits); l != "" {
		text += ", limits: {" + l + "}"
	}
	if g.Observe {
		text += ", mode: observe"
	}
	if g.StopAfter > 0 {
		text += fmt.Sprintf(", stop_after: %d", g.StopAfter)
	}
	if g.Text {
		text += ", record: text"
	}
	return text
}

// Admits returns the classes that go on, from the least to the worst.
func (g Guard) Admits() (list []statement.Class) {
	for _, class := range sqlguard.Classes() {
		if slices.Contains(g.Statements.Classes(), class) || slices.Contains(g.Also, class) {
			list = append(list, class)
		}
	}
	return list
}

// lets reports whether g lets something pass that the other guard does not; a
// guard that is nil lets everything pass.
func (g *Guard) lets(other *Guard) bool {
	if g == nil || other == nil {
		return other != nil
	}
	return g.Observe && !other.Observe || loosened(g.Limits, other.Limits) != "" ||
		slices.ContainsFunc(g.Admits(), func(c statement.Class) bool { return !slices.Contains(other.Admits(), c) })
}

func namesOf[T ~string](list []T) []string {
	names := make([]string, len(list))
	for i, name := range list {
		names[i] = string(name)
	}
	return names
}

// Guarded reports whether a rule of the target has a guard.
func (t *Target) Guarded() bool {
	return slices.ContainsFunc(t.rules, func(r rule) bool { return r.guard != nil })
}

// Guardable reports whether a guard of the target's could be held; not where
// only profiles.yml has the type.
func (t *Target) Guardable() bool {
	return t.dbt.Type != "" && !t.direct && t.unguardable(t.dbt.Type) == ""
}

// AdmitsOnlyAgents reports whether the target refuses all but AI agents.
func (t *Target) AdmitsOnlyAgents() bool { return t.agents == "only" }

// Guard returns the guard of those whom the rule admits, nil for none.
func (v RuleView) Guard() *Guard { return v.rule.guard }

var (
	guardKeys     = []string{"statements", "also", "limits", "mode", "stop_after", "record"}
	ruleGuardKeys = []string{"statements", "also", "limits", "mode"}
	guardModes    = []string{"enforce", "observe"}
	recordModes   = []string{"digest", "text"}
)

// maxStopAfter bounds stop_after: more denials than that are none that someone counts.
const maxStopAfter = 1_000_000

// guard reads a target's guard.
func (d *document) guard(t *Target, n *yaml.Node) {
	before := d.Count()
	defer func() { t.faultyGuard = d.Count() > before }()
	m, ok := d.Mapping(n, n, "guard", guardKeys)
	if !ok {
		return
	}
	g := Guard{Statements: sqlguard.Any}
	if m.Get("statements") == nil {
		m.Missing("statements: want one of %q", sqlguard.Levels)
	}
	d.guardCommon(&g, m)
	if v := m.Get("stop_after"); v != nil {
		count, err := strconv.Atoi(v.Value)
		if v.Tag != "!!int" || err != nil || count < 1 || count > maxStopAfter {
			d.Report(v, "stop_after is %s, want a number of denials from 1 to %d", strictyaml.Shown(v), maxStopAfter)
		}
		g.StopAfter = count
	}
	if v := m.Get("record"); v != nil {
		g.Text = d.choice(v, "record", recordModes) == "text"
	}
	t.guard = &g
	if d.Count() == before {
		d.guardSense(n, g)
	}
}

// guardCommon reads what targets and rules have in common. A rule that gives
// `statements` admits nothing in addition unless it says so.
func (d *document) guardCommon(g *Guard, m strictyaml.Mapping) {
	if v := m.Get("statements"); v != nil {
		g.Statements, g.Also = sqlguard.Level(d.choice(v, "statements", namesOf(sqlguard.Levels))), nil
	}
	if v := m.Get("also"); v != nil {
		g.Also = d.guardClasses(v, g.Statements)
	}
	if v := m.Get("limits"); v != nil {
		d.limits(&g.Limits, v)
	}
	if v := m.Get("mode"); v != nil {
		g.Observe = d.choice(v, "mode", guardModes) == "observe"
	}
}

// guardClasses reads the classes that are admitted next to those of a level.
func (d *document) guardClasses(n *yaml.Node, level sqlguard.Level) (list []statement.Class) {
	valid := namesOf(sqlguard.Classes())
	for _, e := range d.Texts(n, "also") {
		class := statement.Class(e.Value)
		switch {
		case !slices.Contains(valid, e.Value):
			d.Report(e, "also has %q, valid classes are %q%s", e.Value, valid, otherNames.DidYouMean(e.Value, valid))
		case slices.Contains(level.Classes(), class):
			d.Report(e, "also has %q, which `statements: %s` admits: remove it", e.Value, level)
		case slices.Contains(list, class):
			d.Report(e, "also has %q twice", e.Value)
		default:
			list = append(list, class)
		}
	}
	return list
}

// guardSense reports what a guard cannot mean.
func (d *document) guardSense(n *yaml.Node, g Guard) {
	for _, class := range []statement.Class{statement.Admin, statement.Unknown} {
		if g.Statements == sqlguard.Read && slices.Contains(g.Also, class) {
			d.Report(n, "also has %q with `statements: read`: such a statement may write. Want `statements: build`", class)
		}
	}
}

// ruleGuard reads what a rule says of its guard, nil for nothing, and sets the
// guard that holds.
func (d *document) ruleGuard(t *Target, r *rule, n *yaml.Node) {
	r.guard, r.faultyGuard = t.guard, t.faultyGuard
	if n == nil {
		return
	}
	before := d.Count()
	defer func() { r.faultyGuard = r.faultyGuard || d.Count() > before }()
	m, ok := d.Mapping(n, n, "the guard of a rule", slices.Concat(ruleGuardKeys, []string{"stop_after", "record"}))
	if !ok {
		return
	}
	for _, key := range []string{"stop_after", "record"} {
		if v := m.Get(key); v != nil {
			d.Report(v, "%s is the same for all rules: give it in the guard of the target", key)
		}
	}
	if len(n.Content) == 0 {
		d.Report(n, "guard is empty: remove it, or give one of %q", ruleGuardKeys)
	}
	base := Guard{Statements: sqlguard.Any}
	if t.guard != nil {
		base = *t.guard
	}
	g := base
	if t.guard == nil && !t.faultyGuard && m.Get("statements") == nil {
		m.Missing("statements: the target has no guard, which a rule could tighten")
	}
	d.guardCommon(&g, m)
	r.guard = &g
	if d.Count() > before || t.faultyGuard && m.Get("also") == nil {
		return
	}
	if d.guardSense(n, g); t.faultyGuard {
		return
	}
	for _, class := range g.Admits() {
		if !slices.Contains(base.Admits(), class) {
			d.Report(n, "the rule's guard admits %q, and that of the target does not: a rule can only tighten it", class)
			return
		}
	}
	if name := loosened(g.Limits, base.Limits); name != "" {
		d.Report(n, "the rule's guard has a higher limit of %s than that of the target: a rule can only tighten it", name)
	}
	if g.Observe && t.guard != nil && !base.Observe {
		d.Report(n, "the rule's guard has `mode: observe`, and that of the target enforces: a rule can only tighten it")
	}
}

// guardable checks that the guards of a target can be held: a proxy of ours
// must be on the way of every statement.
func (d *document) guardable(p *Policy, t *Target, m strictyaml.Mapping) {
	at := m.Get("guard")
	for i, r := range t.rules {
		if at == nil && r.guard != nil && i < len(d.allowed.Content) {
			at = valueOf(d.allowed.Content[i], "guard")
		}
	}
	if !t.Guarded() && t.guard == nil || at == nil {
		return
	}
	if v := m.Get("proxy"); v != nil && t.direct {
		d.Report(v, "proxy is false, and the target has a guard, which the proxy holds: remove one of them")
		return
	}
	if why := t.unguardable(t.dbt.Type); why != "" {
		d.Report(at, "%s", why)
	}
	d.guardOrder(p, t)
}

// unguardable says why statements cannot be held back at a warehouse of dbt's
// type, "" where they can, or where the type is not known yet.
func (t *Target) unguardable(dbtType string) string {
	spec, known := t.origin.catalog.Adapters[dbtType]
	switch {
	case t.dbt.Client:
		return "guard requires `dbt`: the clients of a target with `client` connect to the warehouse themselves"
	case t.dbt.From == "" && t.dbt.Block == nil:
		return "guard requires `dbt`: without it no statement of the target goes through a proxy"
	case !known || t.provider == "" || slices.Contains(spec.Guarded, t.provider):
		return t.unscanned(dbtType)
	case len(spec.Guarded) > 0:
		return fmt.Sprintf("guard cannot be held at type %q with provider %q, where dbt connects to the warehouse itself: "+
			"use provider %s, or %s", dbtType, t.provider, oneOf(spec.Guarded), spec.Native)
	}
	return fmt.Sprintf("guard cannot be held at type %q, which has no proxy that reads statements: use %s", dbtType, spec.Native)
}

// oneOf lists names that there is a choice of, each in quotes.
func oneOf(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return alternatives(quoted)
}

// CheckGuard returns an error of class Usage where the target has a guard that
// cannot be held at a warehouse of dbt's type. Parse has done it for a type that
// the policy names.
func (t *Target) CheckGuard(dbtType string) error {
	if !t.Guarded() {
		return nil
	}
	if why := t.unguardable(dbtType); why != "" {
		return fault.New(fault.Usage, fmt.Errorf("target %q: %s", t.name, why), "")
	}
	return nil
}

// unscanned says that a guard limits what is scanned where the warehouse has no
// place for that, "" where it has, or where no guard does.
func (t *Target) unscanned(dbtType string) string {
	instead := t.origin.catalog.Adapters[dbtType].Unscanned
	if instead == "" || !t.limitsScans() {
		return ""
	}
	return fmt.Sprintf("limits has scan, for which type %q has no place: use %s", dbtType, instead)
}

func (t *Target) limitsScans() bool {
	return t.guard != nil && t.guard.Limits.Scan > 0 ||
		slices.ContainsFunc(t.rules, func(r rule) bool { return r.guard != nil && r.guard.Limits.Scan > 0 })
}

// Unheld says what has the target's warehouse hold a limit, where a session may
// change its own; "" where the proxy fixes it.
func (t *Target) Unheld() string { return t.origin.catalog.Adapters[t.dbt.Type].Unheld }

// GuardedKey reports whether a key of profiles.yml decides which server a guard
// is for, or how it is spoken to: with a guard the policy gives it.
func GuardedKey(name string) bool { return hostKey.MatchString(name) }

// against says how g compares with another guard: "tighter", "wider",
// "different" where each lets something pass that the other does not, or "".
func (g *Guard) against(other *Guard) string {
	switch wider, tighter := g.lets(other), other.lets(g); {
	case wider && tighter:
		return "different"
	case wider:
		return "wider"
	case tighter:
		return "tighter"
	}
	return ""
}

// guardOrder reports rules for a kind of actor that come too late: the first
// rule that matches decides, and one before it gives the same run more.
func (d *document) guardOrder(p *Policy, t *Target) {
	left := maxAllStates
	for j, late := range t.rules {
		if !late.names("actor_kind") {
			continue
		}
		for _, early := range t.rules[:j] {
			if late.guard == nil || !early.guard.lets(late.guard) || early.identity.Name != late.identity.Name ||
				early.faultyGuard || late.faultyGuard {
				continue
			}
			witness, states, decided := p.overlap(early, late)
			if left -= states; witness == nil && decided && left > 0 {
				continue
			}
			d.Report(d.allowed.Content[late.index], "rule %d (line %d) names actor_kind, and rule %d (line %d) before it admits the "+
				"same runs under a wider guard: move rule %d before it", late.index+1, late.line, early.index+1, early.line, late.index+1)
			break
		}
	}
}
