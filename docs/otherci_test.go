package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// calls are the calls of oidc-dbt in the examples for other systems: in scripts and commands, as arguments of an image,
// and as lists of words.
var calls = regexp.MustCompile(`(?m)(?:^\s*- (?:run: )?oidc-dbt |oidc-dbt@sha256:[0-9a-f]{64} |^\s*args: )(\S.*)$|command: \[/tools/oidc-dbt, (.*)\]`)

// TestOtherCI holds the examples for other systems to their own languages as far as they are plain YAML, to our own
// commands, and to images that do not change.
func TestOtherCI(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/other-ci.md"]
	examples, help, called := map[string]int{}, map[string]string{}, map[string]bool{}
	for _, b := range blocks(page) {
		var example any
		if err := yaml.Load([]byte(b), &example); err != nil {
			t.Errorf("a block does not parse: %v\n%s", err, b)
			continue
		}
		examples[kindOf(example)]++
		for _, m := range calls.FindAllStringSubmatch(b, -1) {
			words := strings.Fields(m[1] + strings.ReplaceAll(m[2], ",", ""))
			called[words[0]] = true
			if err := knownFlags(t, help, words); err != nil {
				t.Errorf("%q: %v", words, err)
			}
		}
		if n, pinned := strings.Count(b, "ghcr.io/"), strings.Count(b, "@sha256:"); n != pinned {
			t.Errorf("%d of %d images are pinned by digest:\n%s", pinned, n, b)
		}
		// Kubernetes starts a job that fails six more times.
		if strings.Contains(b, "kind: CronJob") && !strings.Contains(b, "backoffLimit: 0") {
			t.Errorf("a review that is due is reported seven times:\n%s", b)
		}
		// A job of GitLab's, and a copy out of the image, need the one with a shell.
		if m := regexp.MustCompile(`\[cp,|entrypoint: \[""\]`).FindString(b); m != "" && !strings.Contains(b, "-busybox@sha256:") {
			t.Errorf("an example starts %q in the image without a shell:\n%s", m, b)
		}
	}
	for _, kind := range []string{"Buildkite", "CircleCI", "GitHub", "GitLab", "Kubernetes", "steps"} {
		if examples[kind] != 1 {
			t.Errorf("%d examples are for %s, want 1", examples[kind], kind)
		}
	}
	for _, command := range []string{"exec", "explain", "lint", "test-policy", "trust"} {
		if !called[command] {
			t.Errorf("no example calls %s: the test does not find its calls", command)
		}
	}
}

// kindOf tells whose the example is, by the keys that only this system has in this place.
func kindOf(example any) string {
	if _, ok := example.([]any); ok {
		return "steps"
	}
	object, ok := example.(map[string]any)
	if !ok {
		return fmt.Sprintf("%T", example)
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { _, ok := object[name]; return !ok })
	}
	switch {
	case has("on", "jobs", "permissions"):
		return "GitHub"
	case has("version", "jobs", "workflows"):
		return "CircleCI"
	case has("apiVersion", "kind", "metadata", "spec"):
		return "Kubernetes"
	case has("steps") && len(object) == 1:
		return "Buildkite"
	}
	for name, job := range object {
		if job, ok := job.(map[string]any); ok && job["script"] != nil && job["image"] != nil {
			return "GitLab"
		}
		return "a job without script: " + name
	}
	return "nothing"
}

// TestExplainIsAllowed: each call of explain with facts about a job ends well with the policy of the README. Those on
// explain's own page show a denial.
func TestExplainIsAllowed(t *testing.T) {
	t.Parallel()
	all := pages(t)
	policy := filepath.Join(t.TempDir(), "policy.yml")
	if err := os.WriteFile(policy, []byte(blocks(all["../README.md"])[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`oidc-dbt (explain .*--repository acme/\S+ .*)`)
	count := 0
	for page, text := range all {
		for _, m := range call.FindAllStringSubmatch(text, -1) {
			if page == "../docs/explain.md" {
				continue
			}
			count++
			if status, stdout, stderr := runTrust(t, append(strings.Fields(m[1]), "--policy", policy)...); status != 0 {
				t.Errorf("%s: %s ends with %d:\n%s%s", page, m[0], status, stdout, stderr)
			}
		}
	}
	if count < 3 {
		t.Errorf("found %d calls, want at least 3", count)
	}
}
