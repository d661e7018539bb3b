package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func TestTestPolicy(t *testing.T) {
	t.Parallel()
	offlineCases(t, "test-policy")
}

// TestTestPolicySchema: the published schema accepts the test files of the
// documentation and of the cases that can be read.
func TestTestPolicySchema(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../policy-test.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("policy-test.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy-test.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/testing-policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	for _, c := range []struct {
		name, text string
		valid      bool
	}{
		{"the documentation's", example, true},
		{"a typing error", "version: 1\ncase: []\ncases: [{name: a, claims: {}, deny: all}]", false},
		{"allow and deny", "version: 1\ncases: [{name: a, claims: {}, deny: all, allow: b}]", false},
		{"a guard", "version: 1\ncases: [{name: a, claims: {}, allow: b, guard: none}]", true},
		{"a guard as in the policy", "version: 1\ncases: [{name: a, claims: {}, allow: b, guard: {statements: read}}]", false},
		{"a number", "version: 1\ncases: [{name: a, claims: {repository_id: 7}, deny: all}]", false},
	} {
		var value any
		if err := yaml.Unmarshal([]byte(c.text), &value); err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// BenchmarkTestPolicy runs a thousand cases.
func BenchmarkTestPolicy(b *testing.B) {
	dir := b.TempDir()
	policy, err := os.ReadFile("testdata/test-policy/oidc-dbt.yml")
	if err != nil {
		b.Fatal(err)
	}
	put(b, dir, ".github/oidc-dbt.yml", policy)
	var cases strings.Builder
	cases.WriteString("version: 1\ncases:\n")
	for i := range 1000 {
		fmt.Fprintf(&cases, "  - name: case %d\n    claims: {repository: acme/shop, repository_id: \"%d\", environment: staging}\n    deny: prod\n", i, i)
	}
	cases.WriteString("coverage: none\n")
	put(b, dir, ".github/oidc-dbt.test.yml", []byte(cases.String()))
	began := time.Now()
	for b.Loop() {
		if status, _, stderr := offline(b, dir, "", nil, "test-policy"); status != 0 {
			b.Fatal(stderr)
		}
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds())/float64(b.N), "ms/1000-cases")
}
