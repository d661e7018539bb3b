package broker

import (
	"sync"
	"time"
)

// refusals counts refused callers and reports them at most once a minute, so that
// they cannot fill the audit log.
type refusals struct {
	tell func(count int)
	now  func() time.Time

	mu    sync.Mutex
	count int // not reported yet
	told  time.Time
}

const tellEvery = time.Minute

func (r *refusals) add() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if now := r.now(); now.Sub(r.told) >= tellEvery {
		r.told = now
		r.send()
	}
}

// flush reports those that were not reported yet.
func (r *refusals) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send()
}

func (r *refusals) send() {
	if r.count > 0 {
		r.tell(r.count)
		r.count = 0
	}
}
