package standin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A StepConfig is one step of a job that runs the action's binary.
type StepConfig struct {
	Binary    string
	Args      []string // none for the action itself
	Root      string   // an existing folder, of which RUNNER_TEMP and the runner's files become part
	Workspace string
	Inputs    map[string]string // by name
	Env       map[string]string // beside the runner's own
}

// A Step is what came of a step.
type Step struct {
	Status  int
	Raw     string            // what the step printed, masks included
	Outputs map[string]string // GITHUB_OUTPUT
	Env     map[string]string // GITHUB_ENV
	State   map[string]string // GITHUB_STATE
	Path    string            // GITHUB_PATH
	Summary string
	Temp    string // RUNNER_TEMP
}

// RunStep runs a step as GitHub's runner does: inputs and files by variables.
func RunStep(ctx context.Context, c StepConfig) (*Step, error) {
	s := &Step{Temp: filepath.Join(c.Root, "temp")}
	files := filepath.Join(c.Root, "files")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.MkdirAll(s.Temp, 0o755)); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, c.Binary, c.Args...)
	cmd.Dir = c.Workspace
	cmd.Env = append(os.Environ(), "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_REPOSITORY=acme/analytics",
		"GITHUB_WORKSPACE="+c.Workspace, "RUNNER_TEMP="+s.Temp)
	read := map[string]*map[string]string{"OUTPUT": &s.Outputs, "ENV": &s.Env, "STATE": &s.State, "PATH": nil, "STEP_SUMMARY": nil}
	for name := range read {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, "GITHUB_"+name+"="+path)
	}
	for name, value := range c.Inputs {
		cmd.Env = append(cmd.Env, "INPUT_"+strings.ToUpper(name)+"="+value)
	}
	for name, value := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run the step: %w", err)
	}
	s.Status, s.Raw = cmd.ProcessState.ExitCode(), string(out)
	for name, into := range read {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			return nil, err
		}
		switch {
		case into != nil:
			*into = fileCommands(string(text))
		case name == "PATH":
			s.Path = strings.TrimSpace(string(text))
		default:
			s.Summary = string(text)
		}
	}
	return s, nil
}

// fileCommands reads a file of name<<delimiter values.
func fileCommands(text string) map[string]string {
	values := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		name, delimiter, ok := strings.Cut(lines[i], "<<")
		if !ok {
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != delimiter; i++ {
			value = append(value, lines[i])
		}
		values[name] = strings.Join(value, "\n")
	}
	return values
}

// Log returns what the runner shows: masks applied to what stands behind
// them. The error says that a mask came too late.
func (s *Step) Log() (log string, masks int, err error) {
	var hidden []string
	var out strings.Builder
	for line := range strings.Lines(s.Raw) {
		if mask, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "::add-mask::"); ok {
			if out.Len() > 0 {
				err = errors.New("a mask stands behind another line")
			}
			hidden = append(hidden, mask)
			continue
		}
		for _, m := range hidden {
			line = strings.ReplaceAll(line, m, "***")
		}
		out.WriteString(strings.ReplaceAll(line, "%0A", "\n"))
	}
	return out.String(), len(hidden), err
}
