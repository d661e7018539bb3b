package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A provider issues numbered credentials with one lifetime, and can be down.
type provider struct {
	life   time.Duration
	calls  atomic.Int32
	afresh atomic.Int32 // of these calls
	takes  time.Duration
	err    atomic.Pointer[error]
	told   []string
	mu     sync.Mutex // guards told
}

func (p *provider) renew(ctx context.Context, afresh bool) (credential.Credential, error) {
	n := p.calls.Add(1)
	if afresh {
		p.afresh.Add(1)
	}
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return credential.Credential{}, ctx.Err()
	}
	if err := p.err.Load(); err != nil {
		return credential.Credential{}, *err
	}
	return credential.Credential{ID: fmt.Sprint(n), Token: secret.New(fmt.Sprint(n)), Expiry: time.Now().Add(p.life)}, nil
}

func (p *provider) keeper() *broker.Keeper {
	return broker.NewKeeper(credential.Credential{ID: "0", Token: secret.New("0"), Expiry: time.Now().Add(p.life)}, broker.KeeperConfig{Provider: "vault", Renew: p.renew, Tell: p.tell, Now: time.Now})
}

func (p *provider) fail(err error) {
	if err == nil {
		p.err.Store(nil)
	} else {
		p.err.Store(&err)
	}
}

func (p *provider) tell(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, err.Error())
}

func (p *provider) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

// keeps returns the configuration of a keeper that gets its credentials from renew.
func keeps(renew func(context.Context) (credential.Credential, error), now func() time.Time) broker.KeeperConfig {
	return broker.KeeperConfig{
		Provider: "vault", Tell: func(error) {}, Now: now,
		Renew: func(ctx context.Context, _ bool) (credential.Credential, error) { return renew(ctx) },
	}
}

// checkCurrent asks as a client that waits for 2.5 seconds.
func checkCurrent(t *testing.T, k *broker.Keeper, want, wantErr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second/2)
	defer cancel()
	c, err := k.Current(ctx)
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
		checkCurrent(t, k, "0", "")  // callers do not wait while it is valid
		time.Sleep(2 * time.Second)
		checkCurrent(t, k, "1", "")
		time.Sleep(2 * time.Minute) // without a request
		checkCurrent(t, k, "2", "")
	})
}

// TestAboutToExpire: while a new credential is being fetched, no client gets
// one that could expire before it is used.
func TestAboutToExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: time.Second}
		k := p.keeper()
		time.Sleep(57 * time.Second)
		checkCurrent(t, k, "1", "")
		p.fail(errors.New("down"))
		time.Sleep(57 * time.Second)
		checkCurrent(t, k, "1", "") // still better than none
	})
}

// TestOneRenewalForAll: a thousand clients of an expired credential cause one exchange.
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
		for range 10 { // the old one is still valid
			checkCurrent(t, k, "0", "")
			time.Sleep(time.Second)
		}
		if n := p.calls.Load(); n < 2 || n > 5 {
			t.Errorf("%d tries in 10 s, want a few, further and further apart", n)
		}
		time.Sleep(10 * time.Second)
		checkCurrent(t, k, "", "down")
		p.fail(nil)
		time.Sleep(2 * time.Second) // it has expired: callers do not wait for long
		last := p.calls.Load()
		checkCurrent(t, k, fmt.Sprint(last+1), "")
	})
}

// TestFinal: an error that another try would meet again ends the renewals.
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

// TestCallerGoes: a client that hangs up ends its own wait and not the renewal.
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

// TestClockJumps: a clock that jumps ahead causes a renewal, one that jumps back does not.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := &provider{life: time.Hour}
	renewed := 0
	k := broker.NewKeeper(credential.Credential{ID: "0", Expiry: now.Add(time.Hour)}, keeps(func(context.Context) (credential.Credential, error) {
		renewed++
		return credential.Credential{ID: fmt.Sprint(renewed), Expiry: now.Add(p.life)}, nil
	}, func() time.Time { return now }))
	checkCurrent(t, k, "0", "")
	now = now.Add(48 * time.Hour)
	checkCurrent(t, k, "1", "")
	now = now.Add(-48 * time.Hour)
	checkCurrent(t, k, "1", "")
}

// TestCloseLetsARenewalEnd: so that clean-up knows the new credential.
func TestCloseLetsARenewalEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ takes, waits time.Duration }{{time.Second, time.Second}, {time.Minute, 3 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{life: time.Minute, takes: tt.takes}
			k := p.keeper()
			k.Close() // without a renewal
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

// TestWaitsOutAnOutage: a request without a valid credential waits for as long
// as its client does, and gets the next credential as soon as there is one.
func TestWaitsOutAnOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		down, took time.Duration
		id, err    string
	}{
		{"that ends", 3500 * time.Millisecond, 4 * time.Second, "5", ""},
		{"that does not", time.Hour, 9 * time.Second, "", "exchange ID token with \"vault\": down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &provider{life: time.Minute}
				k := p.keeper()
				time.Sleep(2 * time.Minute)
				p.fail(errors.New("exchange ID token with \"vault\": down"))
				began := time.Now()
				time.AfterFunc(tt.down, func() { p.fail(nil) })
				var clients sync.WaitGroup
				for range 100 {
					clients.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
						defer cancel()
						c, err := k.Current(ctx)
						got := ""
						if err != nil {
							got = err.Error()
						}
						if took := time.Since(began); c.ID != tt.id || got != tt.err || took != tt.took {
							t.Errorf("after %s: credential %q, error %q, want %q, %q after %s", took, c.ID, got, tt.id, tt.err, tt.took)
						}
					})
				}
				clients.Wait()
				if n := p.calls.Load(); n > 10 {
					t.Errorf("%d tries in %s, want one a second", n, tt.took)
				}
				if want := []string{"renew the credential: exchange ID token with \"vault\": down"}; !slices.Equal(p.heard(), want) {
					t.Errorf("told %q, want %q", p.heard(), want)
				}
			})
		})
	}
}

// TestLongOutage: after two minutes without a credential, a request waits for
// one more try instead of for as long as its client does.
func TestLongOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Minute, takes: 10 * time.Millisecond}
		k := p.keeper()
		time.Sleep(3 * time.Minute) // without a request, so that nothing has failed yet
		p.fail(errors.New("down"))
		for _, tt := range []struct{ least, most time.Duration }{{100 * time.Second, 100 * time.Second}, {20 * time.Second, 22 * time.Second}, {0, 2 * time.Second}, {0, 2 * time.Second}} {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			_, err := k.Current(ctx)
			cancel()
			if took := time.Since(began); err == nil || err.Error() != "down" || took < tt.least || took > tt.most {
				t.Errorf("told %v after %s, want \"down\" after %s to %s", err, took, tt.least, tt.most)
			}
		}
		p.fail(nil)
		checkCurrent(t, k, fmt.Sprint(p.calls.Load()+1), "")
		time.Sleep(2 * time.Minute)
		p.fail(errors.New("down")) // another outage
		began := time.Now()
		checkCurrent(t, k, "", "down")
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("waited %s, want as long as the client does", took)
		}
	})
}

// TestHangs: a provider that does not answer is reported once per outage.
func TestHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Hour, takes: 7 * time.Second}
		k := p.keeper()
		end := time.Now().Add(p.life).UTC().Format(time.RFC3339)
		hangs := `renew the credential with "vault": not finished after 5s (the current one expires at ` + end + ")"
		time.Sleep(50 * time.Minute)
		checkCurrent(t, k, "0", "")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(p.heard()) > 0 {
			t.Errorf("told %q after four seconds", p.heard())
		}
		p.fail(errors.New("down"))
		for range 3 {
			time.Sleep(time.Minute)
			checkCurrent(t, k, "0", "")
		}
		time.Sleep(10 * time.Second) // until the last call has ended
		told := p.heard()
		if want := []string{hangs, "renew the credential: down"}; !slices.Equal(told[:2], want) || slices.Contains(told[2:], hangs) {
			t.Errorf("told %q, want %q and no more of it", told, want)
		}
	})
}

// TestRefusedByTheWarehouse: a credential that is refused although it has not
// expired is replaced once for all its clients, and not too often.
func TestRefusedByTheWarehouse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: time.Hour, takes: time.Second}
		k := p.keeper()
		old, err := k.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		renew := func(c credential.Credential, want, wantErr string) credential.Credential {
			t.Helper()
			next, err := k.Renew(t.Context(), c)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if next.ID != want || got != wantErr {
				t.Errorf("credential is %q, error %q, want %q, %q", next.ID, got, want, wantErr)
			}
			return next
		}
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() { renew(old, "1", "") })
		}
		clients.Wait()
		first := renew(old, "1", "") // another caller has replaced it already
		const again = "the warehouse refused the credential, and a new one as well"
		for range 100 {
			renew(first, "", again)
		}
		checkCurrent(t, k, "1", "") // others may still be able to use it
		time.Sleep(30 * time.Second)
		second := renew(first, "2", "")
		p.fail(errors.New("down"))
		time.Sleep(30 * time.Second)
		renew(second, "", "down")
		checkCurrent(t, k, "2", "")
		if calls, afresh := p.calls.Load(), p.afresh.Load(); calls != 3 || afresh != 3 {
			t.Errorf("%d renewals, %d of them afresh, want 3 and 3", calls, afresh)
		}
		k.Close()
		time.Sleep(30 * time.Second)
		renew(second, "", "down")
		const begin, end = "the warehouse refused the credential, which should be valid until ", ": requesting a new one; " +
			"if that is refused as well, compare the warehouse's trust with the subject in the step's summary"
		if said := p.heard()[0]; !strings.HasPrefix(said, begin) || !strings.HasSuffix(said, end) {
			t.Errorf("told %q", p.heard())
		}
	})
}

// TestRefusedWhileExtended: extending a lease does not replace its login.
func TestRefusedWhileExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lease := credential.Credential{ID: "lease", Password: secret.New("old"), Expiry: time.Now().Add(time.Hour)}
		var asked []bool
		k := broker.NewKeeper(lease, broker.KeeperConfig{Provider: "vault", Tell: func(error) {}, Now: time.Now, Renew: func(_ context.Context, afresh bool) (credential.Credential, error) {
			asked = append(asked, afresh)
			time.Sleep(time.Second)
			if afresh {
				return credential.Credential{ID: "another", Password: secret.New("new"), Expiry: time.Now().Add(time.Hour)}, nil
			}
			next := lease
			next.Expiry = time.Now().Add(time.Hour)
			return next, nil
		}})
		time.Sleep(45 * time.Minute)
		checkCurrent(t, k, "lease", "") // starts to extend it
		next, err := k.Renew(t.Context(), lease)
		if err != nil || next.ID != "another" || !slices.Equal(asked, []bool{false, true}) {
			t.Errorf("credential is %q, %v, after %v, want another after an extension and a new lease", next.ID, err, asked)
		}
	})
}
