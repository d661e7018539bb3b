package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A script is what a server says to one request after the other; the last one repeats.
type script []said

type said struct {
	status int
	header string // one field, "" for none
}

func (s script) client(tries *int) *http.Client {
	return web.NewClient(roundTripper(func(*http.Request) (*http.Response, error) {
		next := s[min(*tries, len(s)-1)]
		*tries++
		resp := &http.Response{StatusCode: next.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}
		for line := range strings.Lines(next.header) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			resp.Header.Set(name, value)
		}
		return resp, nil
	}))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// ask is an operation as the product's are.
func ask(client *http.Client) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://server.example/", nil)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, web.Failed(err)
		}
		resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusOK:
			return resp.StatusCode, nil
		case web.Transient(resp.StatusCode):
			return 0, web.Temporary(fmt.Errorf("status %d", resp.StatusCode))
		}
		return 0, fmt.Errorf("status %d", resp.StatusCode)
	}
}

// TestRetryByTime: tries go on for four fifths of the time that is left, and no
// sooner than a server asks for.
func TestRetryByTime(t *testing.T) {
	t.Parallel()
	busy := said{503, ""}
	ok := said{200, ""}
	tests := []struct {
		name         string
		timeout      time.Duration // 0 for none
		script       script
		least, most  time.Duration // that it takes
		fewest, last int           // tries
		err          string
	}{
		{"at once", time.Minute, script{ok}, 0, 0, 1, 1, ""},
		{"four times 503", time.Minute, script{busy, busy, busy, busy, ok}, 1500 * time.Millisecond, 4500 * time.Millisecond, 5, 5, ""},
		{"down for a minute", 2 * time.Minute, append(make(script, 0), busy), 96 * time.Second, 96 * time.Second, 10, 40, "status 503"},
		{"a short timeout", 5 * time.Second, script{busy}, 4 * time.Second, 4 * time.Second, 4, 12, "status 503"},
		{"no timeout", 0, script{busy}, 90 * time.Second, 90 * time.Second, 10, 40, "status 503"},
		{"no other try", time.Minute, script{{404, ""}}, 0, 0, 1, 1, "status 404"},
		{"Retry-After in seconds", time.Minute, script{{429, "Retry-After: 3"}, {429, "Retry-After: 3"}, {429, "Retry-After: 3"}, {429, "Retry-After: 3"}, ok}, 12 * time.Second, 30 * time.Second, 5, 5, ""},
		{"Retry-After with 503", time.Minute, script{{503, "Retry-After: 20"}, ok}, 20 * time.Second, 30 * time.Second, 2, 2, ""},
		{"Retry-After by the server's clock", time.Minute, script{{503, "Date: Sat, 27 Nov 2027 10:00:00 GMT\nRetry-After: Sat, 27 Nov 2027 10:00:30 GMT"}, ok}, 30 * time.Second, 40 * time.Second, 2, 2, ""},
		{"Retry-After without the server's clock", time.Minute, script{{503, "Retry-After: Sat, 01 Jan 2000 00:00:10 GMT"}, ok}, 10 * time.Second, 20 * time.Second, 2, 2, ""},
		{"Retry-After of yesterday", time.Minute, script{{503, "Retry-After: Fri, 31 Dec 1999 00:00:10 GMT"}, ok}, 0, time.Second, 2, 2, ""},
		{"Retry-After in nobody's words", time.Minute, script{{503, "Retry-After: soon"}, ok}, 0, time.Second, 2, 2, ""},
		{"a negative Retry-After", time.Minute, script{{503, "Retry-After: -10"}, ok}, 0, time.Second, 2, 2, ""},
		{"Retry-After: 0", time.Minute, script{{503, "Retry-After: 0"}, ok}, 0, time.Second, 2, 2, ""},
		{"AWS's milliseconds", time.Minute, script{{503, "X-Amz-Retry-After: 5500"}, ok}, 5500 * time.Millisecond, 11 * time.Second, 2, 2, ""},
		{"longer than the time left", 2 * time.Minute, script{{429, "Retry-After: 600"}}, 0, 0, 1, 1, "status 429; it asks to wait 10m, longer than the time left"},
		{"hours", 2 * time.Minute, script{{429, "Retry-After: 7200"}}, 0, 0, 1, 1, "status 429; it asks to wait 2h, longer than the time left"},
		{"for ever", 2 * time.Minute, script{{429, "Retry-After: 99999999999999999999999"}}, 0, 0, 1, 1, "status 429; it asks to wait 8760h, longer than the time left"},
		{"then longer than the time left", time.Minute, script{{429, "Retry-After: 30"}}, 30 * time.Second, 40 * time.Second, 2, 2, "status 429; it asks to wait 30s, longer than the time left"},
		{"too many requests, without a time", time.Minute, script{{429, ""}, {429, ""}, ok}, 200 * time.Millisecond, 3200 * time.Millisecond, 3, 3, ""},
		{"a failure, then too many requests", time.Minute, script{busy, {429, ""}, ok}, 200 * time.Millisecond, 1400 * time.Millisecond, 3, 3, ""},
		{"too many requests to the end", 2 * time.Minute, script{{429, ""}}, 50 * time.Second, 96 * time.Second, 10, 60, "status 429"},
		{"Retry-After of a refusal", time.Minute, script{{403, "Retry-After: 3"}}, 0, 0, 1, 1, "status 403"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.timeout)
					defer cancel()
				}
				tries, begin := 0, time.Now()
				_, err := web.Retry(ctx, ask(tt.script.client(&tries)))
				if took := time.Since(begin); took < tt.least || took > tt.most {
					t.Errorf("it took %s, want %s to %s", took, tt.least, tt.most)
				}
				if text(err) != tt.err || tries < tt.fewest || tries > tt.last {
					t.Errorf("error is %q after %d tries, want %q after %d to %d", text(err), tries, tt.err, tt.fewest, tt.last)
				}
			})
		})
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	once := errors.New("once")
	tests := []struct {
		name  string
		errs  []error // of each try; the last one repeats
		tries int     // 0 for as many as there is time for
		takes time.Duration
		err   string
	}{
		{"cured", []error{web.Temporary(once), web.Temporary(once), nil}, 3, 0, ""},
		{"not cured", []error{web.Temporary(once)}, 0, 8 * time.Second, "once"},
		{"hardly ever cured", []error{web.Brief(once)}, 0, 3 * time.Second, "once"},
		{"cured all the same", []error{web.Brief(once), nil}, 2, 0, ""},
		{"wrapped", []error{fmt.Errorf("wrapped: %w", web.Temporary(once)), nil}, 2, 0, ""},
		{"not temporary", []error{once}, 1, 0, "once"},
		{"then not temporary", []error{web.Temporary(once), errors.New("twice")}, 2, 0, "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				tries, begin := 0, time.Now()
				value, err := web.Retry(ctx, func(ctx context.Context) (int, error) {
					if end, ok := ctx.Deadline(); !ok || time.Until(end) > 10*time.Second {
						t.Error("the try has no time-out")
					}
					tries++
					return tries, tt.errs[min(tries, len(tt.errs))-1]
				})
				if text(err) != tt.err || tt.tries != 0 && tries != tt.tries {
					t.Errorf("error is %q after %d tries, want %q after %d", text(err), tries, tt.err, tt.tries)
				}
				if took := time.Since(begin); tt.takes != 0 && took != tt.takes {
					t.Errorf("it took %s, want %s", took, tt.takes)
				}
				if err == nil && value != tries {
					t.Errorf("value is %d, want the last try's", value)
				}
			})
		})
	}
}

// TestBudget: a caller that retries by itself bounds the retries below, and
// learns how long the server asks it to wait.
func TestBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script script
		takes  time.Duration
		asked  time.Duration
		err    string
	}{
		{"spent", script{{503, ""}}, 2 * time.Second, 0, "status 503"},
		{"asked for more", script{{429, "Retry-After: 30"}}, 0, 30 * time.Second, "status 429; it asks to wait 30s, longer than the time left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, budget := web.WithBudget(t.Context(), 2*time.Second)
				tries, begin := 0, time.Now()
				_, err := web.Retry(ctx, ask(tt.script.client(&tries)))
				if took := time.Since(begin); text(err) != tt.err || took != tt.takes || budget.Asked() != tt.asked {
					t.Errorf("got %q after %s, asked to wait %s; want %q after %s, %s", text(err), took, budget.Asked(), tt.err, tt.takes, tt.asked)
				}
			})
		})
	}
}

// TestRetryEndsWithTheContext: a signal ends a try that hangs, and a wait between tries.
func TestRetryEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]func(context.Context) (int, error){
		"in a try":   func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, web.Temporary(ctx.Err()) },
		"in between": func(context.Context) (int, error) { return 0, web.Temporary(errors.New("again")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("stop")) })
				begin := time.Now()
				if _, err := web.Retry(ctx, op); err == nil {
					t.Error("no error")
				}
				if took := time.Since(begin); took != 20*time.Millisecond {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		200: false, 301: false, 400: false, 401: false, 403: false, 404: false, 405: false, 407: false, 408: true, 409: false, 410: false,
		412: false, 425: true, 429: true, 500: true, 501: false, 502: true, 503: true, 504: true, 505: false, 511: false, 529: true,
	} {
		if got := web.Transient(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}

// FuzzRetryAfter: for any value from a server, a wait is within bounds.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "3", "-3", "1e9", " 7 ", "99999999999999999999", "Sat, 27 Nov 2027 10:00:30 GMT", "0x10", "३"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		tries := 0
		if _, err := web.Retry(ctx, ask(script{{503, "Retry-After: " + value}}.client(&tries))); err == nil || tries == 0 {
			t.Errorf("%q: %d tries, %v", value, tries, err)
		}
	})
}
