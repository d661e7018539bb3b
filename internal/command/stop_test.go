//go:build linux

package command_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const stoppedRecord = "Logoff Success prod  stopped by `oidc-dbt stop`\n"

// waiting is a command that says when it runs, and does not end by itself.
func (s *step) waiting(before string) (script string, runs func() bool) {
	file := s.at("runs")
	return before + "touch '" + file + "'; while :; do sleep 0.2; done", func() bool {
		_, err := os.Stat(file)
		return err == nil
	}
}

// stop stops the only run, whose folder is dir, and holds what that says.
func (s *step) stop(pid int, dir string, args ...string) {
	s.t.Helper()
	status, said := s.run(append([]string{"stop"}, args...)...)
	if want := fmt.Sprintf("stopped: target \"prod\", process %d, folder %q\n", pid, dir); status != 0 || said != want {
		s.t.Errorf("stop: status is %d; it says %s want %s", status, said, want)
	}
	if status, said = s.run("stop"); status != 3 || !strings.HasPrefix(said, fmt.Sprintf("no run of yours was found in %q\nhint: ", s.at("temp"))) {
		s.t.Errorf("once more: status is %d; it says %s", status, said)
	}
}

// oneFolder is that of the only run.
func (s *step) oneFolder() string {
	s.t.Helper()
	folders, err := filepath.Glob(s.at("temp/oidc-dbt-step-*"))
	if err != nil || len(folders) != 1 {
		s.t.Fatalf("folders are %v, %v", folders, err)
	}
	return folders[0]
}

// checkStopped holds how a run ends that was stopped.
func (s *step) checkStopped(p *program, says string) {
	s.t.Helper()
	_ = p.Wait()
	if status := p.ProcessState.ExitCode(); status != 143 || !strings.HasSuffix(p.said.String(), says) {
		s.t.Errorf("the run's status is %d, want 143; it says %s, at last %s", status, p.said, says)
	}
	for _, secret := range s.secrets() {
		for line := range strings.Lines(p.said.String()) {
			if !strings.HasPrefix(line, "::add-mask::") && strings.Contains(line, secret) {
				s.t.Errorf("a secret is in the output: %s", line)
			}
		}
	}
}

// TestStop: each kind of run ends, with its command, and the log says why.
func TestStop(t *testing.T) {
	t.Parallel()
	t.Run("exec", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		script, runs := s.waiting("")
		p := s.process("exec", "--target", "prod", "--", "sh", "-c", script)
		p.begin(t)
		soon(t, "the command", runs)
		s.stop(p.Process.Pid, s.oneFolder())
		s.checkStopped(p, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
		s.checkEnd(issued + stoppedRecord)
	})
	t.Run("a command that ignores the signal", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		script, runs := s.waiting("trap '' TERM; ")
		p := s.process("exec", "--target", "prod", "--", "sh", "-c", script)
		p.begin(t)
		soon(t, "the command", runs)
		s.stop(p.Process.Pid, s.oneFolder(), "--all")
		s.checkStopped(p, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
		s.checkEnd(issued + stoppedRecord)
	})
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		script, runs := s.waiting("")
		s.env["INPUT_KEEP-FRESH"], s.env["INPUT_RUN"] = "false", script
		p := s.process()
		p.begin(t)
		soon(t, "the command", runs)
		folder := s.oneFolder()
		s.stop(p.Process.Pid, folder, "--dir", folder)
		s.checkStopped(p, "\n::error::stopped by `oidc-dbt stop`\n")
		s.env["STATE_folder"] = folder
		s.checkPost("")
		s.checkEnd(issued + stoppedRecord)
	})
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		dir := s.at("shared")
		side := s.serve("--dir", dir)
		s.oneFolder() // by which it is found
		s.stop(side.Process.Pid, dir)
		s.checkStopped(side.program, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the folder is left: %v", err)
		}
		s.checkEnd(issued + stoppedRecord)
	})
	t.Run("serve by its folder", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		side := s.serve("--dir", s.at("shared"))
		s.stop(side.Process.Pid, s.at("shared"), "--dir", "../shared")
		s.checkStopped(side.program, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
		s.checkEnd(issued + stoppedRecord)
	})
	t.Run("keep-fresh", func(t *testing.T) {
		t.Parallel()
		s := newFreshStep(t, time.Minute)
		s.handOver()
		folder, pid := s.folder(), s.daemon()
		s.stop(pid, folder)
		said := s.post()
		if !strings.HasPrefix(said, "::warning::while the credential was kept fresh:%0A") || !strings.HasSuffix(said, "Z: stopped by `oidc-dbt stop`\n") {
			t.Errorf("post says %s", said)
		}
		s.checkEnd(issued + stoppedRecord)
	})
}

// TestStopEndsLeases: they are revoked before the run is said to be gone.
func TestStopEndsLeases(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.policy(`
  prod:
    dbt: {type: postgres, host: 127.0.0.1, port: 5432, dbname: shop, schema: marts}
    exchange:
      vault: {address: $VAULT, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}`)
	script, runs := s.waiting("")
	p := s.process("exec", "--target", "prod", "--", "sh", "-c", script)
	p.begin(t)
	soon(t, "the command", runs)
	if s.vault.Tokens() == 0 {
		t.Error("no token is alive before")
	}
	s.stop(p.Process.Pid, s.oneFolder())
	if n := s.vault.Tokens(); n != 0 {
		t.Errorf("%d tokens are alive", n)
	}
	s.checkStopped(p, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
	s.checkEnd(issued + stoppedRecord + "Logoff Success prod\n")
}

// TestStopBeforeTheCredential: the run can be stopped before it has a broker.
func TestStopBeforeTheCredential(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.freshPolicy("$BAD/hang")
	p := s.process("exec", "--target", "prod", "--", "touch", s.at("ran"))
	p.begin(t)
	soon(t, "the decision", func() bool {
		log, err := os.ReadFile(s.at("temp/oidc-dbt/audit.jsonl"))
		return err == nil && strings.HasSuffix(string(log), "\n")
	})
	s.stop(p.Process.Pid, s.oneFolder())
	s.checkStopped(p, "\noidc-dbt: stopped by `oidc-dbt stop`: nothing was published\n")
	if _, err := os.Stat(s.at("ran")); !os.IsNotExist(err) {
		t.Errorf("the command ran: %v", err)
	}
	s.checkEnd("Preauth Success prod\nLogon Failure prod  stopped by `oidc-dbt stop`: nothing was published\n")
}

// TestStopSeveral: without a flag none of several is stopped; two at once stop all.
func TestStopSeveral(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	var sides []*sidecar
	for range 2 {
		sides = append(sides, s.serve())
		_ = os.Remove(s.at("ready"))
	}
	want := "oidc-dbt: 2 runs are found:\n"
	for _, side := range sides {
		want += fmt.Sprintf("target \"prod\", process %d, folder %q\n", side.Process.Pid, side.ready.ProfilesDir)
	}
	if status, said := s.run("stop"); status != 2 || said != want+"hint: name the folder of one with --dir, or stop all with --all\n" {
		t.Errorf("status is %d; it says %s want %s", status, said, want)
	}
	var stops []*program
	for range 2 {
		p := s.process("stop", "--all")
		p.begin(t)
		stops = append(stops, p)
	}
	said := ""
	for _, p := range stops {
		_ = p.Wait()
		if status := p.ProcessState.ExitCode(); status != 0 && status != 3 {
			t.Errorf("status is %d; it says %s", status, p.said)
		}
		said += p.said.String()
	}
	for _, side := range sides {
		if want := fmt.Sprintf("stopped: target \"prod\", process %d, ", side.Process.Pid); !strings.Contains(said, want) {
			t.Errorf("they say %s, want %s", said, want)
		}
		s.checkStopped(side.program, "\noidc-dbt: stopped by `oidc-dbt stop`\n")
	}
	s.checkFolders()
}

// TestStopAfterDenials records the same end as a stop, with its own reason.
func TestStopAfterDenials(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.write(policyFile, strings.Replace(s.file(policyFile), "    exchange:", "    guard: {statements: read, stop_after: 1}\n    exchange:", 1))
	side := s.serve()
	env, err := os.ReadFile(side.ready.Env)
	if err != nil {
		t.Fatal(err)
	}
	_, password, _ := strings.Cut(string(env), "DBT_ENV_SECRET_OIDC_PASSWORD='")
	password, _, _ = strings.Cut(password, "'")
	req, err := http.NewRequest(http.MethodPost, s.broker(side.ready.ProfilesDir)+"/?query=DROP+TABLE+facts", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("default", password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	told, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(told), "DROP TABLE at byte 0 is of class define, and `statements: read` admits read and session") {
		t.Errorf("the denial is %s, %v", told, err)
	}
	const ended = "the guard of target \"prod\" has denied 1 statement: the run is ended"
	s.checkStopped(side.program, "\noidc-dbt: "+ended+"\n")
	log := auditLines(s.audit())
	if !strings.HasSuffix(log, "Logoff Success prod  "+ended+"\n") || strings.Count(s.audit(), `"outcome":"stopped"`) != 1 {
		t.Errorf("the records are %s", log)
	}
	if want := `"why":"class define, and ` + "`statements: read`" + ` admits read and session"`; !strings.Contains(s.audit(), want) {
		t.Errorf("the records are %s, want %s", s.audit(), want)
	}
	s.checkFolders()
}

// TestStopAfterDenialsEndsTheCommand, whatever it makes of the denial.
func TestStopAfterDenialsEndsTheCommand(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.write(policyFile, strings.Replace(s.file(policyFile), "    exchange:", "    guard: {statements: read, stop_after: 2}\n    exchange:", 1))
	script, runs := s.waiting("")
	p := s.process("exec", "--target", "prod", "--", "sh", "-c",
		"env | grep ^DBT_ENV_SECRET_OIDC_PASSWORD= > '"+s.at("env")+"'; "+script+"; true")
	p.begin(t)
	soon(t, "the command", runs)
	env, err := os.ReadFile(s.at("env"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.drops(string(env)); got != http.StatusForbidden {
			t.Errorf("status is %d, want 403", got)
		}
	}
	s.checkStopped(p, "\noidc-dbt: the guard of target \"prod\" has denied 2 statements: the run is ended\n")
	s.checkFolders()
}

// drops sends a statement that is no reading, and returns the status of the reply;
// env is a line of the command's environment.
func (s *step) drops(env string) int {
	s.t.Helper()
	_, password, _ := strings.Cut(strings.TrimSpace(env), "=")
	req, err := http.NewRequest(http.MethodPost, s.broker(s.oneFolder())+"/?query=DROP+TABLE+facts", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("default", password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestObserved: the run says at its end how much an observing guard would have denied.
func TestObserved(t *testing.T) {
	t.Parallel()
	for sent, says := range []string{"", "1 statement would", "2 statements would"} {
		s := newFreshStep(t, time.Minute)
		s.write(policyFile, strings.Replace(s.file(policyFile), "    exchange:", "    guard: {statements: read, mode: observe, stop_after: 1}\n    exchange:", 1))
		p := s.process("exec", "--target", "prod", "--", "sh", "-c",
			"cd '"+s.at("temp")+"'; env | grep ^DBT_ENV_SECRET_OIDC_PASSWORD= > env; touch runs; until test -e go; do sleep 0.1; done; exit 7")
		p.begin(t)
		soon(t, "the command", func() bool { _, err := os.Stat(s.at("temp/runs")); return err == nil })
		env, err := os.ReadFile(s.at("temp/env"))
		if err != nil {
			t.Fatal(err)
		}
		for range sent {
			_ = s.drops(string(env))
		}
		if err := os.WriteFile(s.at("temp/go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait()
		if status := p.ProcessState.ExitCode(); status != 7 || !strings.Contains(p.said.String(), ", guard: statements: read, mode: observe, stop_after: 1, for ") {
			t.Errorf("status is %d, want 7; it says %s", status, p.said)
		}
		want := "oidc-dbt: " + says + " have been denied: see `oidc-dbt audit show --statements`, with the audit log " + s.at("temp/oidc-dbt/audit.jsonl") + "\n"
		if says == "" && strings.Contains(p.said.String(), "have been denied") || says != "" && !strings.HasSuffix(p.said.String(), want) {
			t.Errorf("after %d it says %s, want %s", sent, p.said, want)
		}
	}
}
