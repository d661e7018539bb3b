//go:build e2e && linux && amd64

package accessreview

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const (
	repositories = 1000
	perTarget    = 100 // rules, one for each repository
	atOnce       = 50  // jobs that begin together: their decisions come before their outcomes
	maxRSS       = 128 // MB, for any number of records
)

// TestFleet pipes a year of records of a thousand repositories into the command: no file of them is ever there. RECORDS
// is their number, by default 100,000; ten million are 24 GB.
func TestFleet(t *testing.T) {
	records := 100_000
	if text := os.Getenv("RECORDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2*atOnce || n%(2*atOnce) != 0 {
			t.Fatalf("RECORDS is %q, want a multiple of %d", text, 2*atOnce)
		}
		records = n
	}
	dir := t.TempDir()
	sum := fleetPolicy(t, dir)
	cmd := exec.Command(setup.Binary(t), "audit", "review", "--period", "2025", "--records", "-")
	cmd.Dir = dir
	cmd.Env = setup.AtTerminal(os.Environ())
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	size, writeErr := writeFleet(t, pipe, records, sum)
	if err := cmd.Wait(); err != nil || writeErr != nil {
		t.Fatalf("%v, %v\n%s", err, writeErr, problems.String())
	}
	took, usage := time.Since(start), cmd.ProcessState.SysUsage().(*syscall.Rusage)
	t.Logf("%d records, %.1f GB, in %s: %.0f a minute; %s of processor time, at most %d MB of memory", records, float64(size)/1e9,
		took.Round(time.Second), float64(records)/took.Minutes(),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Second), usage.Maxrss>>10)
	if usage.Maxrss > maxRSS<<10 {
		t.Errorf("it needed %d MB of memory, want at most %d", usage.Maxrss>>10, maxRSS)
	}
	counted(t, out.String(), records)
}

// fleetPolicy commits a policy with a rule for each repository, and returns its hash.
func fleetPolicy(t *testing.T, dir string) (sum string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\ntargets:\n")
	for i := range repositories {
		if i%perTarget == 0 {
			fmt.Fprintf(&b, "  target-%d:\n    exchange:\n      aws: {role: \"arn:aws:iam::123456789012:role/dbt-%[1]d\", "+
				"region: eu-central-1}\n    trust_reviewed: 2025-10-01\n    allow:\n", i/perTarget)
		}
		fmt.Fprintf(&b, "      - {repository: acme/repository-%d, repository_id: \"%d\", environment: production}\n", i, 10_000+i)
	}
	setup.Write(t, dir, ".github/oidc-dbt.yml", b.String())
	shell(t, dir, "git", "init", "-q")
	shell(t, dir, "git", "add", ".")
	shell(t, dir, "git", "commit", "-q", "-m", "add the policy")
	return strings.Fields(shell(t, dir, "sha256sum", ".github/oidc-dbt.yml"))[0]
}

// writeFleet writes records, and closes the pipe. One job of fifty is denied, twice.
func writeFleet(t *testing.T, to io.WriteCloser, records int, sum string) (size int64, err error) {
	t.Helper()
	allowed, issued, denied := template(t, "allowed", sum), template(t, "issued", sum), template(t, "denied", sum)
	w := bufio.NewWriterSize(to, 1<<20)
	begin, year := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), 365*24*time.Hour
	var line []byte
	for job := 0; job < records/2 && err == nil; job += atOnce {
		at := begin.Add(time.Duration(float64(year) * float64(job) / float64(records/2))).UnixMilli()
		for half, templates := range [][2][]string{{allowed, denied}, {issued, denied}} {
			for n := job; n < job+atOnce; n++ {
				parts := templates[0]
				if isDenied(n) {
					parts = templates[1]
				}
				line = fill(line[:0], parts, n, at+int64(half)*1000)
				size += int64(len(line))
				_, err = w.Write(line)
			}
		}
	}
	if flushed := w.Flush(); err == nil {
		err = flushed
	}
	if closed := to.Close(); err == nil {
		err = closed
	}
	return size, err
}

func isDenied(job int) bool { return job%50 == 7 }

// What differs from record to record.
const (
	markID, markTime, markRepository, markTarget, markRule = "\x01I", "\x01T", "\x01R", "\x01G", "\x01N"
)

// template returns a record of the product's tests, cut at what differs from record to record: each part but the first
// begins with the letter of a mark.
func template(t *testing.T, name, sum string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "internal", "audit", "testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	marked := strings.NewReplacer(strings.Repeat("ab", 32), sum, "RUN1", markID, "1793620800000", markTime, "acme/analytics", markRepository,
		`"target":"prod"`, `"target":"`+markTarget+`"`, `"rule":{"index":1,"line":17,"number":2}`, `"rule":{"index":0,"line":1,"number":`+markRule+`}`,
		`"number":1,"rule":0`, `"number":`+markRule+`,"rule":0`, // of what did not match
		`,{"claim":"ref","got":"","line":17,"number":2,"rule":1,"want":"refs/heads/main"}`, "").Replace(b.String())
	return strings.Split(marked, "\x01")
}

// fill appends a job's record.
func fill(line []byte, parts []string, job int, at int64) []byte {
	line = append(line, parts[0]...)
	repository := job % repositories
	for _, part := range parts[1:] {
		switch part[0] {
		case markID[1]:
			line = fmt.Appendf(line, "%08x-5b1d-4c8e-9f3a-7d2e6c4b8a01", job)
		case markTime[1]:
			line = strconv.AppendInt(line, at, 10)
		case markRepository[1]:
			line = strconv.AppendInt(append(line, "acme/repository-"...), int64(repository), 10)
		case markTarget[1]:
			line = strconv.AppendInt(append(line, "target-"...), int64(repository/perTarget), 10)
		case markRule[1]:
			line = strconv.AppendInt(line, int64(repository%perTarget)+1, 10)
		}
		line = append(line, part[1:]...)
	}
	return append(line, '\n')
}

// counted holds the review's counts against those that were written.
func counted(t *testing.T, text string, records int) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\uFEFF"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	got := map[string]int{}
	for _, row := range rows[1:] {
		switch name := strings.TrimPrefix(row[0], "# "); {
		case name == "allow":
			got["rules"]++
			for _, name := range []string{"decisions", "denials", "credentials"} {
				n, _ := strconv.Atoi(row[column[name]])
				got[name] += n
			}
		case name == "repository":
			got["repositories"]++
		case strings.HasSuffix(name, "unreadable_lines"), name == "records", name == "credentials_without_decision",
			strings.HasPrefix(name, "decisions_by_"), name == "denials_near_no_rule":
			got["# "+name], _ = strconv.Atoi(row[1])
		}
	}
	refused := 0
	for job := range records / 2 {
		if isDenied(job) {
			refused++
		}
	}
	want := map[string]int{
		"rules": repositories, "repositories": min(repositories, records/2), "# records": records, "# unreadable_lines": 0,
		"decisions": records/2 - refused, "credentials": records/2 - refused, "denials": 2 * refused,
		"# decisions_by_other_policies": 0, "# decisions_by_former_rules": 0, "# denials_near_no_rule": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
