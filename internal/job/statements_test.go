package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/ship"
)

// kept is what a queue has sent, as an object of a bucket has it.
type kept struct {
	mu   sync.Mutex
	text strings.Builder
}

func (k *kept) send(b ship.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range b.Records {
		fmt.Fprintf(&k.text, "%s\n", r.Line)
	}
	return nil
}

// openStatements opens a file, and an outbox that send sends from.
func openStatements(t *testing.T, send func(ship.Batch) error) (file string, log *audit.StatementLog, s *statementShipping) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.OpenStatements(file, audit.Run{ID: "RUN1", Target: "prod"}, 0, 1, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	queue := ship.NewQueue(ship.QueueConfig{Required: true, Send: send, Failed: func(error) {}})
	return file, log, &statementShipping{run: ship.Record{ID: "RUN1"}, to: []*outbox{{Queue: queue, place: "otlp"}}}
}

// TestStatementsAreShippedAsTheyAreInTheFile, in the same order, whichever
// session they come from. After the end nothing is recorded, here or there.
func TestStatementsAreShippedAsTheyAreInTheFile(t *testing.T) {
	t.Parallel()
	var k kept
	file, log, s := openStatements(t, k.send)
	var all sync.WaitGroup
	for session := range 8 {
		all.Go(func() {
			for range 100 {
				if err := s.append(log, audit.Statement{Session: fmt.Sprint(session), Decision: "allowed", Class: "read"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := s.end(log); err != nil {
		t.Fatal(err)
	}
	const over = "append audit record: the run is over"
	if err := s.append(log, audit.Statement{Decision: "allowed"}); err == nil || err.Error() != over {
		t.Errorf("after the end: got %v, want %s", err, over)
	}
	if lost := s.to[0].Close(); lost != 0 {
		t.Errorf("%d are lost", lost)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := k.text.String(); got != string(text) || strings.Count(got, "\n") != 800 {
		t.Errorf("%d lines are shipped, and not those of the file", strings.Count(got, "\n"))
	}
}

// TestStatementsAreNotWaitedForLonger than the run's end allows, by whatever
// waits: what is sent, and a session that waits for room.
func TestStatementsAreNotWaitedForLonger(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit       time.Duration
		interrupted bool
		want        time.Duration
	}{
		"required":              {requiredTime, false, leftTime},
		"not required":          {shipTime, false, shipTime},
		"required, interrupted": {requiredTime, true, shipTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				place, cancel := context.WithCancelCause(context.Background())
				var warned []string
				o := &outbox{place: "otlp", limit: tt.limit, cancel: cancel, warn: func(err error) { warned = append(warned, err.Error()) }}
				o.Queue = ship.NewQueue(ship.QueueConfig{
					Required: true, Failed: func(error) {},
					Send: func(ship.Batch) error { <-place.Done(); return context.Cause(place) },
				})
				s := &shipping{statements: []*outbox{o}}
				if err := o.Add(ship.Record{Line: make([]byte, 8<<20-256)}); err != nil {
					t.Fatal(err)
				}
				refused := make(chan error)
				go func() {
					_ = o.Add(ship.Record{Line: make([]byte, 4<<20)})
					refused <- o.Add(ship.Record{Line: make([]byte, 8<<20-256)})
				}()
				ctx, interrupt := context.WithCancel(context.Background())
				defer interrupt()
				if tt.interrupted {
					interrupt()
				}
				began := time.Now()
				done := s.ending(ctx)
				want := fmt.Sprintf("not done within %s of the run's end", tt.want)
				if err := <-refused; err == nil || err.Error() != want {
					t.Errorf("a session that waits: got %v, want %s", err, want)
				}
				s.wait()
				s.wait() // at most once is said what was lost
				done()
				if took := time.Since(began); took != tt.want {
					t.Errorf("it takes %s, want %s", took, tt.want)
				}
				const lost = "records of statements that did not arrive at otlp: 3; the job's audit log has them"
				if len(warned) != 1 || warned[0] != lost {
					t.Errorf("warned %q, want %q", warned, lost)
				}
			})
		})
	}
}
