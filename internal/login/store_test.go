package login

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
	for _, tt := range []struct {
		fault       error
		read, write string
	}{
		{errors.New("The name org.freedesktop.secrets was not provided by any .service files"),
			"read the login from the keyring: The name org.freedesktop.secrets was not provided by any .service files",
			"store the login in the keyring: The name org.freedesktop.secrets was not provided by any .service files"},
		{keyring.ErrSetDataTooBig, "read the login from the keyring: data passed to Set was too big",
			"store the login in the keyring: data passed to Set was too big"},
		{&exec.Error{Name: "dbus-launch", Err: exec.ErrNotFound},
			"read the login from the keyring: this session has none", "store the login in the keyring: this session has none"},
		{errors.New("failed to unlock correct collection '/org/freedesktop/secrets/collection/login'"),
			"read the login from the keyring: it is locked, and was not unlocked",
			"store the login in the keyring: it is locked, and was not unlocked"},
	} {
		keyring.MockInitWithError(tt.fault)
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

// full is a store in which nothing can be written.
type full struct{ memory }

func (full) room(tokens) error { return errors.New("no space left on device") }

// TestNoRoom: a refresh token is not used where the next one could not be stored.
func TestNoRoom(t *testing.T) {
	a := newAccount(t, "full")
	a.memory = &tokens{refresh: secret.New("r"), id: secret.New("i")}
	_, err := a.renewed(t.Context(), full{memory{a}}, "", "") // a request would fail with other words
	const want = `refresh the login of identity "engineers": what comes of it could not be stored: no space left on device`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	place := filepath.Join(t.TempDir(), "gone", "session.json")
	_, err = a.exchangeRefresh(t.Context(), session{place: place, refresh: secret.New("r")})
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), strings.TrimSuffix(want, "no space left on device")) {
		t.Errorf("of a session of AWS: got %v", err)
	}
}

// TestEndpointIsALogin: where AWS is simulated, AWS's own session is not signed out.
func TestEndpointIsALogin(t *testing.T) {
	a := newAccount(t, "sso")
	names := map[string]bool{}
	for _, endpoint := range []string{"", "http://127.0.0.1:1", "http://127.0.0.1:2"} {
		a.id.AWSSSO = &policy.AWSSSO{StartURL: "https://acme.awsapps.com/start", Region: "eu-central-1", Endpoint: endpoint}
		names[a.name()] = true
	}
	if len(names) != 3 {
		t.Errorf("%d names of three logins", len(names))
	}
}
