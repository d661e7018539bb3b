//go:build unix

package trust

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bashIn runs a script in a folder, and returns what it prints.
func bashIn(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-s")
	cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(script), []string{"TRINO_HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	return string(out)
}

// TestGrantsInShell: commands get names as they are, and nothing else runs.
func TestGrantsInShell(t *testing.T) {
	t.Parallel()
	const stubs = "gcloud() { printf '<%s>\\n' \"$@\"; }\nbq() { printf '<%s>\\n' \"$@\"; cat >/dev/null; }\n"
	for _, name := range hostileNames {
		if strings.HasPrefix(name, "-") {
			continue // is refused
		}
		dir := t.TempDir()
		d := demand(t, fmt.Sprintf(grantsTarget, quotings["bigquery"].dbt, quotings["bigquery"].exchange), Options{Values: map[string]string{
			"user": name, "database": name, "schema": strings.ReplaceAll(name, ".", ""), "location": name,
		}})
		script, err := Grants([]Demand{d})
		if err != nil {
			t.Fatal(err)
		}
		out := bashIn(t, dir, stubs+script)
		for _, want := range []string{"<--member=" + name + ">", "<" + name + ">", "<" + name + ":" + strings.ReplaceAll(name, ".", "") + ">"} {
			if !strings.Contains(out, want+"\n") {
				t.Errorf("%q: no %s in\n%s", name, want, out)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q: there is %v, %v", name, left, err)
		}
	}
}

// TestGrantsOfTrino: each expression is of one name.
func TestGrantsOfTrino(t *testing.T) {
	t.Parallel()
	for _, name := range hostileNames {
		if strings.Contains(name, ".") {
			continue
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		d := demand(t, fmt.Sprintf(grantsTarget, "{type: trino, host: h.acme.example, port: 443, database: d, schema: s}", "{oidc: {audience: trino}}"),
			Options{Values: map[string]string{"user": name, "database": name, "schema": name, "sources": name + "_source"}})
		script, err := Grants([]Demand{d})
		if err != nil {
			t.Fatal(err)
		}
		bashIn(t, dir, script)
		text, err := os.ReadFile(filepath.Join(dir, "etc", "oidc-dbt-prod-rules.json"))
		var file map[string][]map[string]any
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatalf("%q: %v\n%s", name, err, text)
		}
		if err != nil || len(file["tables"]) != 4 {
			t.Fatalf("%q: %v, %v", name, err, file)
		}
		for section, rules := range file {
			for _, rule := range rules {
				for key, want := range map[string]string{"user": name, "catalog": strings.ToLower(name), "schema": strings.ToLower(name)} {
					expr, ok := rule[key].(string)
					if ok && key == "schema" {
						expr = strings.TrimSuffix(expr, "_source")
					}
					if ok && !slices.Contains([]string{"system", "jdbc|metadata"}, expr) && !regexp.MustCompile(`\A(?:`+expr+`)\z`).MatchString(want) {
						t.Errorf("%q: %s of %s is %q", name, key, section, expr)
					}
				}
			}
		}
	}
}
