package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// A Guarded is a broker with a guard, whose records it keeps.
type Guarded struct {
	*broker.Broker

	mu      sync.Mutex
	entries []guard.Entry
}

// Guard starts a broker that asks a guard about each statement.
func Guard(t testing.TB, r route.Route, c credential.Credential, d statement.Dialect, level guard.Level,
	also ...statement.Class) *Guarded {
	t.Helper()
	return GuardBy(t, r, c, guard.Config{Dialect: d, Statements: level, Also: also})
}

// GuardBy is Guard with all that a guard may be told.
func GuardBy(t testing.TB, r route.Route, c credential.Credential, config guard.Config) *Guarded {
	t.Helper()
	g := &Guarded{}
	config.Where, config.Text = `target "prod"`, true
	config.Record = func(e guard.Entry) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.entries = append(g.entries, e)
		return nil
	}
	b, err := broker.Start(broker.Config{
		Target: t.Name(), Route: r, Dir: t.TempDir(), Now: time.Now, Refused: func(int) {}, Failed: func(error) {},
		Current: func(context.Context) (credential.Credential, error) { return c, nil },
		Guard:   guard.New(config),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	g.Broker = b
	return g
}

// Entries returns the records since the last call of Denied.
func (g *Guarded) Entries() []guard.Entry {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.entries)
}

// Denied returns what was denied since the last call, and how many were not.
func (g *Guarded) Denied() (denied []string, allowed int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.Decision == guard.Allowed {
			allowed++
			continue
		}
		denied = append(denied, fmt.Sprintf("%s %s %s: %s", e.Verdict.Class, e.Verdict.Head, e.Verdict.Why, e.Text))
	}
	g.entries = nil
	return denied, allowed
}

// Refusals returns what an enforcing guard has denied since the last call of
// Denied, or what an observing one would have, and in no order of time: hash,
// class and what decided on each message.
func (g *Guarded) Refusals() (all []string) {
	for _, e := range g.Entries() {
		if e.Decision != guard.Allowed {
			all = append(all, fmt.Sprintf("%s %+v %q", e.SHA256, e.Verdict, e.Text))
		}
	}
	g.Denied()
	slices.Sort(all)
	return all
}

// SendBy has a driver send statements, by the script guard.py of the test's
// folder, and returns what became of each: "" for those that passed. Of what
// the script itself cannot do, it reports an error, also from a goroutine.
func SendBy[T any](t testing.TB, python pyenv.Python, statements []T, env []string, args ...string) (ends []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python.Program("python"), append([]string{"guard.py"}, args...)...)
	cmd.Env = append(python.Environ(), env...)
	text, err := json.Marshal(statements)
	if err != nil {
		t.Error(err)
	}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &ends)
	}
	if err != nil || len(ends) != len(statements) {
		t.Errorf("guard.py %q: %v\n%s", args, err, out)
		return make([]string, len(statements))
	}
	return ends
}

// GuardedProject writes a project with a source, comments and an incremental model,
// whose profile leads to a broker. It returns the variables for dbt.
func GuardedProject(t testing.TB, output string) (workspace string, env map[string]string) {
	t.Helper()
	workspace = t.TempDir()
	Write(t, workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"+
		"models:\n  +persist_docs: {relation: true}\n")
	Write(t, workspace, "profiles/profiles.yml", "shop:\n  target: prod\n  outputs:\n    prod: "+output+"\n")
	Write(t, workspace, "seeds/raw_orders.csv", "order_id,customer,amount,placed\n1,ada,12,2026-01-01 00:00:00\n"+
		"2,gra'ce; --,40,2026-01-02 00:00:00\n3,a\\da,7,2026-01-03 00:00:00\n")
	Write(t, workspace, "models/customers.sql", "select customer, count(*) as orders from {{ ref('raw_orders') }} group by customer\n")
	Write(t, workspace, "models/orders.sql", "{{ config(materialized='table') }}\n"+
		"with o as (select * from {{ ref('raw_orders') }}) /* nothing */ select * from o -- the end\n")
	Write(t, workspace, "models/growing.sql", "{{ config(materialized='incremental', unique_key='order_id') }}\n"+
		"select * from {{ ref('raw_orders') }}\n"+
		"{% if is_incremental() %} where order_id > 1 {% endif %}\n")
	Write(t, workspace, "models/schema.yml",
		"sources:\n  - name: shop\n    schema: marts\n    config:\n"+
			"      loaded_at_field: placed\n      freshness: {error_after: {count: 100000, period: day}}\n"+
			"    tables: [{name: raw_orders}]\n"+
			"models:\n  - name: customers\n    description: who buys\n"+
			"    columns:\n      - name: customer\n        data_tests: [not_null, unique]\n")
	return workspace, map[string]string{"DBT_PROFILES_DIR": workspace + "/profiles", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
}

// ExpectBuilt builds a project twice, the second time with what is there, and
// expects that nothing is denied.
func (g *Guarded) ExpectBuilt(t testing.TB, workspace string, env map[string]string) {
	t.Helper()
	for range 2 {
		out, err := DBT(t, Python(t), workspace, env, "build")
		denied, allowed := g.Denied()
		if err != nil || !strings.Contains(out, "Completed successfully") || len(denied) > 0 || allowed < 10 {
			t.Fatalf("dbt build: %v; %d statements, denied %q\n%s", err, allowed, denied, out)
		}
	}
}

// readingCommands are those of dbt that read only.
var readingCommands = []string{
	"debug", "compile", "show --inline 'select 1 as one'", "show --select customers", "docs generate", "source freshness",
}

// ExpectRead expects that the commands that only read pass with nothing denied,
// and that a build is denied.
func (g *Guarded) ExpectRead(t testing.TB, workspace string, env map[string]string) {
	t.Helper()
	for _, command := range readingCommands {
		args := strings.Fields(command)
		if before, inline, ok := strings.Cut(command, " 'select"); ok {
			args = append(strings.Fields(before), "select"+strings.TrimSuffix(inline, "'"))
		}
		out, err := DBT(t, Python(t), workspace, env, args...)
		denied, _ := g.Denied()
		if err != nil || len(denied) > 0 {
			t.Errorf("dbt %s: %v, denied %q\n%s", command, err, denied, out)
		}
	}
	out, err := DBT(t, Python(t), workspace, env, "build")
	denied, _ := g.Denied()
	words := strings.Join(strings.Fields(out), " ")
	if err == nil || len(denied) == 0 || !strings.Contains(words, `not allowed by the guard of target "prod"`) {
		t.Errorf("dbt build under read: %v, denied %q\n%s", err, denied, out)
	}
}
