package job

import (
	"context"
	"math/rand/v2"
	"time"
)

// wait lets a random part of the policy's start_jitter pass before the first
// request of a run, so that runs that begin together do not ask together. It is
// at most half of the time that is left. People do not wait.
func (a *attempt) wait(ctx context.Context) error {
	longest := a.jitter
	if end, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(end)/2)
	}
	if longest <= 0 || a.source.Identity().Kind == "people" {
		return nil
	}
	part := time.Duration(rand.Float64() * float64(longest))
	if a.settings.Say != nil {
		a.settings.Say("waiting for " + part.Round(time.Second/10).String() + " of start_jitter before the first request")
	}
	timer := time.NewTimer(part)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
