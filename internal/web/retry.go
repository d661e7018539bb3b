package web

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// Of the time that is left until the context's end, tries may begin in so
	// much: what follows needs some, too, if it is only to say what went wrong.
	budgetPart, budgetParts = 4, 5
	// defaultBudget is for a context without an end.
	defaultBudget = 90 * time.Second
	// brief is how long what hardly ever heals is tried again.
	brief = 3 * time.Second

	firstPause, longestPause = 200 * time.Millisecond, 10 * time.Second
	// firstSpread is how widely tries are spread that are begun anew because a
	// server has too many: it doubles, up to longestPause.
	firstSpread = time.Second
)

type temporary struct {
	error
	brief, throttled bool
}

func (t temporary) Unwrap() error { return t.error }

// Temporary marks an error that another try may cure.
func Temporary(err error) error { return temporary{error: err} }

// Brief marks an error that another try may cure within seconds, or none.
func Brief(err error) error { return temporary{error: err, brief: true} }

// Throttled marks an error as Temporary, of a server that has too many requests
// and says so in words. Status 429 needs no mark.
func Throttled(err error) error { return temporary{error: err, throttled: true} }

// IsTemporary reports whether an error is marked by Temporary, Brief or Throttled.
func IsTemporary(err error) bool { return errors.As(err, new(temporary)) }

// A Budget bounds the tries of every Retry under a context. It is for callers
// who try again by themselves.
type Budget struct {
	limit time.Duration
	asked atomic.Int64
}

// Asked returns how long the server that ended the last Retry asked to wait, 0 if none did.
func (b *Budget) Asked() time.Duration { return time.Duration(b.asked.Load()) }

type budgetKey struct{}

// WithBudget returns a context under which no Retry begins a try after limit.
func WithBudget(ctx context.Context, limit time.Duration) (context.Context, *Budget) {
	b := &Budget{limit: limit}
	return context.WithValue(ctx, budgetKey{}, b), b
}

// budget returns how long tries may begin.
func budget(ctx context.Context) (time.Duration, *Budget) {
	left := defaultBudget
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end) * budgetPart / budgetParts
	}
	b, _ := ctx.Value(budgetKey{}).(*Budget)
	if b == nil {
		return left, new(Budget)
	}
	return min(left, b.limit), b
}

// Retry calls op until it succeeds, or fails with an error that is not marked
// by Temporary, Brief or Throttled. It goes on for four fifths of the time that
// is left until the context's end, with growing pauses and jitter, and waits at
// least as long as the last reply has asked for (Retry-After). Where that is
// longer than the time left, it ends at once. Each call gets a context that ends
// with the try. The error is the last one, unmarked.
func Retry[T any](ctx context.Context, op func(context.Context) (T, error)) (T, error) {
	limit, shared := budget(ctx)
	span, cancel := context.WithTimeout(ctx, limit) // of its end only the time is used
	defer cancel()
	end, _ := span.Deadline()
	var paces pacing
	for {
		last := new(note)
		try, cancel := context.WithTimeout(context.WithValue(ctx, noteKey{}, last), tryTimeout)
		value, err := op(try)
		cancel()
		var again temporary
		if err == nil || !errors.As(err, &again) {
			return value, err
		}
		err = again.error
		left := time.Until(end)
		if again.brief {
			left -= limit - min(limit, brief)
		}
		if ctx.Err() != nil || left <= 0 {
			return value, err
		}
		asked := last.wait()
		if asked > left {
			shared.asked.Store(int64(asked))
			return value, fmt.Errorf("%w; it asks to wait %s, longer than the time left", err, short(asked))
		}
		timer := time.NewTimer(paces.next(asked, left, again.throttled || last.throttled.Load()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return value, err
		}
	}
}

// pacing is how many pauses of either kind there were.
type pacing struct{ failures, refusals int }

// next returns how long to pause, at most left. After a failure that may be this
// request's own, the first pauses are short. A server that has too many requests,
// or says when to come back, has told many the same: they come back one by one
// only if each picks its moment from a time that grows until all fit in.
func (p *pacing) next(asked, left time.Duration, throttled bool) time.Duration {
	if asked == 0 && !throttled {
		pause := grown(firstPause, p.failures)
		p.failures++
		return min(time.Duration((0.5+rand.Float64())*float64(pause)), left)
	}
	spread := max(grown(firstSpread, p.refusals), min(asked, longestPause))
	p.refusals++
	wait := max(asked, min(firstPause/2, left))
	// Not min(wait, left): all that are left would come at the very end.
	return wait + time.Duration(rand.Float64()*float64(min(spread, left-wait)))
}

// grown doubles a pause so often, up to longestPause.
func grown(first time.Duration, times int) time.Duration {
	return min(first<<min(times, 16), longestPause)
}

// short is a duration without minutes and seconds that are none.
func short(d time.Duration) string {
	text := d.Round(time.Second).String()
	if d = d.Round(time.Second); d >= time.Minute && d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d >= time.Hour && d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// A note is what the last reply of a try said about the next one. It is in the
// try's context: SDKs do not hand headers on.
type note struct {
	asked     atomic.Int64
	throttled atomic.Bool
}

type noteKey struct{}

func (n *note) wait() time.Duration { return time.Duration(n.asked.Load()) }

// takeNote keeps for Retry what a reply asks for.
func takeNote(ctx context.Context, resp *http.Response) {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.asked.Store(int64(retryAfter(resp)))
		n.throttled.Store(resp.StatusCode == http.StatusTooManyRequests)
	}
}

// longestAsked is as good as for ever, and more does not fit a Duration.
const longestAsked = 365 * 24 * time.Hour

// retryAfter returns how long a reply asks to wait, 0 where it does not. (RFC
// 9110 §10.2.3; AWS has milliseconds in a field of its own.)
func retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode < 400 {
		return 0
	}
	if ms, err := strconv.ParseUint(resp.Header.Get("X-Amz-Retry-After"), 10, 64); err == nil {
		return time.Duration(min(ms, uint64(longestAsked/time.Millisecond))) * time.Millisecond
	}
	value := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return longestAsked
		}
		return time.Duration(min(seconds, uint64(longestAsked/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	wait := time.Until(at)
	if sent, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		wait = at.Sub(sent) // by the server's own clock
	}
	return min(max(wait, 0), longestAsked)
}
