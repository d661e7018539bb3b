package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Grace is how long a run may take to clean up and end: Docker and GitHub's
// runner kill a process after the same time.
const Grace = 10 * time.Second

// Bounded returns what f returns. If f has not returned within grace after ctx
// ended, Bounded stops waiting and ok is false: a call to a network file system
// that is gone, or to a pipe without a reader, may never return. Time in which
// f holds (see Hold) does not count.
func Bounded[T any](ctx context.Context, grace time.Duration, f func(context.Context) T) (value T, ok bool) {
	outer, _ := ctx.Value(patienceKey{}).(*patience)
	p := &patience{outer: outer}
	done := make(chan T, 1)
	go func() { done <- f(context.WithValue(ctx, patienceKey{}, p)) }()
	select {
	case value = <-done:
		return value, true
	case <-ctx.Done():
	}
	for {
		before := p.state()
		select {
		case value = <-done:
			return value, true
		case <-time.After(grace):
			if now := p.state(); now.holding == 0 && now == before {
				return value, false
			}
		}
	}
}

// Hold makes every Bounded around ctx wait until release is called. It is for
// operations that end by themselves and may take long, such as a command or a
// request.
func Hold(ctx context.Context) (release func()) {
	p, _ := ctx.Value(patienceKey{}).(*patience)
	for q := p; q != nil; q = q.outer {
		q.change(1)
	}
	return func() {
		for q := p; q != nil; q = q.outer {
			q.change(-1)
		}
	}
}

type patienceKey struct{}

// patience counts current holds, and changes of that count.
type patience struct {
	outer *patience
	mu    sync.Mutex
	count held
}

type held struct{ holding, changes int }

func (p *patience) change(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count.holding += by
	p.count.changes++
}

func (p *patience) state() held {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Main runs the program and returns its exit status: what run returns, or the
// signal's status if run does not return within Grace after the first SIGINT,
// SIGTERM or SIGHUP.
func Main(stderr io.Writer, run func(context.Context) int) (status int) {
	ctx, stop := Interruptible(context.Background())
	defer stop()
	status, ok := Bounded(ctx, Grace, run)
	if ok {
		return status
	}
	interrupt := Interrupt{}
	if !errors.As(context.Cause(ctx), &interrupt) {
		return 1
	}
	told := make(chan struct{})
	go func() {
		fmt.Fprintf(stderr, "oidc-dbt: %v: gave up after %s because a file or stream does not respond\n", interrupt, Grace)
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(time.Second): // stderr may be what blocks
	}
	return interrupt.Status()
}
