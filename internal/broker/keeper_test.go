package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// a provider gives credentials of a life, numbered, and can be down.
type provider struct {
	life  time.Duration
	calls atomic.Int32
	takes time.Duration
	err   atomic.Pointer[error]
}

func (p *provider) renew(ctx context.Context) (credential.Credential, error) {
	n := p.calls.Add(1)
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return credential.Credential{}, ctx.Err()
	}
	if err := p.err.Load(); err != nil {
		return credential.Credential{}, *err
	}
	return credential.Credential{ID: fmt.Sprint(n), Expiry: time.Now().Add(p.life)}, nil
}

func (p *provider) keeper() *broker.Keeper {
	return broker.NewKeeper(credential.Credential{ID: "0", Expiry: time.Now().Add(p.life)}, p.renew, time.Now)
}

func (p *provider) fail(err error) {
	if err == nil {
		p.err.Store(nil)
	} else {
		p.err.Store(&err)
	}
}

func checkCurrent(t *testing.T, k *broker.Keeper, want, wantErr string) {
	t.Helper()
	c, err := k.Current(t.Context())
	got := ""
	if err != nil {
		got = err.Error()
	}
	if c.ID != want || got != wantErr {
		t.Errorf("credential is %q, error %q, want %q, %q", c.ID, got, want, wantErr)
	}
}

func TestRenewedAheadOfItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: time.Second}
		k := p.keeper()
		time.Sleep(30 * time.Second)
		checkCurrent(t, k, "0", "")
		if n := p.calls.Load(); n != 0 {
			t.Errorf("renewed %d times with half of the life left", n)
		}
		time.Sleep(12 * time.Second) // 18 s are left: less than a third
		checkCurrent(t, k, "0", "")  // nobody waits while it lives
		time.Sleep(2 * time.Second)
		checkCurrent(t, k, "1", "")
		time.Sleep(2 * time.Minute) // nobody asked meanwhile
		checkCurrent(t, k, "2", "")
	})
}

// TestAboutToDie: nobody gets a credential that could die on its way while a
// new one is coming.
func TestAboutToDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: time.Second}
		k := p.keeper()
		time.Sleep(57 * time.Second)
		checkCurrent(t, k, "1", "")
		p.fail(errors.New("down"))
		time.Sleep(57 * time.Second)
		checkCurrent(t, k, "1", "") // better than none
	})
}

// TestOneRenewalForAll: a thousand clients at the credential's end are one exchange.
func TestOneRenewalForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: time.Second}
		k := p.keeper()
		time.Sleep(2 * time.Minute)
		var wait sync.WaitGroup
		for range 1000 {
			wait.Go(func() { checkCurrent(t, k, "1", "") })
		}
		wait.Wait()
		if n := p.calls.Load(); n != 1 {
			t.Errorf("%d exchanges for 1000 clients, want 1", n)
		}
	})
}

func TestProviderDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute}
		k := p.keeper()
		p.fail(errors.New("down"))
		time.Sleep(45 * time.Second)
		for range 10 { // the old one lives
			checkCurrent(t, k, "0", "")
			time.Sleep(time.Second)
		}
		if n := p.calls.Load(); n < 2 || n > 5 {
			t.Errorf("%d tries in 10 s, want a few, further and further apart", n)
		}
		time.Sleep(10 * time.Second)
		checkCurrent(t, k, "", "down")
		p.fail(nil)
		time.Sleep(2 * time.Second) // it is dead: whoever asks does not wait for long
		last := p.calls.Load()
		checkCurrent(t, k, fmt.Sprint(last+1), "")
	})
}

// TestFinal: what another try meets again is not tried again.
func TestFinal(t *testing.T) {
	t.Parallel()
	for _, class := range []fault.Class{fault.Denied, fault.NoIdentity, fault.Usage} {
		t.Run(class.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &provider{life: time.Minute}
				k := p.keeper()
				p.fail(fault.New(class, errors.New("no"), ""))
				time.Sleep(2 * time.Minute)
				checkCurrent(t, k, "", "no")
				time.Sleep(time.Hour)
				checkCurrent(t, k, "", "no")
				if n := p.calls.Load(); n != 1 {
					t.Errorf("%d tries, want 1", n)
				}
			})
		})
	}
}

// TestCallerGoes: a client that hangs up ends its own wait, not the renewal.
func TestCallerGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: 10 * time.Second}
		k := p.keeper()
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Current(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the caller's own", err)
		}
		time.Sleep(10 * time.Second)
		checkCurrent(t, k, "1", "")
		if n := p.calls.Load(); n != 1 {
			t.Errorf("%d exchanges, want 1", n)
		}
	})
}

// TestClockJumps: a clock that jumps ahead costs a renewal, one that jumps back costs nothing.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := &provider{life: time.Hour}
	renewed := 0
	k := broker.NewKeeper(credential.Credential{ID: "0", Expiry: now.Add(time.Hour)}, func(context.Context) (credential.Credential, error) {
		renewed++
		return credential.Credential{ID: fmt.Sprint(renewed), Expiry: now.Add(p.life)}, nil
	}, func() time.Time { return now })
	checkCurrent(t, k, "0", "")
	now = now.Add(48 * time.Hour)
	checkCurrent(t, k, "1", "")
	now = now.Add(-48 * time.Hour)
	checkCurrent(t, k, "1", "")
}

// TestCloseLetsARenewalEnd: what it gets is known to whoever cleans up.
func TestCloseLetsARenewalEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ takes, waits time.Duration }{{time.Second, time.Second}, {time.Minute, 3 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{life: time.Minute, takes: tt.takes}
			k := p.keeper()
			k.Close() // nothing is under way
			k = p.keeper()
			time.Sleep(45 * time.Second)
			checkCurrent(t, k, "0", "")
			synctest.Wait()
			began := time.Now()
			k.Close()
			if took := time.Since(began); took != tt.waits {
				t.Errorf("it waited %s for a renewal that takes %s, want %s", took, tt.takes, tt.waits)
			}
			if n := p.calls.Load(); n != 1 {
				t.Errorf("%d renewals, want 1", n)
			}
			time.Sleep(time.Hour)
			checkCurrent(t, k, "", "the run is over")
			if n := p.calls.Load(); n != 1 {
				t.Errorf("%d renewals after the end, want none", n-1)
			}
		})
	}
}
