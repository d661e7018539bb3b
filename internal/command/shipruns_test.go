//go:build linux

package command_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// untilTold has the step query the warehouse through the broker until the test
// says that it is over, and print the statuses that are not 200.
const untilTold = `
	port=$(sed -n 's/.*port: //p' "$DBT_PROFILES_DIR/profiles.yml")
	until [ -e over ]; do
		code=$(curl -sS -o /dev/null -w '%{http_code}' --user "default:$DBT_ENV_SECRET_OIDC_PASSWORD" --data 'SELECT 1' "http://127.0.0.1:$port/")
		[ "$code" = 200 ] || echo "a query: $code"
		sleep 0.2
	done`

// TestRenewalsWhileTheCollectorIsDown: it goes down during a run and comes
// back. That is warned of once; where records are required, a renewal waits
// for it, and the command goes on all the same.
func TestRenewalsWhileTheCollectorIsDown(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required: %t", required), func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, 12*time.Second)
			p := startPlace(t, acknowledged)
			audit := "\naudit: {otlp: {endpoint: " + p.URL + "}}"
			if required {
				audit = "\naudit: {otlp: {endpoint: " + p.URL + "}, require: otlp}"
			}
			s.write(policyFile, strings.Replace(s.file(policyFile), "version: 1", "version: 1"+audit, 1))
			delete(s.env, "INPUT_KEEP-FRESH")
			s.env["INPUT_RUN"] = untilTold
			step := s.process()
			step.begin(t)
			const down = "ship the audit record to otlp: the collector replied with status 503"
			soon(t, "a renewal's records at the collector", func() bool { return len(p.lines()) >= 4 })
			p.set(answer(503))
			soon(t, "a warning", func() bool { return strings.Contains(step.said.String(), down) })
			failed := strings.Count(s.audit(), "\n")
			if !required { // further renewals are not warned of again
				soon(t, "two renewals", func() bool { return strings.Count(s.audit(), "\n") >= failed+4 })
			}
			p.set()
			arrived := len(p.lines())
			soon(t, "records at the collector again", func() bool { return len(p.lines()) >= arrived+2 })
			s.write("workspace/over", "")
			if err := step.Wait(); err != nil {
				t.Fatalf("%v: %s", err, step.said)
			}
			said := step.said.String()
			if strings.Contains(said, "a query: ") || strings.Count(said, down) != 1 {
				t.Errorf("want the failure once, and no query that fails:\n%s", said)
			}
			if renewal := strings.Contains(said, "warning: renew the credential: "+down); renewal != required {
				t.Errorf("a renewal has failed: %t, want %t:\n%s", renewal, required, said)
			}
			if hint := "hint: the policy requires it (audit.require): no credential is handed on without its records\n"; strings.Contains(said, hint) != required {
				t.Errorf("it says\n%s", said)
			}
			s.checkPost("")
			s.checkEnd(issued + issued)
			s.checkArrived(p)
			checkSecrets(t, map[string]string{"stdout": said, "audit": s.audit(), "output": s.file("commands/OUTPUT")}, s.secrets()...)
		})
	}
}

// checkArrived holds that what a place took is in the file.
func (s *step) checkArrived(p *place) {
	s.t.Helper()
	log := s.audit()
	for _, line := range p.lines() {
		if !strings.Contains(log, line+"\n") {
			s.t.Errorf("the file does not have\n%s", line)
		}
	}
}

// TestAnInterruptedRunShips: what was recorded by then arrives, if the place
// replies within a few seconds, and nothing is published.
func TestAnInterruptedRunShips(t *testing.T) {
	t.Parallel()
	for sig, status := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		for _, kind := range []string{"otlp", "bucket"} {
			t.Run(fmt.Sprintf("%s, %s", sig, kind), func(t *testing.T) {
				t.Parallel()
				s := newShippingStep(t)
				asked, reply := make(chan struct{}, 8), make(chan struct{})
				p := startPlace(t, acknowledged)
				audit := "{otlp: {endpoint: " + p.URL + "}, require: otlp}"
				if kind == "bucket" {
					p = s.startBucket()
					audit = bucketAt(p.URL, true)
				}
				p.set(func(w http.ResponseWriter, r *http.Request) {
					asked <- struct{}{}
					<-reply
					p.honest(w, r)
				})
				s.shippingPolicy(audit, aLease, "", "$STS")
				step := s.process()
				step.begin(t)
				for range 2 { // the credential is issued by now
					select {
					case <-asked:
					case <-time.After(5 * time.Minute):
						t.Fatalf("no record is sent: %s", step.said)
					}
				}
				if err := step.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				soon(t, "the signal", func() bool { return !pending(t, step.Process.Pid, sig) })
				close(reply)
				_ = step.Wait()
				want := "::error::stopped by signal: " + sig.String() + ": nothing was published\n"
				if got := step.ProcessState.ExitCode(); got != status || !strings.HasSuffix(step.said.String(), want) {
					t.Errorf("status is %d, want %d; it says\n%s", got, status, step.said)
				}
				if output := s.file("commands/OUTPUT"); strings.Contains(output, "password") {
					t.Errorf("outputs are %q, want no credential", output)
				}
				s.checkTaken(p)
				if n := s.vault.Tokens(); n != 0 || len(p.lines()) != 2 {
					t.Errorf("%d tokens are alive, want none; %d records have arrived, want 2", n, len(p.lines()))
				}
				s.checkFolders()
			})
		}
	}
}

// pending reports whether a process has not taken a signal yet.
func pending(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var mask uint64
		if _, err := fmt.Sscanf(line, "ShdPnd: %x", &mask); err == nil && mask&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}

// TestAnInterruptedRunIsNotHeldUp by a collector that never replies: that has
// five seconds after a signal, and after the step's time-out.
func TestAnInterruptedRunIsNotHeldUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		timeout string
		status  int
		says    string
	}{
		{"a signal", "2m", 143, "::error::stopped by signal: terminated: nothing was published\n"},
		{"the time-out", "3s", 7, "::error::ship the audit record to otlp: not finished after 3s, the limit of `timeout`%0A" +
			"hint: check that the server can be reached from this runner, or raise `timeout`\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newShippingStep(t)
			s.env["INPUT_TIMEOUT"] = tt.timeout
			asked := make(chan struct{}, 64)
			p := startPlace(t, acknowledged, func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				hang(r)
			})
			s.shippingPolicy("{otlp: {endpoint: "+p.URL+"}, require: otlp}", aLease, "", "$STS")
			step := s.process()
			step.begin(t)
			<-asked
			<-asked
			if tt.status == 143 {
				if err := step.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			_ = step.Wait()
			if status := step.ProcessState.ExitCode(); status != tt.status || !strings.HasSuffix(step.said.String(), tt.says) {
				t.Errorf("status is %d, want %d; it says\n%s\nwant\n%s", status, tt.status, step.said, tt.says)
			}
			s.checkLease(0, recordsOfLease)
		})
	}
}

// TestKilledRun leaves its decision where it was shipped, too, and `audit
// verify` finds there that the outcome is not known.
func TestKilledRun(t *testing.T) {
	t.Parallel()
	s := newShippingStep(t)
	asked := make(chan struct{}, 8)
	vault := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		hang(r)
	}))
	t.Cleanup(vault.Close)
	t.Cleanup(vault.CloseClientConnections)
	p := s.startBucket()
	s.shippingPolicy(bucketAt(p.URL, true), strings.Replace(aLease, "$VAULT", vault.URL, 1), "", "$STS")
	step := s.process()
	step.begin(t)
	<-asked
	soon(t, "the decision in the bucket", func() bool { return len(p.lines()) == 1 })
	step.end(t, syscall.SIGKILL)
	want := auditLines(strings.Join(ofTarget(s.audit(), "prod"), ""))
	shipped := strings.Join(append(p.lines(), ""), "\n")
	if got := auditLines(shipped); got != "Preauth Success prod\n" || got != want {
		t.Errorf("the bucket has\n%s\nthe file has\n%s", got, want)
	}
	var stdout bytes.Buffer
	status := command.Run(t.Context(), job.Env{
		Getenv: func(string) string { return "" }, Now: func() time.Time { return time.Now().Add(time.Hour) }, Transport: web.NewTransport(),
		Stdin: strings.NewReader(shipped), Stdout: &stdout, Stderr: &stdout, Dir: s.root, TempDir: s.root, Version: "v0.0.0-test",
	}, []string{"audit", "verify", "-"})
	if found := "standard input:1: medium: unknown-outcome: "; status != 8 || !strings.HasPrefix(stdout.String(), found) ||
		!strings.Contains(stdout.String(), "runs: 1, denied: 0, issued: 0, failed: 0, not finished: 0, findings: 1\n") {
		t.Errorf("status %d: %s\nwant 8 and %s", status, stdout.String(), found)
	}
}

// TestJobsAtOnce write to one file and one bucket.
func TestJobsAtOnce(t *testing.T) {
	t.Parallel()
	s := newShippingStep(t)
	p := s.startBucket()
	s.shippingPolicy(bucketAt(p.URL, true), aLease, "", "$STS")
	const jobs = 4
	var all sync.WaitGroup
	var steps []*program
	for i := range jobs {
		s.newCommandFiles(fmt.Sprint("job", i))
		step := s.process()
		steps = append(steps, step)
		all.Go(func() { _ = step.Run() })
	}
	all.Wait()
	for _, step := range steps {
		if status := step.ProcessState.ExitCode(); status != 0 {
			t.Errorf("status is %d: %s", status, step.said)
		}
	}
	s.checkTaken(p)
	if names := slices.Compact(slices.Sorted(slices.Values(p.names))); len(names) != 2*jobs {
		t.Errorf("%d objects, want %d: %q", len(names), 2*jobs, names)
	}
	checkRecords(t, s.audit())
	if lines := strings.Count(s.audit(), "\n"); lines != 4*jobs { // the bucket's credential is recorded, too
		t.Errorf("the file has %d records, want %d", lines, 4*jobs)
	}
}

// TestFullDiskShipsNothing: a record that the file does not have is sent
// nowhere, and its credential is not handed on.
func TestFullDiskShipsNothing(t *testing.T) {
	t.Parallel()
	s := newShippingStep(t)
	p := startPlace(t, acknowledged)
	s.shippingPolicy("{otlp: {endpoint: "+p.URL+"}}", aLease, "", "$STS")
	s.checkRun(0)
	s.post()
	lengths := []int{}
	for line := range strings.Lines(s.audit()) {
		lengths = append(lengths, len(line))
	}
	const blocks, size = 256, 256 * 512 // as `ulimit -f` counts
	for _, tt := range []struct {
		name  string
		room  int // in the file
		parts string
		says  string
	}{
		{"for a part of the decision", 100, "", "::error::append audit record: write FILE: file too large%0Ahint: free some disk space, "},
		{"for a part of the outcome", lengths[0] + 100, "Preauth Success prod\n", "::error::append audit record: write FILE: file too large%0A"},
	} {
		file := s.at("temp/oidc-dbt/audit.jsonl")
		if err := os.WriteFile(file, []byte(strings.Repeat("\n", size-tt.room)), 0o600); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		p.taken = nil
		p.mu.Unlock()
		s.newCommandFiles(filepath.Join("full", tt.name))
		step := s.process()
		step.Path, step.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0"`, blocks), step.Path}
		_ = step.Run()
		said := strings.ReplaceAll(step.said.String(), file, "FILE")
		if status := step.ProcessState.ExitCode(); status != 1 || !strings.Contains(said, tt.says) {
			t.Errorf("room %s: status %d and\n%s\nwant 1 and\n%s", tt.name, status, said, tt.says)
		}
		if got := auditLines(strings.Join(append(p.lines(), ""), "\n")); got != tt.parts {
			t.Errorf("room %s: the collector got\n%s\nwant\n%s", tt.name, got, tt.parts)
		}
		if output, err := os.ReadFile(s.env["GITHUB_OUTPUT"]); err != nil || strings.Contains(string(output), "password<<") {
			t.Errorf("room %s: it hands on\n%s", tt.name, output)
		}
		if n := s.vault.Tokens(); n != 0 {
			t.Errorf("room %s: %d tokens are alive, want none", tt.name, n)
		}
		// With room again, only the line that was cut is lost, and found.
		s.newCommandFiles(filepath.Join("room", tt.name))
		s.checkRun(0)
		_, found := s.run("audit", "verify", file)
		if n := strings.Count(found, ": damaged-line: "); n != 1 || strings.Contains(found, "outcome-without-decision") {
			t.Errorf("room %s: `audit verify` says\n%s", tt.name, found)
		}
		s.post()
	}
}
