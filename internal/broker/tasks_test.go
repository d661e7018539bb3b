package broker

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A work is a warehouse's: it takes a number of requests to end a statement.
type work struct {
	mu              sync.Mutex
	statement, deaf int
	cancelled       []int // the statements that were
	hangs           bool
}

func (w *work) begin(statement int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statement = statement
}

func (w *work) task() *task {
	return &task{
		running: func() uint64 {
			w.mu.Lock()
			defer w.mu.Unlock()
			return uint64(w.statement)
		},
		cancel: func(ctx context.Context) {
			if w.hangs {
				<-ctx.Done()
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.cancelled = append(w.cancelled, w.statement)
			if w.deaf--; w.deaf < 0 {
				w.statement = 0
			}
		},
	}
}

// TestInterrupt: what was running is cancelled, and what begins at once
// behind it; what begins later is not.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		first int           // the statement that is running
		next  int           // another one,
		after time.Duration // that begins
		takes time.Duration // and ends by itself; 0 for never
		deaf  int           // requests that come to nothing
		want  []int
		left  int
	}{
		{name: "idle"},
		{name: "one statement", first: 1, want: []int{1}},
		{name: "a request that comes to nothing", first: 1, deaf: 2, want: []int{1, 1, 1}},
		{name: "the next node of a thread", first: 1, next: 2, after: 100 * time.Millisecond, want: []int{1, 2}},
		{name: "the next node of a slow thread", first: 1, next: 2, after: 900 * time.Millisecond, want: []int{1, 2}},
		{name: "a brief one behind it", first: 1, next: 2, after: 100 * time.Millisecond, takes: 200 * time.Millisecond, want: []int{1}},
		{name: "a clean-up", first: 1, next: 2, after: 1100 * time.Millisecond, want: []int{1}, left: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &work{statement: tt.first, deaf: tt.deaf}
				var ts tasks
				ts.add(w.task())
				go ts.interrupt(t.Context())
				time.Sleep(tt.after)
				synctest.Wait()
				if tt.next > 0 {
					w.begin(tt.next)
				}
				if tt.takes > 0 {
					time.Sleep(tt.takes)
					w.begin(0)
				}
				time.Sleep(10 * time.Second)
				w.mu.Lock()
				defer w.mu.Unlock()
				if !slices.Equal(w.cancelled, tt.want) || w.statement != tt.left {
					t.Errorf("cancelled %v, left %d, want %v and %d", w.cancelled, w.statement, tt.want, tt.left)
				}
			})
		})
	}
}

// TestTasksClose: everything that is running is cancelled, again where that
// came to nothing, and a warehouse that does not answer holds nothing up.
func TestTasksClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ts tasks
		idle, one, deaf, hangs := &work{}, &work{statement: 1}, &work{statement: 3, deaf: 1}, &work{statement: 1, hangs: true}
		for range 50 {
			ts.add((&work{statement: 1, hangs: true}).task())
		}
		for _, w := range []*work{idle, one, deaf, hangs} {
			ts.add(w.task())
		}
		began := time.Now()
		ts.close(false)
		if took := time.Since(began); took != cancelPatience {
			t.Errorf("it took %s, want %s", took, cancelPatience)
		}
		if len(idle.cancelled) != 0 || !slices.Equal(one.cancelled, []int{1}) || !slices.Equal(deaf.cancelled, []int{3, 3}) {
			t.Errorf("cancelled %v, %v, %v", idle.cancelled, one.cancelled, deaf.cancelled)
		}
		if ts.add(one.task()) {
			t.Error("something begins behind the end")
		}
	})
}

// message is one of PostgreSQL's, with an empty body or one of size bytes.
func pgMessage(kind byte, size int) string {
	return string([]byte{kind, byte((size + 4) >> 24), byte((size + 4) >> 16), byte((size + 4) >> 8), byte(size + 4)}) + strings.Repeat("Z", size)
}

// TestPostgresAtWork: c sends, s says; at each step it is known whether the
// server is at work, however the messages are cut.
func TestPostgresAtWork(t *testing.T) {
	t.Parallel()
	type step struct {
		side  byte
		kinds string
		want  uint64
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"queries", []step{{'c', "", 0}, {'c', "Q", 2}, {'s', "TDDC", 2}, {'s', "Z", 0}, {'c', "Q", 3}, {'s', "EZ", 0}}},
		{"notices of an idle session", []step{{'c', "Q", 2}, {'s', "CZ", 0}, {'s', "NSA", 0}}},
		{"extended", []step{{'c', "PBDE", 1}, {'c', "H", 1}, {'c', "S", 2}, {'s', "12TDC", 2}, {'s', "Z", 0}}},
		{"a pipeline", []step{{'c', "PBESPBES", 3}, {'s', "12CZ", 3}, {'s', "12CZ", 0}}},
		{"function call", []step{{'c', "F", 2}, {'s', "VZ", 0}}},
		{"copy in", []step{{'c', "Q", 2}, {'s', "G", 2}, {'c', "dddc", 2}, {'s', "CZ", 0}}},
		{"copy in that fails", []step{{'c', "Q", 2}, {'s', "G", 2}, {'c', "ddf", 2}, {'s', "EZ", 0}}},
		{"copy in, extended: the first Sync is ignored", []step{{'c', "PBES", 2}, {'s', "12G", 1}, {'c', "ddcS", 2}, {'s', "CZ", 0}, {'c', "Q", 3}, {'s', "Z", 0}}},
		{"copy out", []step{{'c', "Q", 2}, {'s', "Hddd", 2}, {'s', "cCZ", 0}}},
		{"the end", []step{{'c', "Q", 2}, {'s', "CZ", 0}, {'c', "X", 0}}},
	} {
		for _, size := range []int{0, 1, 40_000} {
			for _, piece := range []int{1, 3, 4, 5, 6, 7, 32 << 10, 1 << 30} {
				var w atWork
				for i, s := range tt.steps {
					text := ""
					for _, k := range []byte(s.kinds) {
						text += pgMessage(k, size)
					}
					take := w.sends
					if s.side == 's' {
						take = w.says
					}
					for p := range slices.Chunk([]byte(text), piece) {
						take(p)
					}
					if got := w.running(); got != s.want {
						t.Errorf("%s, bodies of %d in pieces of %d, step %d: running is %d, want %d", tt.name, size, piece, i, got, s.want)
					}
				}
			}
		}
	}
}

// FuzzPostgresFraming: however a stream is cut, the same messages are found.
func FuzzPostgresFraming(f *testing.F) {
	f.Add([]byte(pgMessage('Q', 3)+pgMessage('S', 0)), uint(1))
	f.Add([]byte("Z\x00\x00\x00\x00Q\xff\xff\xff\xff"), uint(4))
	f.Fuzz(func(t *testing.T, text []byte, piece uint) {
		find := func(piece int) (kinds []byte) {
			var f framing
			for p := range slices.Chunk(text, piece) {
				for {
					kind, rest, ok := f.next(p)
					if !ok {
						break
					}
					kinds, p = append(kinds, kind), rest
				}
			}
			return kinds
		}
		if whole, cut := find(len(text)+1), find(int(piece%64)+1); string(whole) != string(cut) {
			t.Errorf("%q and %q", whole, cut)
		}
	})
}

// TestGatherer: what is written while it holds goes out at once and in order,
// and a write that comes in between is not lost.
func TestGatherer(t *testing.T) {
	t.Parallel()
	var out written
	g := &gatherer{Conn: &out, buffers: newPool(8)}
	write := func(text string) {
		if n, err := g.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("wrote %d of %q, %v", n, text, err)
		}
	}
	for range 2 {
		write("a")
		g.hold()
		write("record")
		write("another record")
		if err := g.release(); err != nil {
			t.Error(err)
		}
	}
	write("z")
	if want := []string{"a", "recordanother record", "a", "recordanother record", "z"}; !slices.Equal(out.pieces, want) {
		t.Errorf("written in %q, want %q", out.pieces, want)
	}
}

// written is a connection that keeps what is written.
type written struct {
	net.Conn
	pieces []string
}

func (w *written) Write(b []byte) (int, error) {
	w.pieces = append(w.pieces, string(b))
	return len(b), nil
}
