package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestCheckOutputs: every fault of the outputs at once, each at its place,
// with the answer; who dbt is at the warehouse is only warned about.
func TestCheckOutputs(t *testing.T) {
	t.Parallel()
	const wrong = "output \"prod\" of profile \"%s\": %s chooses server or identity: want a literal, not Jinja"
	want := func(profile, key string) string { return fmt.Sprintf(wrong, profile, key) }
	invalid := func(text string, path ...string) *policy.BlockError {
		return &policy.BlockError{Path: path, Text: text}
	}
	misshapen := func(text string, path ...string) *policy.BlockError {
		return &policy.BlockError{Path: path, Kind: policy.Misshapen, Text: text}
	}
	duplicate := &policy.BlockError{Path: []string{"account"}, Kind: policy.Duplicate, Text: policy.DuplicateKey("account", "acct")}
	for _, tt := range []struct {
		name, with, outputs string
		dbtType             string               // "" for snowflake
		adapter             []*policy.BlockError // what it says of each block
		err                 []string             // the places and their texts
		hint, warnings      string
	}{
		{name: "literals", outputs: "a: {type: snowflake, account: acme, user: me, role: r}"},
		{
			name:    "every fault",
			outputs: "a: {account: '{{ a }}', proxy_host: '{% if x %}y{% endif %}', port: '{# c #}1', database: '{{ d }}', list: [{host: '{{ h }}'}]}",
			err: []string{
				"f.yml:1:14 " + want("a", "account"), "f.yml:1:37 " + want("a", "proxy_host"), "f.yml:1:69 " + want("a", "port"), "f.yml:1:116 " + want("a", "host"),
			},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {account: …, proxy_host: …, port: …, list: …}}`",
		},
		{
			name:    "of every profile, a shared mapping once",
			outputs: "a: &a {account: '{{ a }}'}\nb: *a\nc: {account: '{{ c }}'}",
			err:     []string{"f.yml:1:17 " + want("a", "account"), "f.yml:3:14 " + want("c", "account")},
			hint:    "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {account: …}}`",
		},
		{
			name:    "with what is given already",
			with:    "{schema: s}",
			outputs: "a: {account: '{{ a }}'}",
			err:     []string{"f.yml:1:14 " + want("a", "account")},
			hint:    "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {schema: …, account: …}}`",
		},
		{name: "logins, which are replaced", outputs: "a: {account: acme, token: '{{ t }}', authenticator: '{{ a }}', passcode: '{{ p }}', host_password: '{{ p }}'}"},
		{
			name:     "names",
			outputs:  "a: {account: acme, user: '{{ u }}', role: '{{ r }}'}",
			warnings: "output \"prod\" of profile \"a\": the job's environment chooses user (f.yml:1:26), role (f.yml:1:43), not the policy: to change that, add `with: {user: …, role: …}` under `dbt`",
		},
		{
			name:    "what the adapter says",
			outputs: "a:\n  account: a/b\n  deep: {down: {x: 1}}",
			adapter: []*policy.BlockError{
				invalid("account is \"a/b\"", "account"), invalid("deep.down.x: no", "deep", "down", "x"), invalid("deep.up: no", "deep", "up"),
				{Path: []string{"database"}, Kind: policy.Missing, Text: "requires database"}, invalid("user is \"\"", "user"),
				invalid("nonsense", "nonsense"), invalid("of the block"),
			},
			err: []string{
				"f.yml:2:3 output \"prod\" of profile \"a\": requires database", "f.yml:2:3 output \"prod\" of profile \"a\": user is \"\"",
				"f.yml:2:3 output \"prod\" of profile \"a\": nonsense", "f.yml:2:3 output \"prod\" of profile \"a\": of the block",
				"f.yml:2:12 output \"prod\" of profile \"a\": account is \"a/b\"",
				"f.yml:3:9 output \"prod\" of profile \"a\": deep.up: no", "f.yml:3:20 output \"prod\" of profile \"a\": deep.down.x: no",
			},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {account: …, deep: …, database: …, user: …}}`",
		},
		{
			name:    "a duplicate key",
			outputs: "a: {account: acme, acct: acme}",
			adapter: []*policy.BlockError{duplicate},
			err:     []string{"f.yml:1:14 output \"prod\" of profile \"a\": duplicate key: account and acct are the same setting, remove one"},
			hint:    "remove one of the two names from f.yml",
		},
		{
			name:    "a duplicate key, and what the policy can answer",
			outputs: "a: {account: acme, acct: acme, port: x}",
			adapter: []*policy.BlockError{duplicate, invalid("port is \"x\"", "port")},
			err: []string{
				"f.yml:1:14 output \"prod\" of profile \"a\": duplicate key: account and acct are the same setting, remove one",
				"f.yml:1:38 output \"prod\" of profile \"a\": port is \"x\"",
			},
			hint: "remove one of the two names from f.yml; give the values in the policy: `dbt: {from: f.yml, output: prod, with: {port: …}}`",
		},
		{
			name:    "nothing of another shape is shown",
			outputs: "a:\n  headers: [\"X-Team: " + marker + "\",\n    " + marker + "]\n  deep:\n    - x: " + marker + "\n    - " + marker + "\n  port: x",
			adapter: []*policy.BlockError{
				misshapen("headers is a list, want a mapping", "headers"), misshapen("deep[1] is a single value, want a mapping", "deep", "1"),
				misshapen("deep is a list, want a list of mappings", "deep"),
			},
			err: []string{
				"f.yml:2:12 output \"prod\" of profile \"a\": headers is a list, want a mapping",
				"f.yml:5:5 output \"prod\" of profile \"a\": deep is a list, want a list of mappings",
				"f.yml:6:7 output \"prod\" of profile \"a\": deep[1] is a single value, want a mapping",
			},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {headers: …, deep: …}}`",
		},
		{
			name:    "the places of what is in lists",
			outputs: "a:\n  attach:\n    - {path: x}\n    - {path: y, options: {s3.endpoint: e, s3: {endpoint: f}}}",
			adapter: []*policy.BlockError{
				invalid("attach[1].options.s3.endpoint is no", "attach", "1", "options", "s3.endpoint"), invalid("attach[0].path: no", "attach", "0", "path"),
				invalid("attach[7].path: no", "attach", "7", "path"), invalid("attach[1].path.x: no", "attach", "1", "path", "x"),
				invalid("attach.x: no", "attach", "x"), invalid("attach[-1].path: no", "attach", "-1", "path"),
			},
			err: []string{
				"f.yml:3:5 output \"prod\" of profile \"a\": attach[7].path: no", "f.yml:3:5 output \"prod\" of profile \"a\": attach.x: no", "f.yml:3:5 output \"prod\" of profile \"a\": attach[-1].path: no",
				"f.yml:3:14 output \"prod\" of profile \"a\": attach[0].path: no",
				"f.yml:4:14 output \"prod\" of profile \"a\": attach[1].path.x: no", "f.yml:4:40 output \"prod\" of profile \"a\": attach[1].options.s3.endpoint is no",
			},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {attach: …}}`",
		},
		{
			name: "what the type forbids in `with`", with: "{account: acme, authenticator: x, role: r, passcode: hunter2}",
			outputs: "a: {account: '{{ a }}'}", adapter: []*policy.BlockError{invalid("account is not looked at", "account")},
			err: []string{
				"p.yml:5:60 authenticator is written by oidc-dbt, from the exchange: remove it",
				"p.yml:5:87 passcode holds a secret (…), which a policy must not contain: remove it, the credential comes from the exchange",
				"f.yml:1:14 " + want("a", "account"),
			},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {account: …, authenticator: …, role: …, passcode: …}}`",
		},
		{
			name: "a type without the provider", outputs: "a: {type: duckdb}", dbtType: "duckdb", adapter: []*policy.BlockError{invalid("account is not looked at", "account")},
			err: []string{"f.yml:1:11 type \"duckdb\" does not support provider \"oidc\", valid providers are [\"aws\"]"},
		},
		{
			name: "no such type", outputs: "a: {type: mysql}", dbtType: "mysql",
			err: []string{"f.yml:1:11 unknown type \"mysql\", valid types are [\"bigquery\" \"duckdb\" \"snowflake\"]"},
		},
		{
			name: "no secret is shown", outputs: "a: {account: '{{ a }}', password: hunter2, port: '{{ p }}'} # token: hunter2",
			err:  []string{"f.yml:1:14 " + want("a", "account"), "f.yml:1:50 " + want("a", "port")},
			hint: "give the values in the policy: `dbt: {from: f.yml, output: prod, with: {account: …, port: …}}`",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dbt := "{from: f.yml, output: prod}"
			if tt.with != "" {
				dbt = "{from: f.yml, output: prod, with: " + tt.with + "}"
			}
			p, err := policy.Parse("p.yml", []byte("version: 1\ntargets:\n  prod:\n    exchange: {oidc: {audience: snowflakecomputing.com}}\n    dbt: "+dbt+
				"\n    allow: [{repository: acme/analytics, repository_id: \"1\", environment: prod}]\n"), catalog())
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.Target("prod")
			if err != nil {
				t.Fatal(err)
			}
			var root yaml.Node
			if err := yaml.Unmarshal([]byte(tt.outputs), &root); err != nil {
				t.Fatal(err)
			}
			outs := policy.Outputs{Path: "f.yml", Text: []byte(tt.outputs), Root: root.Content[0], Name: "prod"}
			for i := 0; i < len(outs.Root.Content); i += 2 {
				block := outs.Root.Content[i+1]
				if block.Kind == yaml.AliasNode {
					block = block.Alias
				}
				outs.List = append(outs.List, policy.Output{Profile: outs.Root.Content[i].Value, Block: block})
			}
			dbtType := tt.dbtType
			if dbtType == "" {
				dbtType = "snowflake"
			}
			warnings, err := target.CheckOutputs(outs, dbtType, func(*yaml.Node) []*policy.BlockError { return tt.adapter })
			var got []string
			for _, p := range fault.Places(err) {
				got = append(got, fmt.Sprintf("%s:%d:%d %s", p.File, p.Line, p.Column, p.Text))
			}
			if diff := cmp.Diff(tt.err, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if hint := fault.Hint(err); hint != tt.hint {
				t.Errorf("hint is\n%s\nwant\n%s", hint, tt.hint)
			}
			var texts []string
			for _, w := range warnings {
				texts = append(texts, w.Text)
				for _, p := range w.Places {
					if !strings.Contains(w.Text, fmt.Sprintf("%s (%s:%d:%d)", p.Text, p.File, p.Line, p.Column)) {
						t.Errorf("the warning does not name its place %v", p)
					}
				}
				if len(w.Places) == 0 {
					t.Errorf("no place: %s", w.Text)
				}
			}
			if all := strings.Join(texts, "\n"); all != tt.warnings {
				t.Errorf("warnings are\n%s\nwant\n%s", all, tt.warnings)
			}
			if err == nil {
				return
			}
			if fault.ClassOf(err) != fault.Usage {
				t.Errorf("class is %v", fault.ClassOf(err))
			}
			for _, place := range got {
				if at, _, _ := strings.Cut(place, " "); !strings.Contains(err.Error(), "\n"+at+": ") {
					t.Errorf("the error does not name %s:\n%v", at, err)
				}
			}
			if strings.Contains(err.Error(), marker) {
				t.Errorf("the error shows a secret:\n%v", err)
			}
		})
	}
}
