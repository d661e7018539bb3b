package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var schemas = []string{"policy.schema.json", "policy-test.schema.json"}

// TestSchemasDescribeEveryKey: an editor shows what a key is for, and a value
// that it may have.
func TestSchemasDescribeEveryKey(t *testing.T) {
	t.Parallel()
	for _, name := range schemas {
		checkDescribed(t, name, readSchema(t, name), false)
	}
}

func readSchema(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// checkDescribed checks the keys of a part of a schema. What follows from a
// condition repeats keys, and only what is below them is new; a key that is
// false is one that must not be there.
func checkDescribed(t *testing.T, path string, part any, repeats bool) {
	t.Helper()
	switch part := part.(type) {
	case []any:
		for _, item := range part {
			checkDescribed(t, path, item, false)
		}
	case map[string]any:
		keys, _ := part["properties"].(map[string]any)
		for name, key := range keys {
			if schema, ok := key.(map[string]any); ok && !repeats {
				if text, _ := schema["description"].(string); strings.TrimSpace(text) == "" {
					t.Errorf("%s: the key %q has no description", path, name)
				}
				if !hasExample(schema) {
					t.Errorf("%s: the key %q has no example", path, name)
				}
			}
			checkDescribed(t, path+" "+name, key, false)
		}
		for name, inner := range part {
			switch name {
			case "properties", "if", "not", "examples":
			default:
				checkDescribed(t, path, inner, name == "then" || name == "else")
			}
		}
	}
}

// hasExample reports whether an editor knows a value of a key, or the keys of
// the mapping that it is.
func hasExample(schema map[string]any) bool {
	for _, name := range []string{"examples", "enum", "const", "properties"} {
		if schema[name] != nil {
			return true
		}
	}
	kind, _ := schema["type"].(string)
	return kind == "boolean"
}

// TestExamplesFollowTheSchemas: what an editor proposes, it does not complain about.
func TestExamplesFollowTheSchemas(t *testing.T) {
	t.Parallel()
	for _, name := range schemas {
		schema := readSchema(t, name)
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource(name, schema); err != nil {
			t.Fatal(err)
		}
		checked := 0
		var check func(pointer string, part any)
		check = func(pointer string, part any) {
			switch part := part.(type) {
			case []any:
				for i, item := range part {
					check(fmt.Sprintf("%s/%d", pointer, i), item)
				}
			case map[string]any:
				examples, _ := part["examples"].([]any)
				for _, example := range examples {
					compiled, err := compiler.Compile(name + "#" + pointer)
					if err != nil {
						t.Fatal(err)
					}
					if err := compiled.Validate(example); err != nil {
						t.Errorf("%s: example %v of %s: %v", name, example, pointer, err)
					}
					checked++
				}
				for key, inner := range part {
					if key != "examples" && key != "enum" && key != "const" {
						check(pointer+"/"+url.PathEscape(strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")), inner)
					}
				}
			}
		}
		check("", schema)
		if checked < 3 {
			t.Errorf("%s has %d examples", name, checked)
		}
	}
}

// TestDocumentsFollowTheSchemas: an editor has no complaint about a policy or
// a test of a policy that users copy.
func TestDocumentsFollowTheSchemas(t *testing.T) {
	t.Parallel()
	compiled := map[string]*jsonschema.Schema{}
	for _, name := range schemas {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource(name, readSchema(t, name)); err != nil {
			t.Fatal(err)
		}
		schema, err := compiler.Compile(name)
		if err != nil {
			t.Fatal(err)
		}
		compiled[name] = schema
	}
	count := map[string]int{}
	for path, text := range pages(t) {
		if strings.HasPrefix(path, "../docs/lint/") { // a policy there may have the error that the page is about
			text, _, _ = strings.Cut(text, "\n## Fails\n")
		}
		for _, b := range blocks(text) {
			name := ""
			switch {
			case strings.Contains("\n"+b, "\nversion: 1\n") && strings.Contains(b, "\ncases:\n"):
				name = "policy-test.schema.json"
			case strings.Contains("\n"+b, "\nversion: 1\n"):
				name = "policy.schema.json"
			default:
				continue
			}
			count[name]++
			if err := compiled[name].Validate(instance(t, path, b)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if count["policy.schema.json"] < 20 || count["policy-test.schema.json"] < 1 {
		t.Errorf("validated %v, want at least 20 policies and a test", count)
	}
}

// instance returns a block of YAML as an editor reads it.
func instance(t *testing.T, path, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	plain, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	// YAML's date becomes a time on the way; editors see the text.
	plain = bytes.ReplaceAll(plain, []byte("T00:00:00Z"), nil)
	read, err := jsonschema.UnmarshalJSON(bytes.NewReader(plain))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return read
}
