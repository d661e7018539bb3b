//go:build e2e && linux && amd64

package act

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A mini runs the job of a reusable workflow as GitHub's runner does, with what
// act leaves empty: the job's own workflow, and actions of its commit (`$/`).
// It knows as much of expressions and actions as the workflows of its tests use.
type mini struct {
	t            *testing.T
	root         string // RUNNER_TEMP is the folder temp of it
	workspace    string
	caller       string            // the repository that checkout copies
	repositories map[string]string // folders by OWNER/REPOSITORY@COMMIT
	job          map[string]string // the context job: workflow_repository, workflow_sha
	inputs       map[string]string
	env          map[string]string // of the runner, then also of GITHUB_ENV and GITHUB_PATH
	steps        map[string]string // outputs, by steps.ID.outputs.NAME
	masks        standin.Masks
	log          strings.Builder
	posts        []func()
}

// A miniStep is a step of a workflow or of a composite action.
type miniStep struct {
	ID, Name, Uses, Run, If string
	Directory               string `yaml:"working-directory"`
	With, Env               map[string]string
}

// place is an action's folder, found as the runner finds it. (actions/runner
// v2.336.0, PipelineTemplateConverter and ActionManager)
func (m *mini) place(uses string) (dir string, err error) {
	invalid := fmt.Errorf("Expected format {org}/{repo}[/path]@ref. Actual '%s'", uses)
	repository, commit, path := m.job["workflow_repository"], m.job["workflow_sha"], ""
	if own, ok := strings.CutPrefix(uses, "$/"); ok {
		if path = strings.TrimLeft(own, "/"); path == "" {
			return "", invalid
		}
	} else {
		name, ref, ok := strings.Cut(uses, "@")
		parts := strings.SplitN(name, "/", 3)
		if !ok || len(parts) < 2 {
			return "", invalid
		}
		repository, commit = parts[0]+"/"+parts[1], ref
		if len(parts) == 3 {
			path = parts[2]
		}
	}
	from, ok := m.repositories[repository+"@"+commit]
	if !ok {
		return "", fmt.Errorf("Unable to resolve action `%s@%s`", repository, commit)
	}
	to := filepath.Join(m.root, "_actions", repository, commit)
	if _, err := os.Stat(to); err != nil {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			return "", err
		}
	}
	return filepath.Join(to, path), nil
}

var expression = regexp.MustCompile(`\$\{\{\s*([\w.-]+)\s*\}\}`)

// expand replaces expressions, which must be plain names.
func (m *mini) expand(text string, inputs map[string]string) string {
	text = expression.ReplaceAllStringFunc(text, func(found string) string {
		name := expression.FindStringSubmatch(found)[1]
		context, key, _ := strings.Cut(name, ".")
		switch context {
		case "inputs":
			return inputs[key]
		case "job":
			return m.job[key]
		case "steps":
			return m.steps[name]
		case "runner":
			return map[string]string{"temp": filepath.Join(m.root, "temp")}[key]
		}
		m.t.Fatalf("the mini runner does not know %s", found)
		return ""
	})
	if strings.Contains(text, "${{") {
		m.t.Fatalf("the mini runner does not know %q", text)
	}
	return text
}

// run runs the only job of a workflow, and then its posts in reverse. The error
// is that of the first step that failed.
func (m *mini) run(workflow string) (err error) {
	m.t.Helper()
	var file struct {
		On struct {
			Call struct {
				Inputs map[string]struct{ Default string }
			} `yaml:"workflow_call"`
		}
		Jobs map[string]struct{ Steps []miniStep }
	}
	if err := yaml.Load([]byte(workflow), &file); err != nil || len(file.Jobs) != 1 {
		m.t.Fatalf("the workflow has %d jobs: %v", len(file.Jobs), err)
	}
	inputs := map[string]string{}
	for name, in := range file.On.Call.Inputs {
		inputs[name] = m.expand(in.Default, nil)
	}
	maps.Copy(inputs, m.inputs)
	for _, job := range file.Jobs {
		for _, step := range job.Steps {
			if err = m.step(step, inputs, ""); err != nil {
				break
			}
		}
	}
	for _, post := range slices.Backward(m.posts) {
		post()
	}
	return err
}

// step runs one step, of the workflow or of a composite action in a folder.
func (m *mini) step(s miniStep, inputs map[string]string, action string) error {
	m.t.Helper()
	if s.If != "" {
		m.t.Fatalf("the mini runner does not know if: %s", s.If)
	}
	env := maps.Clone(m.env)
	for name, value := range s.Env {
		env[name] = m.expand(value, inputs)
	}
	if action != "" {
		env["GITHUB_ACTION_PATH"] = action
	}
	if s.Run != "" {
		script := filepath.Join(m.t.TempDir(), "script.sh")
		if err := os.WriteFile(script, []byte(m.expand(s.Run, inputs)), 0o600); err != nil {
			return err
		}
		bash, err := exec.LookPath("bash")
		if err != nil {
			return err
		}
		config := standin.StepConfig{Binary: bash, Args: []string{"--noprofile", "--norc", "-eo", "pipefail", script}, Env: env}
		_, err = m.process(s, config, filepath.Join(m.workspace, m.expand(s.Directory, inputs)))
		return err
	}
	if strings.HasPrefix(s.Uses, "actions/checkout@") {
		return os.CopyFS(m.workspace, os.DirFS(m.caller))
	}
	dir, err := m.place(s.Uses)
	if err != nil {
		return err
	}
	with := map[string]string{}
	for name, value := range s.With {
		with[name] = m.expand(value, inputs)
	}
	return m.action(s, dir, with, env)
}

// action runs an action: a composite's steps, or node with its main, and with
// its post at the end of the job.
func (m *mini) action(s miniStep, dir string, with, env map[string]string) error {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	if err != nil {
		return err
	}
	var file struct {
		Inputs, Outputs map[string]struct{ Default, Value string }
		Runs            struct {
			Using, Main, Post string
			Steps             []miniStep
		}
	}
	if err := yaml.Load(text, &file); err != nil {
		return err
	}
	for name, in := range file.Inputs {
		if _, ok := with[name]; !ok {
			with[name] = in.Default
		}
	}
	if file.Runs.Using == "composite" {
		for _, inner := range file.Runs.Steps {
			if err := m.step(inner, with, dir); err != nil {
				return err
			}
		}
		for name, out := range file.Outputs {
			m.steps["steps."+s.ID+".outputs."+name] = m.expand(out.Value, with)
		}
		return nil
	}
	config := standin.StepConfig{Binary: filepath.Join(node(m.t), "node"), Args: []string{filepath.Join(dir, file.Runs.Main)}, Inputs: with, Env: env}
	done, err := m.process(s, config, m.workspace)
	m.posts = append(m.posts, func() {
		config.Args, config.Env = []string{filepath.Join(dir, file.Runs.Post)}, maps.Clone(m.env)
		for name, value := range done.State {
			config.Env["STATE_"+name] = value
		}
		if _, err := m.process(miniStep{}, config, m.workspace); err != nil {
			m.t.Errorf("post: %v", err)
		}
	})
	return err
}

// process runs a step's process and takes over what it left in the runner's
// files. A mask hides a value only from its own line on.
func (m *mini) process(s miniStep, config standin.StepConfig, dir string) (*standin.Step, error) {
	m.t.Helper()
	config.Root, config.Workspace = m.root, dir
	config.Env["GITHUB_WORKSPACE"] = m.workspace
	done, err := standin.RunStep(m.t.Context(), config)
	if err != nil {
		m.t.Fatal(err)
	}
	shown, _ := m.masks.Show(done.Raw)
	m.log.WriteString(shown)
	for name, value := range done.Outputs {
		m.steps["steps."+s.ID+".outputs."+name] = value
	}
	maps.Copy(m.env, done.Env)
	if done.Path != "" {
		m.env["PATH"] = done.Path + ":" + m.env["PATH"]
	}
	if done.Status != 0 {
		return done, fmt.Errorf("step %q: status %d", s.Name+s.Uses+s.Run, done.Status)
	}
	return done, nil
}
