package standin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A StepConfig is one step of a job: the action's binary, or any program.
type StepConfig struct {
	Binary    string
	Args      []string // none for the action itself
	Root      string   // an existing folder, of which RUNNER_TEMP and the runner's files become part
	Workspace string
	Inputs    map[string]string // by name
	Env       map[string]string // next to the runner's own
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
	if err := os.MkdirAll(s.Temp, 0o755); err != nil {
		return nil, err
	}
	files, err := os.MkdirTemp(c.Root, "commands-*") // each step has files of its own
	if err != nil {
		return nil, err
	}
	env := machine()
	maps.Copy(env, map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REPOSITORY": "acme/analytics",
		"GITHUB_WORKSPACE": c.Workspace, "RUNNER_TEMP": s.Temp,
	})
	commands := []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"}
	for _, name := range commands {
		env["GITHUB_"+name] = filepath.Join(files, name)
		if err := os.WriteFile(env["GITHUB_"+name], nil, 0o644); err != nil {
			return nil, err
		}
	}
	for name, value := range c.Inputs {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = value
	}
	maps.Copy(env, c.Env)

	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Binary, c.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Workspace, &out, &out
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{} // nil would be this process's
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run the step: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("run the step: %w", err)
	}
	s.Status, s.Raw = cmd.ProcessState.ExitCode(), out.String()
	read := map[string]string{}
	for _, name := range commands {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			return nil, err
		}
		read[name] = string(text)
	}
	s.Path, s.Summary = strings.TrimSpace(read["PATH"]), read["STEP_SUMMARY"]
	for name, into := range map[string]*map[string]string{"OUTPUT": &s.Outputs, "ENV": &s.Env, "STATE": &s.State} {
		if *into, err = keyValues(read[name]); err != nil {
			return nil, fmt.Errorf("read GITHUB_%s: %w", name, err)
		}
	}
	return s, nil
}

// machine is the environment that a fresh runner gives every step. Nothing else
// of this process goes on: it may itself run under a CI system, or with a
// warehouse's variables set.
func machine() map[string]string {
	env := map[string]string{}
	for _, name := range []string{"PATH", "HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "SystemRoot", "LANG", "LC_ALL"} {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	return env
}

// keyValues reads a file of outputs, state or variables as the runner does:
// NAME=VALUE, or NAME<<DELIMITER, lines, DELIMITER. (actions/runner, FileCommandManager)
func keyValues(text string) (map[string]string, error) {
	values := map[string]string{}
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals > 0 && (heredoc < 0 || equals < heredoc):
			values[line[:equals]] = line[equals+1:]
		case heredoc > 0:
			name, delimiter := line[:heredoc], line[heredoc+2:]
			end := slices.Index(lines[i+1:], delimiter)
			if delimiter == "" || end < 0 {
				return nil, fmt.Errorf("value of %q: delimiter %q not found", name, delimiter)
			}
			values[name] = strings.Join(lines[i+1:i+1+end], "\n")
			i += end + 1
		default:
			return nil, fmt.Errorf("invalid line %q", line)
		}
	}
	return values, nil
}

// Masks are what the steps of a job have asked to be hidden, from then on in
// every line of the job.
type Masks []string

// Show passes what a step printed through the runner's filter: a mask is taken
// out of the log and kept. late tells whether a mask stood behind another line.
func (m *Masks) Show(raw string) (shown string, late bool) {
	var out strings.Builder
	for line := range strings.Lines(raw) {
		line = strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(line, "::add-mask::"); ok {
			late = late || out.Len() > 0
			*m = append(*m, unescape(value))
			continue
		}
		if strings.HasPrefix(line, "::") {
			line = unescape(line)
		}
		out.WriteString(m.Hide(line) + "\n")
	}
	return out.String(), late
}

// Hide replaces every mask, the longest first, so that none hides half of another.
func (m Masks) Hide(line string) string {
	longest := slices.Clone(m)
	slices.SortFunc(longest, func(a, b string) int { return len(b) - len(a) })
	for _, mask := range longest {
		if mask != "" {
			line = strings.ReplaceAll(line, mask, "***")
		}
	}
	return line
}

// unescape undoes what the runner's commands escape. (actions/toolkit, escapeData)
func unescape(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(s)
}

// Log returns what the runner shows of this step only. The error says that a
// mask came too late.
func (s *Step) Log() (log string, masks int, err error) {
	var m Masks
	log, late := m.Show(s.Raw)
	if late {
		err = errors.New("a mask stands behind another line")
	}
	return log, len(m), err
}
