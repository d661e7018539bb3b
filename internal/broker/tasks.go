package broker

import (
	"context"
	"sync"
	"time"
)

// A task is where a client may have the warehouse at work: a session, or one
// statement.
type task struct {
	// running returns the number of the statement that the warehouse is at, 0
	// for none.
	running func() uint64
	// cancel asks the warehouse to end that. It returns when the warehouse has
	// been told, or ctx ends.
	cancel func(ctx context.Context)
	// detached is what its client does not wait for, so that only Halt ends it.
	detached bool

	ending sync.Mutex // held while it is being cancelled
}

// tasks are those of a route, to be cancelled when no client waits for them.
type tasks struct {
	mu     sync.Mutex
	all    map[*task]struct{}
	closed bool
}

// maxTasks bounds what is kept of statements whose clients have gone.
const maxTasks = 10_000

// add takes in a task, until remove. It reports false where the route has
// ended: then nothing may begin any more.
func (ts *tasks) add(t *task) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	if ts.all == nil {
		ts.all = map[*task]struct{}{}
	}
	if most := maxTasks; len(ts.all) < most && !(t.detached && len(ts.all) >= most/2) {
		ts.all[t] = struct{}{}
	}
	return true
}

func (ts *tasks) remove(t *task) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.all, t)
}

func (ts *tasks) list() []*task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]*task, 0, len(ts.all))
	for t := range ts.all {
		all = append(all, t)
	}
	return all
}

// cancelPatience bounds what cancelling may take, however many tasks there
// are: a warehouse that cannot be reached must not hold up the end of a run.
const cancelPatience = 2500 * time.Millisecond

// cancelAgain is when a statement that is still running is cancelled once
// more, since a request that overtakes its statement ends nothing, and how
// often it is looked at.
const cancelAgain, cancelLook = 500 * time.Millisecond, 5 * time.Millisecond

// end has the task's statement cancelled until it no longer runs, or
// cancelPatience is over.
func (t *task) end() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelPatience)
	defer cancel()
	t.ending.Lock()
	defer t.ending.Unlock()
	for t.running() != 0 && ctx.Err() == nil {
		t.cancel(ctx)
		for waited := time.Duration(0); waited < cancelAgain && t.running() != 0 && ctx.Err() == nil; waited += cancelLook {
			time.Sleep(cancelLook)
		}
	}
}

// close lets nothing begin any more, and ends everything that is running;
// detached tasks only if it is told to.
func (ts *tasks) close(detached bool) {
	ts.mu.Lock()
	ts.closed = true
	ts.mu.Unlock()
	var ended sync.WaitGroup
	for _, t := range ts.list() {
		if detached || !t.detached {
			ended.Go(t.end)
		}
	}
	ended.Wait()
}

// How long after an interrupt a statement still counts as one of those that
// were interrupted, how long it is seen to, and how often.
const (
	interruptBegin = time.Second
	interruptEnd   = 5 * time.Second
	interruptLook  = 250 * time.Millisecond
)

// interrupt cancels what is running, and what begins within the next second and
// keeps running: a thread of dbt whose statement was cancelled starts the next
// node if dbt has not yet told it to stop. Later statements, such as clean-up, are
// not cancelled.
func (ts *tasks) interrupt(ctx context.Context) {
	var seen map[*task]uint64 // nil the first time
	for since := time.Duration(0); ; since += interruptLook {
		now := map[*task]uint64{}
		for _, t := range ts.list() {
			if t.detached {
				continue
			}
			n := t.running()
			before, known := seen[t]
			switch {
			case n == 0, seen != nil && since > interruptBegin && before != n:
				continue
			case seen == nil, known && before == n:
				go t.cancelOnce(ctx)
			}
			now[t] = n
		}
		seen = now
		if since >= interruptBegin && len(seen) == 0 || since >= interruptEnd {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interruptLook):
		}
	}
}

// cancelOnce cancels, unless that is in progress.
func (t *task) cancelOnce(ctx context.Context) {
	if !t.ending.TryLock() {
		return
	}
	defer t.ending.Unlock()
	ctx, cancel := context.WithTimeout(ctx, cancelPatience)
	defer cancel()
	t.cancel(ctx)
}
