package main

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

// A job is what a runner keeps for one job: its folders, and the masks that
// its steps have asked for.
type job struct {
	dir   string
	masks []string
}

func (j *job) workspace() string { return filepath.Join(j.dir, "workspace") }
func (j *job) temp() string      { return filepath.Join(j.dir, "temp") }
func (j *job) auditLog() string  { return filepath.Join(j.temp(), "oidc-dbt", "audit.jsonl") }

// commandFiles are the files by which a step speaks to the runner.
var commandFiles = []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"}

// A step is what came of one step.
type step struct {
	status   int
	shown    string // what the runner shows: masks applied
	raw      string // what the program printed
	lateMask bool   // a mask stands behind another line
	files    map[string]string
	outputs  map[string]string
	state    map[string]string
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

// step runs a program as a step of the job: the job's variables, then those of
// the step, files for its commands.
func (j *job) step(ctx context.Context, env map[string]string, name string, args ...string) (*step, error) {
	files, err := os.MkdirTemp(j.dir, "commands-*")
	if err != nil {
		return nil, err
	}
	all := machine()
	maps.Copy(all, map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REPOSITORY": "acme/analytics",
		"GITHUB_WORKSPACE": j.workspace(), "RUNNER_TEMP": j.temp(),
	})
	for _, name := range commandFiles {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return nil, err
		}
		all["GITHUB_"+name] = path
	}
	maps.Copy(all, env)

	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.workspace(), &out, &out
	cmd.WaitDelay = 5 * time.Second
	for name, value := range all {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run %s: %w", filepath.Base(name), err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &step{status: cmd.ProcessState.ExitCode(), raw: out.String(), files: map[string]string{}}
	s.shown, s.lateMask = j.show(s.raw)
	for _, name := range commandFiles {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			return nil, err
		}
		s.files[name] = string(text)
	}
	if s.outputs, err = keyValues(s.files["OUTPUT"]); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	if s.state, err = keyValues(s.files["STATE"]); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return s, nil
}

// show passes what a step printed through the runner's filter: a mask is
// taken out of the log, and from then on of every line of the job. late tells
// whether a mask stood behind a line that is no mask.
func (j *job) show(raw string) (shown string, late bool) {
	var out strings.Builder
	other := false
	for line := range strings.Lines(raw) {
		line = strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(line, "::add-mask::"); ok {
			late = late || other
			j.masks = append(j.masks, unescape(value))
			continue
		}
		other = true
		if strings.HasPrefix(line, "::") {
			line = unescape(line)
		}
		out.WriteString(j.mask(line) + "\n")
	}
	return out.String(), late
}

// mask replaces every mask, the longest first, so that none hides half of another.
func (j *job) mask(line string) string {
	masks := slices.Clone(j.masks)
	slices.SortFunc(masks, func(a, b string) int { return len(b) - len(a) })
	for _, m := range masks {
		if m != "" {
			line = strings.ReplaceAll(line, m, "***")
		}
	}
	return line
}

// unescape undoes what the runner's commands escape. (actions/toolkit, escapeData)
func unescape(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(s)
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
