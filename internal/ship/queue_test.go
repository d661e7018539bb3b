package ship_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/ship"
)

// taken is what a queue has sent, and what a place says to it.
type taken struct {
	mu      sync.Mutex
	objects []string
	parts   []string
	sizes   []int
	failed  []string
	reply   func(object string) error // nil for success
}

func (p *taken) send(b ship.Batch) error {
	p.mu.Lock()
	p.objects, p.sizes = append(p.objects, b.Object), append(p.sizes, len(b.Records))
	for _, r := range b.Records {
		p.parts = append(p.parts, r.Part)
	}
	reply := p.reply
	p.mu.Unlock()
	if reply == nil {
		return nil
	}
	return reply(b.Object)
}

func (p *taken) queue(required bool) *ship.Queue {
	return ship.NewQueue(ship.QueueConfig{Required: required, Send: p.send, Failed: func(err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failed = append(p.failed, err.Error())
	}})
}

func (p *taken) sent() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sizes)
}

// numbered is the record of a statement whose line has so many bytes.
func numbered(n, size int) ship.Record {
	return ship.Record{ID: "RUN1", Part: fmt.Sprintf("statement-%d", n), Time: noon, Line: []byte(strings.Repeat("x", size))}
}

// inOrder are the parts of that many records.
func inOrder(count int) (parts []string) {
	for n := range count {
		parts = append(parts, fmt.Sprintf("statement-%d", n+1))
	}
	return parts
}

// TestBatches: a batch has at most 500 records and 256 KiB, is of one day, and
// does not wait for more than a second.
func TestBatches(t *testing.T) {
	t.Parallel()
	night := func(n, size int) ship.Record {
		r := numbered(n, size)
		r.Time = r.Time.Add(time.Duration(n-1) * 12 * time.Hour)
		return r
	}
	for name, tt := range map[string]struct {
		record      func(n, size int) ship.Record
		count, size int
		want        []int
	}{
		"none":         {numbered, 0, 0, nil},
		"a few":        {numbered, 7, 1100, []int{7}},
		"many":         {numbered, 1201, 100, []int{500, 500, 201}},
		"long":         {numbered, 5, 100 << 10, []int{2, 2, 1}},
		"very long":    {numbered, 3, 300 << 10, []int{1, 1, 1}},
		"of many days": {night, 5, 10, []int{1, 2, 2}}, // from noon on
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var p taken
				open := make(chan struct{})
				p.reply = func(string) error { <-open; return nil } // all that fits into a batch is there when the next one is taken
				q := p.queue(true)
				for n := range tt.count {
					if err := q.Add(tt.record(n+1, tt.size)); err != nil {
						t.Fatal(err)
					}
					if n == 0 {
						synctest.Wait()
						if len(p.sent()) > 0 && tt.size < 256<<10 {
							t.Error("the first record is sent at once")
						}
					}
				}
				close(open)
				time.Sleep(time.Duration(len(tt.want)+1) * time.Second)
				if got := p.sent(); !slices.Equal(got, tt.want) {
					t.Errorf("batches of %v, want %v", got, tt.want)
				}
				if lost := q.Close(); lost != 0 || !slices.Equal(p.parts, inOrder(tt.count)) {
					t.Errorf("%d are lost, sent %q", lost, p.parts)
				}
				for i, name := range p.objects {
					if want := fmt.Sprintf("statements-%06d", i+1); name != want {
						t.Errorf("object %q, want %q", name, want)
					}
				}
			})
		})
	}
}

// TestBatchesAreDue: a record is on its way within a second, while others come.
func TestBatchesAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p taken
		q := p.queue(false)
		for n := range 10 {
			_ = q.Add(numbered(n+1, 10))
			time.Sleep(300 * time.Millisecond)
		}
		if got := p.sent(); !slices.Equal(got, []int{4, 4}) {
			t.Errorf("after three seconds batches of %v", got)
		}
		if lost := q.Close(); lost != 0 || !slices.Equal(p.sent(), []int{4, 4, 2}) {
			t.Errorf("%d are lost, batches of %v", lost, p.sizes)
		}
	})
}

// large are records of which the queue has room for eight.
const large = 1<<20 - 256

// TestSlowPlace: what a place does not take in time costs no more than the
// queue's room. It is lost where the place is not required; where it is, the
// statement waits.
func TestSlowPlace(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required: %t", required), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var p taken
				open := make(chan struct{})
				p.reply = func(string) error { <-open; return nil }
				q := p.queue(required)
				added := make(chan int, 100)
				go func() {
					for n := range 20 {
						if err := q.Add(numbered(n+1, large)); err != nil {
							t.Error(err)
						}
						added <- n + 1
						synctest.Wait() // for the queue to take the first
					}
					close(added)
				}()
				time.Sleep(time.Minute)
				want, lost := 20, 11 // one is on its way, eight wait
				if required {
					want, lost = 9, 0
				}
				if len(added) != want {
					t.Errorf("%d are added, want %d", len(added), want)
				}
				close(open)
				for range added {
				}
				if got := q.Close(); got != lost || len(p.parts) != 20-lost {
					t.Errorf("%d are lost, want %d; sent %q", got, lost, p.parts)
				}
				if !slices.Equal(p.parts, inOrder(20-lost)) {
					t.Errorf("sent %q", p.parts)
				}
			})
		})
	}
}

// TestFailingPlace: of a place that is required nothing more goes on, not even
// what waits for room; elsewhere the next batch is tried.
func TestFailingPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p taken
		p.reply = func(object string) error {
			time.Sleep(30 * time.Second)
			return errors.New(object + " is refused")
		}
		q := p.queue(true)
		refused := 0
		for n := range 20 {
			if err := q.Add(numbered(n+1, large)); err != nil {
				if refused++; err.Error() != "statements-000001 is refused" {
					t.Error(err)
				}
			}
		}
		if refused < 10 {
			t.Errorf("%d are refused, want all after the first batch", refused)
		}
		if lost := q.Close(); lost != 20 || !slices.Equal(p.failed, []string{"statements-000001 is refused"}) {
			t.Errorf("%d are lost, failed %q", lost, p.failed)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var p taken
		p.reply = func(object string) error {
			if object == "statements-000002" {
				return errors.New("busy")
			}
			return nil
		}
		q := p.queue(false)
		for n := range 3 {
			if err := q.Add(numbered(n+1, 300<<10)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if lost := q.Close(); lost != 1 || !slices.Equal(p.objects, []string{"statements-000001", "statements-000002", "statements-000003"}) ||
			!slices.Equal(p.failed, []string{"busy"}) {
			t.Errorf("%d are lost, sent %q, failed %q", lost, p.objects, p.failed)
		}
		if err := q.Add(numbered(4, 10)); err == nil || err.Error() != "the run is over" {
			t.Errorf("after the end: got %v", err)
		}
	})
}

// TestManySessions add at once: each record is sent once.
func TestManySessions(t *testing.T) {
	t.Parallel()
	var p taken
	q := p.queue(true)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 500 {
				if err := q.Add(numbered(i*500+n+1, 100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if lost := q.Close(); lost != 0 {
		t.Errorf("%d are lost", lost)
	}
	slices.Sort(p.parts)
	if want := slices.Sorted(slices.Values(inOrder(4000))); !slices.Equal(p.parts, want) {
		t.Errorf("%d are sent, want 4000", len(p.parts))
	}
}
