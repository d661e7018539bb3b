package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A schema is as much of a JSON Schema as the table of keys needs.
type schema struct {
	Type        any
	Const       any
	Enum        []any
	Description string
	Examples    []any
	Required    []string
	OneOf       []json.RawMessage
	Properties  map[string]json.RawMessage
	Items       json.RawMessage
	Additional  json.RawMessage `json:"additionalProperties"`
	Else        json.RawMessage
}

func keySchema(t *testing.T, text []byte) (s schema) {
	t.Helper()
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPolicyKeys holds the table of docs/policy-keys.md to the schema.
func TestPolicyKeys(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	top := keySchema(t, text)
	var b strings.Builder
	b.WriteString("| key | value | meaning | example |\n| --- | --- | --- | --- |\n")
	keyRows(t, &b, "", top)
	target := keySchema(t, keySchema(t, keySchema(t, top.Else).Properties["targets"]).Additional)
	keyRows(t, &b, "targets.NAME.", target)
	dbt := keySchema(t, target.Properties["dbt"])
	keyRows(t, &b, "targets.NAME.dbt.", keySchema(t, dbt.OneOf[len(dbt.OneOf)-1]))
	client := keySchema(t, target.Properties["client"])
	keyRows(t, &b, "targets.NAME.client.", keySchema(t, client.OneOf[1]))
	golden.Table(t, "policy-keys.md", "keys", b.String())
}

// apart are keys whose own keys have rows elsewhere: those of a target, which
// defaults has too, and the providers' in docs/policy.md.
var apart = []string{
	"defaults", "targets", "targets.NAME.dbt", "targets.NAME.client", "targets.NAME.exchange", "targets.NAME.profiles",
}

func keyRows(t *testing.T, b *strings.Builder, prefix string, parent schema) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(parent.Properties)) {
		if string(parent.Properties[name]) == "false" {
			continue // not allowed
		}
		s, key := keySchema(t, parent.Properties[name]), prefix+name
		value := valueOf(s)
		if slices.Contains(parent.Required, name) {
			value += ", required"
		}
		doc, example := s.Description, ""
		if key == "targets.NAME.exchange" {
			var links []string
			for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
				links = append(links, fmt.Sprintf("[`%s`](policy.md#%s)", name, name))
			}
			doc += " One of " + strings.Join(links, ", ") + "."
		} else if len(s.Examples) > 0 {
			text, err := json.Marshal(s.Examples[0])
			if err != nil {
				t.Fatal(err)
			}
			if len(text) < 120 {
				example = "`" + string(text) + "`"
			}
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, value, doc, example)
		if slices.Contains(apart, key) {
			continue
		}
		keyRows(t, b, key+".", s)
		if inner, ok := object(s.Additional); ok {
			if keyRows(t, b, key+".NAME.", keySchema(t, inner)); key == "maps" {
				fmt.Fprintf(b, "| `maps.NAME.CLAIM` | mapping | %s | |\n", keySchema(t, inner).Description)
			}
		}
		if inner, ok := object(s.Items); ok {
			rule := keySchema(t, inner)
			keyRows(t, b, key+"[].", rule)
			doc := keySchema(t, rule.Additional).Description
			fmt.Fprintf(b, "| `%s[].CLAIM` | string or list of strings | %s | |\n", key, doc)
		}
	}
}

func object(raw json.RawMessage) (json.RawMessage, bool) {
	return raw, bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{"))
}

// valueOf says in words what a value may be.
func valueOf(s schema) string {
	switch {
	case s.Const != nil:
		return fmt.Sprintf("`%v`", s.Const)
	case s.Enum != nil:
		var words []string
		for _, v := range s.Enum {
			words = append(words, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(words, ", ")
	case s.Type == "object":
		return "mapping"
	case s.Type == "array":
		return "list"
	case s.Type == "boolean":
		return "true or false"
	case s.Type == nil && len(s.OneOf) == 2 && !bytes.Contains(s.OneOf[1], []byte("properties")):
		return "string or list of strings"
	case s.Type == nil:
		return "string or mapping"
	}
	if list, ok := s.Type.([]any); ok {
		var words []string
		for _, v := range list {
			words = append(words, fmt.Sprint(v))
		}
		return strings.Join(words, " or ")
	}
	return fmt.Sprint(s.Type)
}

// TestClaimsOfKinds holds the table of claims to the code.
func TestClaimsOfKinds(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| kind | claims |\n| --- | --- |\n")
	for _, kind := range policy.Kinds() {
		var names []string
		for _, claim := range policy.ClaimsOf(kind) {
			if strings.HasSuffix(claim, "_") || strings.HasSuffix(claim, ":") {
				claim += "…"
			}
			names = append(names, "`"+claim+"`")
		}
		text := strings.Join(names, ", ")
		if text == "" {
			text = "any: they depend on the issuer"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", kind, text)
	}
	golden.Table(t, "reference.md", "claims", b.String())
}

// TestCommandHelp: docs/command.md has what each command says with -h.
func TestCommandHelp(t *testing.T) {
	t.Parallel()
	list := regexp.MustCompile(`(?m)^   ([a-z-]+)(?:, [a-z]+)?  +\S`)
	var b strings.Builder
	var visit func(path []string)
	visit = func(path []string) {
		text := help(t, path)
		title := strings.Join(append([]string{"oidc-dbt"}, path...), " ")
		fmt.Fprintf(&b, "## %s\n\n```text\n%s\n```\n\n", title, text)
		_, commands, ok := strings.Cut(text, "\nCOMMANDS:\n")
		if commands, _, _ = strings.Cut(commands, "\n\n"); !ok {
			return
		}
		for _, m := range list.FindAllStringSubmatch(commands, -1) {
			if m[1] != "help" {
				visit(append(slices.Clip(path), m[1]))
			}
		}
	}
	visit(nil)
	golden.Table(t, "command.md", "commands", b.String())
}

// help returns what a command says with -h.
func help(t *testing.T, path []string) string {
	t.Helper()
	var out, errs bytes.Buffer
	status := command.Run(t.Context(), job.Env{
		Getenv: func(name string) string { return map[string]string{"HOME": "/home/you"}[name] },
		Now:    time.Now, Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Dir: t.TempDir(), TempDir: t.TempDir(), Executable: "/opt/oidc-dbt/oidc-dbt",
	}, append(slices.Clip(path), "-h"))
	if status != 0 || errs.Len() > 0 {
		t.Fatalf("%q -h: status %d, %s", path, status, errs.String())
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// TestVariablesThatAreRead: docs/variables.md has each variable that the code reads by its name.
func TestVariablesThatAreRead(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("variables.md")
	if err != nil {
		t.Fatal(err)
	}
	read, count := regexp.MustCompile(`[gG]etenv\("(\w+)"\)`), 0
	err = filepath.WalkDir("../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "standin" || d.Name() == "pyenv" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range read.FindAllSubmatch(text, -1) {
			count++
			if !bytes.Contains(page, append(append([]byte("`"), m[1]...), '`')) {
				t.Errorf("%s reads %s, which docs/variables.md does not have", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 20 {
		t.Errorf("found %d places that read a variable, want at least 20", count)
	}
}
