//go:build linux

package command_test

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

var runID = regexp.MustCompile(`"correlation_uid":"([A-Z2-7]{26})"`)

// A fleet is a stream of runs with two records each, one of which is torn in
// the middle of the stream.
type fleet struct {
	decision, outcome string // in which RUN is the id
	size, most        int64
	runs              int
	cut               int // the torn line
	rest              string
	ended             func() // is called at the end of the stream
}

func (f *fleet) Read(to []byte) (int, error) {
	if f.rest == "" {
		if f.size >= f.most {
			f.ended()
			return 0, io.EOF
		}
		f.runs++
		id := fmt.Sprintf("%026d", f.runs)
		f.rest = strings.ReplaceAll(f.decision+f.outcome, "RUN", id)
		if f.cut == 0 && f.size > f.most/2 {
			f.cut, f.rest = 2*f.runs-1, f.rest[:len(f.rest)/4]+"\n"+f.rest
		}
		f.size += int64(len(f.rest))
	}
	n := copy(to, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// TestLargeLog: both commands read a log of 5 GiB from a pipe, of 64 MiB in
// most runs of this test, with a line torn in its middle, in bounded memory.
func TestLargeLog(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.checkRun(0)
	lines := strings.SplitAfter(s.audit(), "\n")
	id := runID.FindStringSubmatch(lines[0])[1]
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], id, "RUN")
	}
	most, limit := int64(64<<20), int64(96<<20) // of which half is the process itself
	switch sampling.Share {
	case 1:
		most, limit = 5<<30, 256<<20 // verify remembers each run
	case 16:
		most, limit = 16<<20, 1<<30 // the race detector's own memory is much more
	}
	for name, args := range map[string][]string{"show": {"audit", "show", "-"}, "show, filtered": {"audit", "show", "--json", "--target", "none", "-"},
		"verify": {"audit", "verify", "-"}} {
		p := s.process(args...)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := &fleet{decision: lines[0], outcome: lines[1], most: most}
			var used peak
			in.ended = func() { used.look(t, p.Process.Pid) }
			out := &counter{wrote: in.ended}
			p.Stdin, p.Stdout = in, out
			if err := p.Run(); err != nil && (name != "verify" || p.ProcessState.ExitCode() != 8) {
				t.Fatalf("%v: %s", err, p.said)
			}
			if used := used.Load(); used == 0 || used > limit {
				t.Errorf("%d MiB of memory for %d MiB of records, want %d at most", used>>20, in.size>>20, limit>>20)
			}
			switch name {
			case "show":
				if out.lines != in.runs+1 || !strings.Contains(p.said.String(), fmt.Sprintf("oidc-dbt: standard input:%d: is no audit record, or a part of one: ", in.cut)) {
					t.Errorf("%d lines for %d runs; it says %s", out.lines, in.runs, p.said)
				}
			case "show, filtered":
				if out.lines != 0 {
					t.Errorf("%d lines, want none", out.lines)
				}
			case "verify":
				want := fmt.Sprintf("standard input:%d: medium: damaged-line: is no audit record, or a part of one: unexpected end of JSON input\n"+
					"records: %d, runs: %d, denied: 0, issued: %[3]d, failed: 0, not finished: 0, findings: 1\n", in.cut, 2*in.runs, in.runs)
				if !strings.HasPrefix(out.head, want) {
					t.Errorf("it says\n%s\nwant\n%s", out.head, want)
				}
			}
		})
	}
}

// A peak is the most memory that a process had, in bytes. What the system tells
// of an ended child will not do: its count begins with its parent's memory.
type peak struct{ atomic.Int64 }

// look reads the peak of a process that has not ended yet.
func (p *peak) look(t *testing.T, pid int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return
	}
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Error(err)
		}
		for was := p.Load(); kib<<10 > was && !p.CompareAndSwap(was, kib<<10); was = p.Load() {
		}
	}
}

// A counter counts lines, and keeps the first.
type counter struct {
	lines int
	head  string
	wrote func() // is called at each write
}

func (c *counter) Write(p []byte) (int, error) {
	c.wrote()
	c.lines += strings.Count(string(p), "\n")
	if room := 4096 - len(c.head); room > 0 {
		c.head += string(p[:min(room, len(p))])
	}
	return len(p), nil
}
