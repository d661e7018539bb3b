package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// guarding is a policy with a target's guard, "" for none, and its rules.
func guarding(guard string, rules ...string) string {
	src := "version: 1\nidentities:\n  github: {issuer: " + issuer.URL() + ", kind: github}\ntargets:\n  prod:\n" +
		"    dbt: {type: snowflake, account: acme-prod, user: DBT, schema: marts}\n    exchange: {oidc: {audience: snowflakecomputing.com}}\n"
	if guard != "" {
		src += "    guard: " + guard + "\n"
	}
	return src + "    allow:\n      - " + strings.Join(rules, "\n      - ") + "\n"
}

// TestGuard: the guard that holds is the target's, tightened by the rule that
// matches, and explain shows that of a run.
func TestGuard(t *testing.T) {
	t.Parallel()
	const other = `{repository_id: "1", environment: production, ref: refs/heads/main}`
	rule := func(guard string) string {
		return `{repository_id: "487920697", environment: production, ref: refs/heads/main` + guard + `}`
	}
	for name, tt := range map[string]struct {
		guard string
		rules []string
		want  string // "" for none
	}{
		"none":                  {"", []string{rule("")}, ""},
		"the target's":          {"{statements: build}", []string{rule("")}, "statements: build"},
		"all that there is":     {"{statements: build, also: [run, grant], mode: observe, stop_after: 20, record: text}", []string{rule("")}, "statements: build, also: [run, grant], mode: observe, stop_after: 20, record: text"},
		"what is usual":         {"{statements: any, mode: enforce, record: digest}", []string{rule("")}, "statements: any"},
		"tighter":               {"{statements: build, also: grant, stop_after: 3}", []string{rule(", guard: {statements: read}")}, "statements: read, stop_after: 3"},
		"tighter, with a class": {"{statements: build}", []string{rule(", guard: {statements: read, also: [write]}")}, "statements: read, also: [write]"},
		"fewer classes":         {"{statements: build, also: [grant, run]}", []string{rule(", guard: {also: [run]}")}, "statements: build, also: [run]"},
		"enforcing":             {"{statements: build, also: grant, mode: observe}", []string{rule(", guard: {mode: enforce}")}, "statements: build, also: [grant]"},
		"limits":                {"{statements: build, limits: {statement_timeout: 1800s}}", []string{rule("")}, "statements: build, limits: {statement_timeout: 30m}"},
		"tighter limits": {"{statements: build, limits: {statement_timeout: 2d}, mode: observe}", []string{rule(", guard: {limits: {statement_timeout: 47h}}")},
			"statements: build, limits: {statement_timeout: 47h}, mode: observe"},
		"a limit of a rule's own":     {"{statements: build}", []string{rule(", guard: {statements: read, limits: {statement_timeout: 1s}}")}, "statements: read, limits: {statement_timeout: 1s}"},
		"a limit that stays":          {"{statements: build, limits: {statement_timeout: 7d}}", []string{rule(", guard: {statements: read}")}, "statements: read, limits: {statement_timeout: 7d}"},
		"a rule's own":                {"", []string{rule(", guard: {statements: read, mode: observe}")}, "statements: read, mode: observe"},
		"the first rule that matches": {"{statements: build}", []string{other, rule(", guard: {statements: read}"), rule("")}, "statements: read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, guarding(tt.guard, tt.rules...))
			claims := claims(t, nil)
			g, err := p.Authorize("prod", claims, reviewDay)
			if err != nil {
				t.Fatal(err)
			}
			target, _ := p.Explain(claims, reviewDay).Target("prod")
			for how, held := range map[string]*policy.Guard{"granted": g.Guard(), "explained": target.Guard} {
				got := ""
				if held != nil {
					got = held.String()
				}
				if got != tt.want {
					t.Errorf("%s: got %q, want %q", how, got, tt.want)
				}
			}
			if chosen, err := p.Target("prod"); err != nil || chosen.Guarded() != (tt.want != "") {
				t.Errorf("the target is guarded: %v, %v", chosen.Guarded(), err)
			}
		})
	}
}

// TestGuardOfAgents: a rule for agents may come late where it makes no
// difference, or where no token matches both.
func TestGuardOfAgents(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{
		"before": guarding("{statements: build}", `{repository_id: "1", ref: refs/heads/main, actor_kind: agent, guard: {statements: read}}`,
			`{repository_id: "1", ref: refs/heads/main}`),
		"of another repository": guarding("{statements: build}", `{repository_id: "2", ref: refs/heads/main}`,
			`{repository_id: "1", ref: refs/heads/main, actor_kind: agent, guard: {statements: read}}`),
		"of people": guarding("{statements: build}", `{repository_id: "1", ref: refs/heads/main, actor_kind: user}`,
			`{repository_id: "1", ref: refs/heads/main, actor_kind: agent, guard: {statements: read}}`),
		"under the same guard": guarding("{statements: read}", `{repository_id: "1", ref: refs/heads/main}`,
			`{repository_id: "1", ref: refs/heads/main, actor_kind: agent, guard: {statements: read}}`),
		"under lower limits": guarding("{statements: read, limits: {statement_timeout: 2h}}", `{repository_id: "1", ref: refs/heads/main, guard: {limits: {statement_timeout: 1h}}}`,
			`{repository_id: "1", ref: refs/heads/main, actor_kind: agent}`),
		"under a stricter guard": guarding("{statements: build}", `{repository_id: "1", ref: refs/heads/main, guard: {statements: read}}`,
			`{repository_id: "1", ref: refs/heads/main, actor_kind: user}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parse(t, src) // fails the test for an error
		})
	}
}

// TestLimitScan: sizes of both kinds are read and printed, where the warehouse has a place for them.
func TestLimitScan(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]struct {
		bytes int64
		text  string
	}{
		"1B": {1, "1B"}, "1500B": {1500, "1500B"}, "2000B": {2000, "2kB"}, "2KB": {2000, "2kB"}, "2KiB": {2048, "2KiB"}, "500GB": {5e11, "500GB"},
		"1024GiB": {1 << 40, "1TiB"}, "64GiB": {64 << 30, "64GiB"}, "1000PB": {1e18, "1000PB"}, "888PiB": {888 << 50, "888PiB"},
	} {
		src := strings.Replace(guarding("{statements: any, limits: {scan: "+size+"}}", `{repository_id: "1", ref: refs/heads/main}`),
			"{type: snowflake, account: acme-prod, user: DBT, schema: marts}", "{from: profiles.yml}", 1)
		target, err := parse(t, src).Target("prod")
		if err != nil {
			t.Fatal(err)
		}
		g := target.Rules()[0].Guard()
		if got := g.String(); g.Limits.Scan != want.bytes || got != "statements: any, limits: {scan: "+want.text+"}" {
			t.Errorf("%s: got %d, %s", size, g.Limits.Scan, got)
		}
		got := ""
		if err := target.CheckGuard("snowflake"); err != nil {
			got = err.Error()
		}
		if got != `target "prod": limits has scan, for which type "snowflake" has no place: use a resource monitor` {
			t.Errorf("%s: got %q", size, got)
		}
	}
}

func TestCheckGuard(t *testing.T) {
	t.Parallel()
	src := strings.Replace(guarding("{statements: read}", `{repository_id: "1", ref: refs/heads/main}`),
		"{type: snowflake, account: acme-prod, user: DBT, schema: marts}", "{from: profiles.yml}", 1)
	target, err := parse(t, src).Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	for dbtType, want := range map[string]string{
		"snowflake": "",
		"bigquery":  `target "prod": guard cannot be held at type "bigquery", which has no proxy that reads statements: use roles on datasets`,
	} {
		got := ""
		if err := target.CheckGuard(dbtType); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", dbtType, got, want)
		}
	}
}
