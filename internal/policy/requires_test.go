package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

func TestRequires(t *testing.T) {
	t.Parallel()
	const rest = "\ntargets: {prod: {exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}, allow: [{repository_id: \"1\", environment: prod}]}}\n"
	older := func(wants, is string) string { return "policy requires oidc-dbt " + wants + ", this is " + is }
	malformed := func(place, is, more string) string {
		return "policy.yml:" + place + ": requires is " + is + ", want the oldest release that reads this policy, such as v1.4.0" + more + "\n"
	}
	for _, tt := range []struct{ name, version, src, err string }{
		{"the same", "v1.4.0", "version: 1\nrequires: v1.4.0" + rest, ""},
		{"a newer build", "v1.10.0", "version: 1\nrequires: v1.9.0" + rest, ""},
		{"an older build", "v1.2.3", "version: 1\nrequires: v1.4.0" + rest, older("v1.4.0", "v1.2.3")},
		{"by numbers, not by text", "v1.9.0", "version: 1\nrequires: v1.10.0" + rest, older("v1.10.0", "v1.9.0")},
		{"a pre-release of it", "v1.4.0-rc.1", "version: 1\nrequires: v1.4.0" + rest, older("v1.4.0", "v1.4.0-rc.1")},
		{"pre-releases by number", "v1.4.0-rc.10", "version: 1\nrequires: v1.4.0-rc.9" + rest, ""},
		{"the release of a pre-release", "v1.4.0", "version: 1\nrequires: v1.4.0-rc.9" + rest, ""},
		{"a build with metadata", "v1.4.0+build.7", "version: 1\nrequires: v1.4.0" + rest, ""},
		{"a development build", "development", "version: 1\nrequires: v9.0.0" + rest, ""},
		{"a build without a version", "", "version: 1\nrequires: v9.0.0" + rest, ""},
		{"quoted", "v1.2.3", "version: 1\nrequires: \"v1.4.0\"" + rest, older("v1.4.0", "v1.2.3")},
		{"version 2, keys, types and kinds of a newer build", "v1.2.3", "version: 2\nrequires: v2.0.0\ndefaults: &d [x]\nidentities: {ci: {issuer: https://x.example, kind: newer}}\ntargets: {prod: {<<: *d, dbt: {type: newer}, dbt: 1, guard: !x {}}}\n", older("v2.0.0", "v1.2.3")},
		{"at the end", "v1.2.3", "targets: []\nrequires: v2.0.0\n", older("v2.0.0", "v1.2.3")},
		{"in JSON", "v1.2.3", `{"targets": [], "requires": "v2.0.0"}`, older("v2.0.0", "v1.2.3")},
		{"what this build does not take for YAML", "v1.2.3", "\ufeffrequires: v2.0.0 # for macros\r\ntargets: {prod: [}\n", older("v2.0.0", "v1.2.3")},
		{"a character that a newer build may admit", "v1.2.3", "requires: v2.0.0\n# \u200b\n", older("v2.0.0", "v1.2.3")},
		{"twice: the newer one counts", "v1.2.3", "requires: v1.2.0\nrequires: v2.0.0\n", older("v2.0.0", "v1.2.3")},
		{"old enough, and another fault", "v2.2.3", "version: 1\nrequires: v2.0.0\ntargets: {}\n", "parse policy \"policy.yml\": 1 error\npolicy.yml:3:10: targets is empty\n"},
		{"two parts", "v1.2.3", "version: 1\nrequires: v1.4" + rest, malformed("2:11", `"v1.4"`, "")},
		{"without the v", "v1.2.3", "version: 1\nrequires: 1.4.0" + rest, malformed("2:11", `"1.4.0"`, `: did you mean "v1.4.0"?`)},
		{"a number", "v1.2.3", "version: 1\nrequires: 1.4" + rest, malformed("2:11", `"1.4"`, "")},
		{"a range", "v1.2.3", "version: 1\nrequires: \">=v1.4.0\"" + rest, malformed("2:11", `">=v1.4.0"`, "")},
		{"a leading zero", "v1.2.3", "version: 1\nrequires: v1.04.0" + rest, malformed("2:11", `"v1.04.0"`, "")},
		{"nothing", "v1.2.3", "version: 1\nrequires:" + rest, malformed("2:10", "null", "")},
		{"a list", "v1.2.3", "version: 1\nrequires: [v1.0.0]" + rest, malformed("2:11", "a list", "")},
		{"malformed, to a development build", "development", "version: 1\nrequires: latest" + rest, malformed("2:11", `"latest"`, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cat := catalog()
			cat.Version = tt.version
			_, err := policy.Parse("policy.yml", []byte(tt.src), cat)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if strings.HasSuffix(tt.err, "\n") { // with its place; the line follows
				if !strings.Contains(got, tt.err) || !strings.Contains(got, ": 1 error\n") && !strings.Contains(tt.err, "1 error") {
					t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
				}
			} else if got != tt.err {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
			}
			if err != nil && (fault.ClassOf(err) != fault.Usage || fault.Hint(err) != "") {
				t.Errorf("class is %s, hint %q", fault.ClassOf(err), fault.Hint(err))
			}
			if strings.HasPrefix(got, "policy requires") && len(fault.Places(err)) > 0 {
				t.Error("it is more than the one line")
			}
		})
	}
}
