package job

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// checkGuard refuses what would go around the guard of a target: a credential
// that is handed out without the broker, a command that can get one by itself,
// and a server or a protocol that the user's own profiles choose. blocks are the
// chosen outputs as dbt reads them.
func (p *project) checkGuard(s Settings, t *policy.Target, blocks ...*yaml.Node) error {
	if !t.Guarded() {
		return nil
	}
	if err := t.CheckGuard(p.dbtType); err != nil {
		return err
	}
	decides := !s.DryRun && !s.ProfileOnly
	switch {
	case decides && !s.Broker:
		return fault.New(fault.Usage,
			fmt.Errorf("target %q has a guard, which only oidc-dbt next to dbt can hold: a following step would have the credential itself",
				t.Name()),
			"give the command to this step as `run:`, set `keep-fresh: true`, or call `oidc-dbt exec -- COMMAND`")
	case decides && s.PassIdentity:
		return fault.New(fault.Usage,
			fmt.Errorf("flag --pass-identity: target %q has a guard, and the command could get the credential without it", t.Name()),
			"remove --pass-identity, or use a target without a guard")
	}
	if p.source == nil {
		return nil
	}
	var keys []string
	for i, block := range blocks {
		_, key := adapter.Roles(p.dbtType, block)
		if key != "" && !p.given(t.DBT(), i, key) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		if _, has := adapter.User(p.dbtType, block); has && !p.given(t.DBT(), i, "user") && !slices.Contains(keys, "user") {
			keys = append(keys, "user")
		}
		for i := 0; i+1 < len(block.Content); i += 2 {
			if key := block.Content[i].Value; policy.GuardedKey(key) && !hasKey(t.DBT().With, key) && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return fault.New(fault.Usage,
		fmt.Errorf("target %q has a guard, and profiles.yml decides what is guarded: output %q has its own %s",
			t.Name(), p.output, strings.Join(keys, ", ")),
		fmt.Sprintf("give it in the policy, next to `from`: `with: {%s: …}`", strings.Join(keys, ": …, ")))
}

// given reports whether the policy gives a key of the i-th profile's output.
func (p *project) given(dbt policy.DBT, i int, key string) bool {
	return hasKey(dbt.With, key) || slices.ContainsFunc(dbt.Profiles, func(further policy.Profile) bool {
		return i < len(p.names) && further.Name == p.names[i] && hasKey(further.Keys, key)
	})
}

func hasKey(n *yaml.Node, key string) bool {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// A guarding is the guard of a run with what it writes to.
type guarding struct {
	policy policy.Guard
	guard  *guard.Guard
	log    *audit.StatementLog
	sent   *statementShipping // nil where records stay in the file
}

// newGuarding returns what decides on the statements of the grant's run, nil
// where nothing does.
func (a *attempt) newGuarding(grant policy.Grant) (*guarding, error) {
	held := grant.Guard()
	if held == nil {
		return nil, nil
	}
	dialect := adapter.Dialect(a.project.dbtType, grant.Provider())
	if dialect == "" || !a.settings.Broker || !a.project.route.Kind.IsProxy() {
		return nil, fmt.Errorf("target %q has a guard, and no proxy that could hold it", a.target.Name()) // a bug
	}
	var roles, users []string
	for _, block := range a.project.outputs(grant) {
		named, _ := adapter.Roles(a.project.dbtType, block)
		roles = append(roles, named...)
		if user, _ := adapter.User(a.project.dbtType, block); user != "" {
			users = append(users, user)
		}
	}
	slices.Sort(roles)
	slices.Sort(users)
	rule := grant.Rule()
	log, err := audit.OpenStatements(a.records.path, a.records.run, rule.Index, rule.Line, a.project.dbtType)
	if err != nil {
		return nil, err
	}
	g := &guarding{policy: *held, log: log}
	g.sent = a.shipStatements()
	g.guard = guard.New(guard.Config{
		Dialect: dialect, Statements: held.Statements, Also: held.Also, Observe: held.Observe, StopAfter: held.StopAfter, Text: held.Text,
		Limits: held.Limits, Roles: slices.Compact(roles), Users: slices.Compact(users),
		Where: fmt.Sprintf("target %q, rule %d (%s:%d)", a.target.Name(), rule.Index+1, a.target.File(), rule.Line),
		Now:   a.env.Now, Record: g.record, Stop: func() { g.stop(a) },
	})
	return g, nil
}

// record appends the record of a message before it goes on.
func (g *guarding) record(e guard.Entry) error {
	return g.sent.append(g.log, audit.Statement{
		Time: e.Time, Session: e.Session, Decision: e.Decision, Class: string(e.Verdict.Class), Count: e.Verdict.Statements,
		Head: e.Verdict.Head, Why: e.Why, Length: e.Length, SHA256: e.SHA256, Text: e.Text,
	})
}

// stop ends the run after too many denials.
func (g *guarding) stop(a *attempt) {
	a.settings.Halt(fmt.Errorf("the guard of target %q has denied %s: the run is ended",
		a.target.Name(), countStatements(int64(g.policy.StopAfter))))
}

func countStatements(n int64) string {
	if n == 1 {
		return "1 statement"
	}
	return fmt.Sprintf("%d statements", n)
}

// same returns an error unless a renewed token has the guard that the run began with.
func (g *guarding) same(held *policy.Guard) error {
	began, now := "none", "none"
	if g != nil {
		began = g.policy.String()
	}
	if held != nil {
		now = held.String()
	}
	if began == now {
		return nil
	}
	return fault.New(fault.Denied, fmt.Errorf("the run began with the guard (%s), and its token now has another (%s)", began, now), "")
}

// decides returns what a broker asks; nil for a run without a guard.
func (g *guarding) decides() *guard.Guard {
	if g == nil {
		return nil
	}
	return g.guard
}

// close ends the records of statements: the broker is closed.
func (g *guarding) close(a *attempt) error {
	if g == nil {
		return nil
	}
	if n := g.guard.Observed(); n > 0 {
		a.settings.Say(countStatements(n) + " would have been denied: see `oidc-dbt audit show --statements`, " +
			"with the audit log " + a.records.path)
	}
	return g.sent.end(g.log)
}
