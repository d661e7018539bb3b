package job

import (
	"context"
	"errors"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// TestWait: a run waits for a part of start_jitter, of the time that it has at
// most the half, and not at all where there is none or a person waits.
func TestWait(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind            string
		jitter, timeout time.Duration
		stop            time.Duration // when a signal comes, 0 for never
		longest, usual  time.Duration
		err             string
	}{
		"none":             {"github", 0, time.Minute, 0, 0, 0, ""},
		"a part of it":     {"github", 30 * time.Second, 2 * time.Minute, 0, 30 * time.Second, 15 * time.Second, ""},
		"half of the time": {"kubernetes", 10 * time.Minute, time.Minute, 0, 30 * time.Second, 15 * time.Second, ""},
		"a person":         {"people", 30 * time.Second, time.Minute, 0, 0, 0, ""},
		"a signal":         {"github", 10 * time.Minute, time.Hour, time.Nanosecond, time.Nanosecond, time.Nanosecond, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const runs = 400
				var all, longest time.Duration
				for range runs {
					ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
					ctx, stop := context.WithCancelCause(ctx)
					if tt.stop > 0 {
						time.AfterFunc(tt.stop, func() { stop(errors.New("stop")) })
					}
					said := ""
					a := attempt{jitter: tt.jitter, settings: Settings{Say: func(text string) { said = text }},
						source: source.Stored(policy.Identity{Kind: tt.kind}, func(context.Context) (secret.Value, error) { return secret.Value{}, nil })}
					begin := time.Now()
					err := a.wait(ctx)
					took := time.Since(begin)
					stop(nil)
					cancel()
					if text := errorText(err); text != tt.err {
						t.Fatalf("error is %q, want %q", text, tt.err)
					}
					if (said == "") != (tt.longest == 0) || said != "" && !regexp.MustCompile(`^waiting for [0-9.ms]+ of start_jitter before the first request$`).MatchString(said) {
						t.Fatalf("it says %q", said)
					}
					all, longest = all+took, max(longest, took)
				}
				if average := all / runs; longest > tt.longest || average < tt.usual*3/4 || average > tt.usual*5/4 {
					t.Errorf("the longest wait is %s, the average %s, want %s at most and about %s", longest, average, tt.longest, tt.usual)
				}
			})
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
