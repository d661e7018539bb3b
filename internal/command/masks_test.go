//go:build linux

package command_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestMasksReachOnlyTheRunner: a step's script may redirect what `exec` and the
// command print to a file or another program. That contains no secret, and the
// runner still gets its masks if the stream that leads to it can be found.
func TestMasksReachOnlyTheRunner(t *testing.T) {
	t.Parallel()
	const run = `"$EXE" exec --target prod -- sh -c 'printf %s "$DBT_ENV_SECRET_OIDC_PASSWORD" >"$HELD"; echo from dbt'`
	for name, tt := range map[string]struct {
		script string
		masked bool
	}{
		"as it is":                             {run, true},
		"standard error to a file":             {run + ` 2>"$LOG"`, true},
		"both to a file":                       {run + ` >"$LOG" 2>&1`, true},
		"through tee":                          {run + ` 2>&1 | tee "$LOG"`, true},
		"standard error through tee":           {run + ` 2> >(tee "$LOG" >&2)`, true},
		"a group through cat":                  {`{ ` + run + `; } 2>&1 | cat >"$LOG"`, true},
		"a function's output":                  {`out=$(` + run + ` 2>&1); printf '%s\n' "$out" >"$LOG"`, true},
		"in a shell of its own":                {`bash -c "exec 2>\"$LOG\"; $EXE exec --target prod -- sh -c 'printf %s \"\$DBT_ENV_SECRET_OIDC_PASSWORD\" >$HELD; echo from dbt'"`, true},
		"closed":                               {run + ` 2>&-`, true},
		"the script's own streams through tee": {`exec > >(tee "$LOG") 2>&1; ` + run, false},
		"the script's own streams to a file":   {`exec >"$LOG" 2>&1; ` + run, false},
		"a background process of another session, without its parents": {`setsid sh -c "($EXE exec --target prod -- sh -c 'printf %s \"\$DBT_ENV_SECRET_OIDC_PASSWORD\" >$HELD; echo from dbt' >$LOG 2>&1; touch $DONE) &"; until test -e "$DONE"; do sleep 0.1; done`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			log, held := s.write("out.log", ""), s.at("held")
			s.env["EXE"], s.env["LOG"], s.env["HELD"], s.env["DONE"] = exe, log, held, s.at("done")
			script := s.write("step.sh", tt.script+"\n")
			cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", script)
			cmd.Dir, cmd.Env = s.at("workspace"), s.environ()
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr // by two pipes, as the runner has it
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
			}
			// A tee closes its output before it ends.
			soon(t, "the end of the script's programs", func() bool { return len(s.processes()) == 0 })
			password := s.file("held")
			seen := stdout.String() + stderr.String()
			written := s.file("out.log")
			if !strings.Contains(seen+written, "from dbt\n") || len(password) < 8 {
				t.Fatalf("it prints %s, the file has %s, the command's password is %q", seen, written, password)
			}
			masks := 0
			for line := range strings.Lines(seen) {
				if line == "::add-mask::"+password+"\n" {
					masks++
				} else if strings.Contains(line, "add-mask") {
					t.Errorf("a mask of what never leaves the process, or not on a line of its own: %q", line)
				}
			}
			if want := map[bool]int{true: 1}[tt.masked]; masks != want {
				t.Errorf("the runner gets %d masks, want %d: %s", masks, want, seen)
			}
			const warning = "oidc-dbt: warning: not masked in the job's log, since no stream was found that only the runner reads: DBT_ENV_SECRET_OIDC_PASSWORD; do not print them\n"
			if strings.Contains(seen+written, warning) == tt.masked {
				t.Errorf("masked is %t, and it says %s%s", tt.masked, seen, written)
			}
			for _, secret := range append(s.secrets(), password) {
				escaped, _ := json.Marshal(secret)
				for _, form := range []string{secret, string(escaped[1 : len(escaped)-1]), base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
					if strings.Contains(written, form) {
						t.Errorf("a secret is in the file: %s", written)
					}
					if plain := strings.ReplaceAll(seen, "::add-mask::"+password+"\n", ""); strings.Contains(plain, form) {
						t.Errorf("a secret is in the job's log: %s", plain)
					}
				}
			}
		})
	}
}
