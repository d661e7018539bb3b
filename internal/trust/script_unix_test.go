//go:build unix

package trust

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bash runs a script as its owner does, and returns what is printed to each stream.
func bash(t *testing.T, s Script, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{file}, args...)...)
	var out, errors strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errors
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errors.String(), cmd.ProcessState.ExitCode()
}

func TestScriptRuns(t *testing.T) {
	t.Parallel()
	revoke := Script{About: []string{"Incident: it's a test."}, Late: true}
	revoke.run("1. Contain.", "echo contained")
	revoke.run("2. Abort.", command("echo", "stop", revoke.needs(Variable{Name: "WAREHOUSE_ID", Doc: "the warehouse's `id`"})))
	revoke.wait("3. Everyone.", "Stop it for everyone?")
	revoke.run("4. Prove.", "echo proved")
	revoke.undo("Open it.", command("echo", "opened", revoke.needs(Variable{Name: "PERSON", Doc: "who", Find: "echo ada"})))
	fails := Script{About: []string{"It fails."}}
	fails.run("1. First.", "test -e /nowhere")
	fails.run("2. Second.", "echo second")
	set := func(s Script, name, value string) Script {
		s.Variables = append([]Variable(nil), s.Variables...)
		for i := range s.Variables {
			if s.Variables[i].Name == name {
				s.Variables[i].Find = "echo " + value
			}
		}
		return s
	}
	known := set(revoke, "WAREHOUSE_ID", "w1")
	const stopped = "Stopped: the last command above failed, and nothing after it was run."
	for _, tt := range []struct {
		name, stdin string
		script      Script
		args        []string
		stdout      string
		stderr      []string
		status      int
	}{
		{"a variable that is not known comes after what does not need it", "", revoke, nil, "contained\n",
			[]string{"# 1. Contain.\necho contained", "WAREHOUSE_ID: set it to the warehouse’s id"}, 1},
		{"yes", "yes\n", known, nil, "contained\nstop w1\nproved\n", []string{"# 4. Prove."}, 0},
		{"no", "no\n", known, nil, "contained\nstop w1\n", []string{stopped}, 1},
		{"no answer", "", known, nil, "contained\nstop w1\n", []string{stopped}, 1},
		{"undo", "", revoke, []string{"undo"}, "opened ada\n", []string{"+ echo opened ada"}, 0},
		{"a command that fails", "", fails, nil, "", []string{"test -e /nowhere", stopped}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := bash(t, tt.script, tt.stdin, tt.args...)
			if stdout != tt.stdout || status != tt.status {
				t.Errorf("got %q and status %d, want %q and %d\n%s\n%s", stdout, status, tt.stdout, tt.status, stderr, tt.script)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("want %q in:\n%s", want, stderr)
				}
			}
		})
	}
}
