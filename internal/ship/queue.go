package ship

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A batch is on its way within a second, and is small for a collector and for
// whoever reads the bucket.
const (
	maxBatch      = 500
	maxBatchBytes = 256 << 10
	linger        = time.Second
)

// maxQueued bounds the memory that a slow place costs: about 6,000 statements.
const maxQueued = 8 << 20

// recordSize is what a Record takes next to its line.
const recordSize = 256

var errRunOver = errors.New("the run is over")

// QueueConfig is what a Queue does with batches.
type QueueConfig struct {
	// Required: what is added waits for room, and nothing more is taken once a
	// batch has failed. Otherwise what finds no room, and batches that fail, are lost.
	Required bool
	Send     func(Batch) error // called with one batch after the other
	Failed   func(error)       // what Send returned
}

// A Queue sends the records of a run's statements in their order, in batches,
// next to the run. Its methods may be called by several at once.
type Queue struct {
	config QueueConfig
	done   chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	waiting []Record
	size    int // of waiting, in bytes
	due     bool
	closed  bool
	lost    int
	err     error // of a batch, where the place is required
}

// NewQueue returns a queue, which Close ends.
func NewQueue(c QueueConfig) *Queue {
	q := &Queue{config: c, done: make(chan struct{})}
	q.changed = sync.NewCond(&q.mu)
	go q.work()
	return q
}

// Add has a record sent. The error says that a place that is required does not
// take records any more.
func (q *Queue) Add(r Record) error {
	size := len(r.Line) + recordSize
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.config.Required && q.size+size > maxQueued && q.err == nil && !q.closed {
		q.changed.Wait()
	}
	switch {
	case q.err != nil:
		q.lost++
		return q.err
	case q.closed:
		q.lost++
		return errRunOver
	case q.size+size > maxQueued:
		q.lost++
		return nil
	}
	whole := q.whole()
	q.waiting, q.size = append(q.waiting, r), q.size+size
	if len(q.waiting) == 1 || q.whole() != whole {
		q.changed.Broadcast()
	}
	return nil
}

// Close sends what is waiting, and returns how many records were lost.
func (q *Queue) Close() (lost int) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.changed.Broadcast()
	<-q.done
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// whole reports whether no further record fits into the next batch.
func (q *Queue) whole() bool { return len(q.waiting) >= maxBatch || q.size >= maxBatchBytes }

// work sends batches until Close.
func (q *Queue) work() {
	defer close(q.done)
	for number := 1; ; number++ {
		records := q.next()
		if records == nil {
			return
		}
		err := q.config.Send(Batch{Object: fmt.Sprintf("statements-%06d", number), Records: records})
		if err == nil {
			continue
		}
		q.fail(len(records), err)
		q.config.Failed(err)
	}
}

// next waits for a batch that is whole or due; nil after Close, when nothing is left.
func (q *Queue) next() []Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
	}
	q.due = false
	timer := time.AfterFunc(linger, func() {
		q.mu.Lock()
		q.due = true
		q.mu.Unlock()
		q.changed.Broadcast()
	})
	for !q.whole() && !q.due && !q.closed {
		q.changed.Wait()
	}
	timer.Stop()
	return q.take()
}

// take takes the records of one batch. They are of one day: its name is in the
// object's.
func (q *Queue) take() []Record {
	n, lines, size := 0, 0, 0
	for n < min(len(q.waiting), maxBatch) {
		r := q.waiting[n]
		lines += len(r.Line) + 1
		if n > 0 && (lines > maxBatchBytes || day(r) != day(q.waiting[0])) {
			break
		}
		n, size = n+1, size+len(r.Line)+recordSize
	}
	if n == 0 {
		return nil
	}
	batch := slices.Clone(q.waiting[:n])
	q.waiting, q.size = slices.Delete(q.waiting, 0, n), q.size-size
	q.changed.Broadcast() // there is room
	return batch
}

// fail counts what is lost of a batch. Nothing more goes to a place that is required.
func (q *Queue) fail(records int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost += records; q.config.Required {
		q.lost += len(q.waiting)
		q.waiting, q.size, q.err = nil, 0, err
		q.changed.Broadcast()
	}
}
