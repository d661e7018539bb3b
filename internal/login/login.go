// Package login signs people in at their company's identity provider and keeps them signed in: what is kept is in
// the operating system's keyring unless a file was asked for, and one process at a time uses it.
package login

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Env is the world as signing in sees it.
type Env struct {
	HTTP *http.Client // from web.NewClient
	Now  func() time.Time
	// Wait returns after a time, or with an error once ctx has ended; nil for the machine's clock.
	Wait  func(ctx context.Context, d time.Duration) error
	State string                 // the folder in which this user's logins are noted
	AWS   string                 // the folder in which the AWS CLI keeps its sign-ins; "" where none is known
	Say   func(text string)      // says something to the person
	Open  func(url string) error // shows an address in the person's browser; nil where there is none
	Keys  Keys                   // nil for the operating system's keyring
	// PolicyFlag is what another command needs in order to read the same policy, with a space before it; "" for nothing.
	PolicyFlag string
}

// An Account is a person's login with one client of an identity provider.
type Account struct {
	env Env
	id  policy.Identity

	mu      sync.Mutex
	memory  *tokens           // of a login that only this process has
	handed  map[string]string // the SHA-256 of the token that was handed out last, by its scope; "" for ID tokens
	session *session          // at IAM Identity Center, where only this process has it
	role    roleKeys          // the last ones
}

// New returns the account of an identity of kind people.
func New(env Env, id policy.Identity) *Account {
	if env.Wait == nil {
		env.Wait = wait
	}
	if env.Keys == nil {
		env.Keys = system{}
	}
	return &Account{env: env, id: id, handed: map[string]string{}}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// name is what the login is called in the keyring and the state folder. All
// policies that name the same client, or portal of AWS, share it.
func (a *Account) name() string {
	parts := []string{a.id.Issuer, a.id.ClientID, strings.Join(a.id.Scopes, " ")}
	if sso := a.id.AWSSSO; sso != nil {
		parts = []string{"aws_sso", sso.StartURL, sso.Region, sso.Session}
		if sso.Endpoint != "" { // where AWS is simulated, no session of AWS's is
			parts = append(parts, sso.Endpoint)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:12])
}

func (a *Account) path(extension string) string {
	return filepath.Join(a.env.State, "logins", a.name()+extension)
}

// NoState is the error, of class Usage, where no folder is known in which
// something could be kept.
func NoState() error {
	return fault.New(fault.Usage, errors.New("no folder of this user's is known to keep logins and approvals in"),
		"set HOME or XDG_STATE_HOME to an absolute path")
}

// lock waits until no other process uses the login.
func (a *Account) lock(ctx context.Context) (unlock func(), err error) {
	if a.env.State == "" {
		return nil, NoState()
	}
	if err := makeFolder(filepath.Dir(a.path(""))); err != nil {
		return nil, err
	}
	f, err := disk.Lock(ctx, a.path(".lock"))
	if err != nil {
		return nil, fmt.Errorf("wait for other processes that use the login: %w", disk.Cause(err))
	}
	return func() { f.Close() }, nil
}

// SignIn signs the person in and keeps the login in a store: one of Stores. The
// claims are those of the ID token, which v verifies as in every run. A login
// with `aws_sso` that is kept is in the AWS CLI's cache, with any store.
// Errors are of class NoIdentity where the provider or the person refuses,
// Rejected where what comes back is not the provider's reply to this,
// Unreachable where the provider does not answer as it should.
func (a *Account) SignIn(ctx context.Context, v *idtoken.Verifier, device bool, store string) (claims idtoken.Claims, err error) {
	if a.env.State == "" && store != Memory {
		return claims, NoState()
	}
	if a.id.AWSSSO != nil {
		return a.signInAtAWS(ctx, v, device, store)
	}
	if store == Keyring {
		if err := (keys{a}).usable(ctx); err != nil {
			return claims, err
		}
	}
	p, err := a.discover(ctx)
	if err != nil {
		return claims, err
	}
	finish := func(t tokens, nonce string) (err error) {
		if claims, err = a.verify(ctx, v, t, nonce); err != nil {
			return err
		}
		if t.refresh.IsZero() && store != Memory {
			return fault.New(fault.NoIdentity, errors.New("sign in: the provider gave no refresh token, so nothing can be kept"),
				"let the client ask for offline_access, with the grant refresh_token; or sign in for one command only: --token-store memory")
		}
		if err := a.keep(ctx, t, store, claims.Subject()); err != nil {
			return a.drop(ctx, p, t, err)
		}
		return nil
	}
	if device {
		t, err := a.byDevice(ctx, p)
		if err != nil {
			return claims, err
		}
		return claims, finish(t, "")
	}
	err = a.byBrowser(ctx, p, finish)
	return claims, err
}

// verify holds the ID token of a sign-in to the policy's issuer and client.
func (a *Account) verify(ctx context.Context, v *idtoken.Verifier, t tokens, nonce string) (claims idtoken.Claims, err error) {
	if claims, err = v.Verify(ctx, t.id, a.id.Audience); err != nil {
		return idtoken.Claims{}, err
	}
	if got, _ := claims.String("nonce"); nonce != "" && got != nonce { // OpenID Connect Core, 3.1.3.7
		return idtoken.Claims{}, fault.New(fault.Rejected, errors.New("verify ID token: its nonce is not that of this sign-in"),
			"the token was issued for another sign-in: sign in again, and see who else may answer in the provider's place")
	}
	if azp, ok := claims.String("azp"); ok && azp != a.id.ClientID {
		return idtoken.Claims{}, fault.New(fault.Rejected,
			fmt.Errorf("verify ID token: authorized party (azp) is %q, want %q", azp, a.id.ClientID), "")
	}
	return claims, nil
}

// keep stores a new login in place of the one before.
func (a *Account) keep(ctx context.Context, t tokens, store, subject string) error {
	if store == Memory {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.memory = &t
		return nil
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	before, _ := a.note()
	if err := a.store(store).write(ctx, t); err != nil {
		return err
	}
	if err := a.writeNote(note{Issuer: a.id.Issuer, ClientID: a.id.ClientID, Store: store, Subject: subject}); err != nil {
		return err
	}
	if before.Store != "" && before.Store != store {
		_ = a.store(before.Store).remove(ctx) // where a login is kept is one place
	}
	return nil
}

// drop revokes the refresh token of a login that could not be stored: nothing
// uses it, and it would be valid for weeks. The person may have interrupted the
// sign-in, so the request does not end with ctx.
func (a *Account) drop(ctx context.Context, p provider, t tokens, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	if _, rerr := a.revokeAt(ctx, p, t.refresh); rerr != nil {
		err = fmt.Errorf("%w; the new refresh token is valid until the provider ends it, because it could not be revoked: %w", err, rerr)
	}
	return err
}

// dropTime is how long a person who sees an error waits for the revocation.
const dropTime = 10 * time.Second

// SignedIn reports whether there is a login, which may have expired.
func (a *Account) SignedIn() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.id.AWSSSO != nil {
		_, err := a.cached()
		return a.session != nil || err == nil
	}
	_, err := a.note()
	return a.memory != nil || err == nil
}

// InMemory reports whether this process has a login that is kept nowhere else.
func (a *Account) InMemory() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.memory != nil || a.session != nil
}

// signedOut is the error where there is no login, or none that works.
func (a *Account) signedOut(err error) error {
	return fault.New(fault.NoIdentity, away{err}, "sign in: oidc-dbt login "+a.id.Name+a.env.PolicyFlag)
}

// away is the error of a person who is not signed in.
type away struct{ error }

func (e away) Unwrap() error { return e.error }

// Away reports whether an error is that of a person who is not signed in, and
// not of a login that cannot be read or used: then signing in is of use.
func Away(err error) bool { return errors.As(err, new(away)) }

// Token returns a current ID token, which is not verified yet. Of processes
// that ask at the same time one refreshes; the others take what it has got.
// Errors are of class NoIdentity where the person must sign in again.
func (a *Account) Token(ctx context.Context) (secret.Value, error) {
	if a.id.AWSSSO != nil {
		return a.tokenOfAWS(ctx)
	}
	t, err := a.current(ctx, "")
	return t.id, err
}

// current returns tokens with an ID token, or with a scope an access token for
// that, which this process has not handed out yet.
func (a *Account) current(ctx context.Context, scope string) (tokens, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.memory != nil {
		return a.renewed(ctx, memory{a}, scope, "")
	}
	if _, err := a.note(); err != nil {
		return tokens{}, a.noNote(err)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return tokens{}, err
	}
	defer unlock()
	n, err := a.note() // another process may have signed in or out meanwhile
	if err != nil {
		return tokens{}, a.noNote(err)
	}
	return a.renewed(ctx, a.store(n.Store), scope, n.Subject)
}

// noNote is the error where there is no note of a login, or none that can be used.
func (a *Account) noNote(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return a.signedOut(fmt.Errorf("request ID token: not signed in as identity %q (%s)", a.id.Name, a.id.Issuer))
	}
	return a.signedOut(fmt.Errorf("read the login of identity %q: %q: %w", a.id.Name, a.path(".json"), disk.Cause(err)))
}

// renewed returns what is kept, where it has a token that this process has not
// handed out yet, or else what a refresh gives: a broker that asks again needs a
// token that lives longer.
func (a *Account) renewed(ctx context.Context, s store, scope, subject string) (tokens, error) {
	kept, err := s.read(ctx)
	if err != nil {
		return tokens{}, err
	}
	if a.young(kept, scope) && kept.sum(scope) != a.handed[scope] {
		a.handed[scope] = kept.sum(scope)
		return kept, nil
	}
	if err := s.room(kept); err != nil { // the provider may end a login whose next refresh token is lost
		return tokens{}, fault.New(fault.Internal,
			fmt.Errorf("refresh the login of identity %q: what comes of it could not be stored: %w", a.id.Name, err),
			"free some disk space, or let the state folder be writable; nothing was asked for, and the login is as it was")
	}
	next, err := a.refresh(ctx, kept, scope)
	var refused refusal
	if errors.As(err, &refused) && refused.code == "invalid_grant" {
		// A process that does not know of the lock may have refreshed meanwhile.
		if other, rerr := s.read(ctx); rerr == nil && other.refresh.SHA256() != kept.refresh.SHA256() {
			next, err = a.refresh(ctx, other, scope)
		}
	}
	if errors.As(err, &refused) {
		return tokens{}, a.refused(refused, scope)
	}
	if next.refresh.IsZero() {
		return tokens{}, err
	}
	if got := claimsOf(next.id); subject != "" && got.Subject() != subject { // OpenID Connect Core, 12.2
		return tokens{}, fault.New(fault.Rejected,
			fmt.Errorf("refresh the login of identity %q: the ID token is for %q, want %q", a.id.Name, got.Subject(), subject), "")
	}
	// The provider may take the old refresh token for a stolen one from now on:
	// what is not stored now is lost, also where the rest of the reply is of no use.
	if serr := s.write(ctx, next); err != nil || serr != nil {
		return tokens{}, errors.Join(err, serr)
	}
	a.handed[scope] = next.sum(scope)
	return next, nil
}

// young reports whether the ID token, or the access token for a scope, is in the
// first half of its life. A process that gets an older one would soon ask again.
func (a *Account) young(t tokens, scope string) bool {
	var issued, expires time.Time
	if scope == "" {
		claims := claimsOf(t.id)
		issued = seconds(claims.Value("iat"))
		expires = seconds(claims.Value("exp"))
	} else {
		issued, expires = t.access[scope].issued, t.access[scope].expires
	}
	now := a.env.Now()
	known := !issued.IsZero() && !expires.IsZero()
	return known && !now.Before(issued.Add(-time.Minute)) && now.Before(issued.Add(expires.Sub(issued)/2))
}

// SignOut revokes the refresh token where the provider offers that, and removes
// the login in any case. It reports whether there was one, and whether it was revoked.
func (a *Account) SignOut(ctx context.Context) (was, revoked bool, err error) {
	if a.id.AWSSSO != nil {
		return a.signOutOfAWS(ctx)
	}
	if _, err := a.note(); errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return true, false, err
	}
	defer unlock()
	n, err := a.note()
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process has signed out meanwhile
		return false, false, nil
	case err != nil: // it does not say where the login is
		return true, false, a.noNote(err)
	}
	s := a.store(n.Store)
	kept, err := s.read(ctx)
	if err == nil && !kept.refresh.IsZero() {
		revoked, err = a.revoke(ctx, kept)
	}
	if fault.ClassOf(err) == fault.NoIdentity {
		err = nil // it is gone already
	}
	if rerr := s.remove(ctx); rerr != nil {
		return true, revoked, errors.Join(err, rerr) // the note says where it still is
	}
	return true, revoked, errors.Join(err, a.removeNote())
}

// scopes returns what a sign-in asks for: an ID token with the person's
// profile, a refresh token, and what the policy adds.
func scopes(id policy.Identity, p provider) []string {
	list := []string{"openid", "profile", "email"}
	if len(p.Scopes) == 0 || slices.Contains(p.Scopes, "offline_access") {
		list = append(list, "offline_access")
	}
	for _, s := range id.Scopes {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
