package broker_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// throttled is a provider that asks to wait for 40 seconds.
type throttled struct{ asked atomic.Int32 }

func (p *throttled) RoundTrip(*http.Request) (*http.Response, error) {
	p.asked.Add(1)
	return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"40"}}, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// TestRenewsNoSoonerThanAsked: a renewal has two seconds of its own, and the
// next one begins when the provider lets it.
func TestRenewsNoSoonerThanAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := new(throttled)
		client := web.NewClient(p)
		k := broker.NewKeeper(credential.Credential{Expiry: time.Now().Add(time.Second)}, broker.KeeperConfig{
			Provider: "vault", Tell: func(error) {}, Now: time.Now,
			Renew: func(ctx context.Context, _ bool) (credential.Credential, error) {
				return web.Retry(ctx, func(ctx context.Context) (credential.Credential, error) {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://vault.example/", nil)
					if err != nil {
						return credential.Credential{}, err
					}
					resp, err := client.Do(req)
					if err != nil {
						return credential.Credential{}, web.Failed(err)
					}
					resp.Body.Close()
					return credential.Credential{}, web.Temporary(errors.New("status 429"))
				})
			},
		})
		time.Sleep(2 * time.Second)
		for _, tt := range []struct {
			patience time.Duration
			asked    int32
		}{{30 * time.Second, 1}, {15 * time.Second, 2}} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
			_, err := k.Current(ctx)
			cancel()
			if want := "status 429; it asks to wait 40s, longer than the time left"; err == nil || err.Error() != want {
				t.Errorf("error is %v, want %q", err, want)
			}
			if got := p.asked.Load(); got != tt.asked {
				t.Errorf("it was asked %d times, want %d", got, tt.asked)
			}
		}
	})
}
