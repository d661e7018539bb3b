package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// moment is a very short grace.
const moment = 5 * time.Millisecond

func TestBounded(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })

	if got, ok := process.Bounded(t.Context(), moment, func(context.Context) int { time.Sleep(4 * moment); return 7 }); got != 7 || !ok {
		t.Errorf("what takes longer than the grace, without an end, gives %d, %t", got, ok)
	}
	if got, ok := process.Bounded(ended, time.Hour, func(context.Context) int { return 7 }); got != 7 || !ok {
		t.Errorf("what returns after the end gives %d, %t", got, ok)
	}
	if got, ok := process.Bounded(ended, moment, func(context.Context) int { <-stuck; return 7 }); got != 0 || ok {
		t.Errorf("what never returns gives %d, %t", got, ok)
	}
	held := func(ctx context.Context) int {
		release := process.Hold(ctx)
		time.Sleep(4 * moment)
		release()
		return 7
	}
	if got, ok := process.Bounded(ended, moment, held); got != 7 || !ok {
		t.Errorf("what holds gives %d, %t", got, ok)
	}
	// Of two, the outer one waits too.
	if got, ok := process.Bounded(ended, moment, func(ctx context.Context) int {
		got, _ := process.Bounded(ctx, moment, held)
		return got
	}); got != 7 || !ok {
		t.Errorf("what holds within gives %d, %t", got, ok)
	}
	if got, ok := process.Bounded(ended, moment, func(ctx context.Context) int {
		process.Hold(ctx)()
		<-stuck
		return 7
	}); got != 0 || ok {
		t.Errorf("what never returns after it has held gives %d, %t", got, ok)
	}
	process.Hold(context.Background())() // without a Bounded around it
}
