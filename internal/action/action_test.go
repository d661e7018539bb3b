package action_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/action"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

const root = "../../"

// TestYAML holds both action.yml to their source, byte by byte.
func TestYAML(t *testing.T) {
	t.Parallel()
	golden.Compare(t, root+"action.yml", string(action.YAML("")))
	golden.Compare(t, root+action.WorkflowFolder+"/action.yml", string(action.YAML(action.WorkflowFolder)))
}

// released matches the image of container/action.yml: a release's, which only `go run ./release --prepare` writes.
var released = regexp.MustCompile(`(?m)^  image: (\S+)$`)

// TestContainerYAML holds container/action.yml to its source, and to action.yml.
func TestContainerYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "container/action.yml")
	if err != nil {
		t.Fatal(err)
	}
	image := ""
	if m := released.FindSubmatch(text); m != nil {
		image = string(m[1])
	}
	if !regexp.MustCompile(`^(\.\./Dockerfile|docker://ghcr\.io/oidc-dbt/oidc-dbt@sha256:[0-9a-f]{64})$`).MatchString(image) {
		t.Errorf("container/action.yml has the image %q, want ../Dockerfile or an image by its digest", image)
	}
	golden.Compare(t, root+"container/action.yml", string(action.ContainerYAML(image)))
	type declared struct {
		Inputs  map[string]map[string]string
		Outputs map[string]map[string]string
		Runs    map[string]any
	}
	var plain, got declared
	for text, into := range map[string]*declared{string(action.YAML("")): &plain, string(text): &got} {
		if err := yaml.Load([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"description": "Set by the runner: leave it out", "default": "${{ runner.temp }}"},
		got.Inputs["runner-temp"]); diff != "" {
		t.Errorf("runner-temp (-want +got):\n%s", diff)
	}
	delete(got.Inputs, "runner-temp")
	for _, name := range []string{"run", "keep-fresh"} {
		const want = "Cannot be used in the container action: use oidc-dbt/oidc-dbt in place of oidc-dbt/oidc-dbt/container"
		if got.Inputs[name]["description"] != want {
			t.Errorf("input %s: %q, want %q", name, got.Inputs[name]["description"], want)
		}
		got.Inputs[name]["description"] = plain.Inputs[name]["description"]
	}
	if diff := cmp.Diff(plain.Inputs, got.Inputs); diff != "" {
		t.Errorf("inputs (-action.yml, +container/action.yml):\n%s", diff)
	}
	if diff := cmp.Diff(plain.Outputs, got.Outputs); diff != "" {
		t.Errorf("outputs (-action.yml, +container/action.yml):\n%s", diff)
	}
	want := map[string]any{"using": "docker", "image": image, "args": []any{"container", "${{ inputs.runner-temp }}"},
		"post-entrypoint": "/oidc-dbt-post", "post-if": "always()"}
	if diff := cmp.Diff(want, got.Runs); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

// TestYAMLMeansWhatItSays reads action.yml as the runner does, and looks for
// everything that the declarations say.
func TestYAMLMeansWhatItSays(t *testing.T) {
	t.Parallel()
	// The runner refuses an action with an expression where it allows none, a description say.
	if strings.Contains(string(action.YAML("")), "${{") {
		t.Error("action.yml holds an expression")
	}
	type entry struct {
		Description string `yaml:"description"`
		Default     string `yaml:"default"`
	}
	var got struct {
		Name        string            `yaml:"name"`
		Description string            `yaml:"description"`
		Author      string            `yaml:"author"`
		Branding    map[string]string `yaml:"branding"`
		Inputs      map[string]entry  `yaml:"inputs"`
		Outputs     map[string]entry  `yaml:"outputs"`
		Runs        map[string]string `yaml:"runs"`
	}
	if err := yaml.Load(action.YAML(""), &got, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	if len(got.Inputs) != len(action.Inputs()) {
		t.Errorf("%d inputs, want %d", len(got.Inputs), len(action.Inputs()))
	}
	for _, in := range action.Inputs() {
		if have, ok := got.Inputs[in.Name]; !ok || have.Default != in.Default || have.Description == "" {
			t.Errorf("input %s: got %+v, want default %q and a description", in.Name, have, in.Default)
		}
		if in.Default != "" && in.Otherwise != "" {
			t.Errorf("input %s: two defaults, %q and %q", in.Name, in.Default, in.Otherwise)
		}
	}
	if len(got.Outputs) != len(action.Outputs()) {
		t.Errorf("%d outputs, want %d", len(got.Outputs), len(action.Outputs()))
	}
	for _, out := range action.Outputs() {
		have, ok := got.Outputs[out.Name]
		if !ok || have.Description == "" {
			t.Errorf("output %s: not in action.yml", out.Name)
		}
		if masked := strings.HasSuffix(have.Description, "(masked)"); masked != out.Secret {
			t.Errorf("output %s: said to be masked: %t, want %t", out.Name, masked, out.Secret)
		}
	}
	// GitHub's marketplace refuses a description of more than 125 characters.
	if n := len(got.Description); n > 125 {
		t.Errorf("description has %d characters, want at most 125", n)
	}
	want := map[string]string{"using": "node24", "main": "main.js", "post": "post.js", "post-if": "always()"}
	if diff := cmp.Diff(want, got.Runs); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	for _, file := range []string{got.Runs["main"], got.Runs["post"]} {
		if _, err := os.Stat(root + file); err != nil {
			t.Error(err)
		}
	}
}

var name = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

func TestNames(t *testing.T) {
	t.Parallel()
	var inputs, outputs []string
	for _, in := range action.Inputs() {
		inputs = append(inputs, in.Name)
	}
	for _, out := range action.Outputs() {
		outputs = append(outputs, out.Name)
	}
	for kind, names := range map[string][]string{"input": inputs, "output": outputs} {
		seen := map[string]bool{}
		for _, n := range names {
			if !name.MatchString(n) || seen[n] {
				t.Errorf("%s %q: not a plain name, or there twice", kind, n)
			}
			seen[n] = true
		}
	}
}

// TestReference holds the tables between their markers to their source.
func TestReference(t *testing.T) {
	t.Parallel()
	for marker, table := range map[string]string{"inputs": action.InputsTable(), "outputs": action.OutputsTable()} {
		golden.Table(t, root+"docs/reference.md", marker, table)
	}
}

// TestDockerfile: the image is built with the Go that go.mod names.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	find := func(file, pattern string) string {
		src, err := os.ReadFile(root + file)
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(pattern).FindSubmatch(src)
		if match == nil {
			t.Fatalf("%s: no %s", file, pattern)
		}
		return string(match[1])
	}
	want := find("go.mod", `(?m)^go (\S+)$`)
	if got := find("Dockerfile", `(?m)^ARG GO_IMAGE=golang:([0-9.]+)-alpine$`); got != want {
		t.Errorf("Dockerfile builds with Go %s, go.mod says %s", got, want)
	}
}
