package login

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func TestMain(m *testing.M) {
	keyring.MockInit() // of the library: tests here that use it are not parallel
	os.Exit(m.Run())
}

func newAccount(t *testing.T, client string) *Account {
	t.Helper()
	return New(Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now, State: t.TempDir(), Say: func(string) {}},
		policy.Identity{Name: "engineers", Issuer: "https://issuer.example", ClientID: client, Audience: client})
}

// TestLargeTokens: what is larger than an entry may be is split, and no entry
// of before is left.
func TestLargeTokens(t *testing.T) {
	a := newAccount(t, "large")
	k := keys{a}
	for _, size := range []int{10, 3 * maxEntry, 40000, 10} {
		want := tokens{refresh: secret.New(strings.Repeat("r", size)), id: secret.New(strings.Repeat("i", size))}
		if err := k.write(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		before, err := k.index()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range before.Parts {
			if text, err := keyring.Get(service, part); err != nil || len(text) > maxEntry {
				t.Errorf("entry %s has %d bytes, %v", part, len(text), err)
			}
		}
		got, err := k.read(t.Context())
		if err != nil || got.refresh.SHA256() != want.refresh.SHA256() || got.id.SHA256() != want.id.SHA256() {
			t.Errorf("%d bytes: other tokens come back, %v", size, err)
		}
		if err := k.write(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		for _, part := range before.Parts {
			if _, err := keyring.Get(service, part); !errors.Is(err, keyring.ErrNotFound) {
				t.Errorf("entry %s is left: %v", part, err)
			}
		}
	}
	if err := k.remove(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := k.read(t.Context())
	if want := `read the login of identity "engineers": the keyring does not have it`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestNoKeyring is not parallel: the library has one keyring for all.
func TestNoKeyring(t *testing.T) {
	defer keyring.MockInit()
	a := newAccount(t, "none")
	for _, tt := range []struct{ fault, read, write string }{
		{"The name org.freedesktop.secrets was not provided by any .service files",
			"read the login from the keyring: The name org.freedesktop.secrets was not provided by any .service files",
			"store the login in the keyring: The name org.freedesktop.secrets was not provided by any .service files"},
		{keyring.ErrSetDataTooBig.Error(), "read the login from the keyring: data passed to Set was too big",
			"store the login in the keyring: data passed to Set was too big"},
		{"failed to unlock correct collection '/org/freedesktop/secrets/collection/login'",
			"read the login from the keyring: it is locked, and was not unlocked",
			"store the login in the keyring: it is locked, and was not unlocked"},
	} {
		keyring.MockInitWithError(errors.New(tt.fault))
		if _, err := (keys{a}).read(t.Context()); err == nil || err.Error() != tt.read {
			t.Errorf("error is %v, want %s", err, tt.read)
		}
		err := a.keep(t.Context(), tokens{refresh: secret.New("r"), id: secret.New("i")}, Keyring, "ann")
		if err == nil || err.Error() != tt.write {
			t.Errorf("error is %v, want %s", err, tt.write)
		}
		if a.SignedIn() {
			t.Error("a login that was not stored is noted")
		}
		// Before the provider is asked for anything: there is none.
		if _, err := a.SignIn(t.Context(), nil, false, Keyring); err == nil || err.Error() != tt.write {
			t.Errorf("sign in: error is %v, want %s", err, tt.write)
		}
	}
}

// TestLockedKeyring: one that waits for the person to unlock it does not hold a run for ever.
func TestLockedKeyring(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	_, err := bounded(ctx, func() (string, error) { <-release; return "", nil })
	if want := "the keyring does not answer; is it locked?"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if ctx.Err() != nil {
		t.Error("the run has ended, too, and would say so")
	}
}
