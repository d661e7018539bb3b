package login

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Where a login is kept.
const (
	Keyring = "keyring" // the operating system's
	File    = "file"    // a file that only this user can read
	Memory  = "memory"  // this process
)

// Stores are the values that a person may choose from.
var Stores = []string{Keyring, File, Memory}

// A store keeps one login. The old one can be read until the new one can.
// Errors are of class NoIdentity where there is none.
type store interface {
	read(ctx context.Context) (tokens, error)
	// room returns an error where tokens of that size cannot be written now, as far as that can be known before.
	room(t tokens) error
	write(ctx context.Context, t tokens) error
	remove(ctx context.Context) error
}

func (a *Account) store(name string) store {
	if name == File {
		return file{a, a.path(".token")}
	}
	return keys{a}
}

// A note says where a login is kept. It holds no secret.
type note struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	Store    string `json:"store"`
	Subject  string `json:"subject"`
	SHA256   string `json:"sha256,omitempty"` // of the access token, for a session in the AWS CLI's cache
}

// maxNote is more than a note has.
const maxNote = 16 << 10

func (a *Account) note() (n note, err error) {
	if a.env.State == "" {
		return n, fs.ErrNotExist
	}
	text, err := disk.ReadOwn(a.path(".json"), maxNote)
	if err != nil {
		return n, err
	}
	issuer, stores := a.id.Issuer, []string{Keyring, File}
	if a.id.AWSSSO != nil {
		issuer, stores = a.id.AWSSSO.StartURL, []string{awsCache}
	}
	if json.Unmarshal(text, &n) != nil || n.Issuer != issuer || n.ClientID != a.id.ClientID || !slices.Contains(stores, n.Store) {
		return note{}, errors.New("not a note of this login")
	}
	return n, nil
}

func (a *Account) writeNote(n note) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return disk.Replace(a.path(".json"), append(text, '\n'))
}

func (a *Account) removeNote() error {
	if err := os.Remove(a.path(".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeFolder makes the folder of logins, which only this user may enter.
func makeFolder(path string) error {
	err := os.MkdirAll(path, 0o700)
	if err == nil {
		err = disk.Own(path)
	}
	if err != nil {
		return fmt.Errorf("open the folder of logins %q: %w", path, disk.Cause(err))
	}
	return nil
}

// kept is how tokens are stored.
type kept struct {
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	// Access are access tokens, by scope.
	Access map[string]keptAccess `json:"access_tokens,omitempty"`
}

type keptAccess struct {
	Token   string    `json:"token"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// encode leaves access tokens out where a keyring could not hold them: another refresh gives them.
func encode(t tokens) (string, error) {
	k := kept{Refresh: t.refresh.Reveal(), ID: t.id.Reveal(), Access: map[string]keptAccess{}}
	for scope, x := range t.access {
		k.Access[scope] = keptAccess{x.token.Reveal(), x.issued.UTC(), x.expires.UTC()}
	}
	text, err := json.Marshal(k)
	if err == nil && len(text) > maxToken && len(k.Access) > 0 {
		t.access = nil
		return encode(t)
	}
	return string(text), err
}

func (a *Account) decode(text string) (t tokens, err error) {
	var k kept
	if json.Unmarshal([]byte(text), &k) != nil || k.Refresh == "" {
		return t, a.signedOut(fmt.Errorf("read the login of identity %q: it is damaged", a.id.Name))
	}
	t.refresh = secret.New(k.Refresh)
	if k.ID != "" {
		t.id = secret.New(k.ID)
	}
	t.access = map[string]access{}
	for scope, x := range k.Access {
		t.access[scope] = access{secret.New(x.Token), x.Issued, x.Expires}
	}
	return t, nil
}

// memory is a store in this process.
type memory struct{ a *Account }

func (m memory) read(context.Context) (tokens, error)    { return *m.a.memory, nil }
func (m memory) room(tokens) error                       { return nil }
func (m memory) write(_ context.Context, t tokens) error { m.a.memory = &t; return nil }
func (m memory) remove(context.Context) error            { m.a.memory = nil; return nil }

// file is a store in the user's state folder.
type file struct {
	a    *Account
	path string
}

func (f file) read(context.Context) (tokens, error) {
	text, err := disk.ReadSecret(f.path, 4*maxToken)
	if errors.Is(err, fs.ErrNotExist) {
		return tokens{}, f.a.signedOut(fmt.Errorf("read the login of identity %q: it is gone", f.a.id.Name))
	}
	if err != nil {
		return tokens{}, fault.New(fault.NoIdentity, fmt.Errorf("read the login %q: %w", f.path, disk.Cause(err)),
			"others may have read it: sign out (oidc-dbt logout), and sign in again")
	}
	return f.a.decode(string(text))
}

func (f file) room(t tokens) error {
	text, err := encode(t)
	if err != nil {
		return err
	}
	return disk.Room(f.path, 2*len(text)) // the next ones may be larger
}

func (f file) write(_ context.Context, t tokens) error {
	text, err := encode(t)
	if err == nil {
		err = makeFolder(filepath.Dir(f.path))
	}
	if err == nil {
		err = disk.Replace(f.path, []byte(text))
	}
	return err
}

func (f file) remove(context.Context) error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the login: %w", err)
	}
	return nil
}

// Keys is a keyring: texts by a service and a name. Where there is no such
// entry, the error is keyring.ErrNotFound.
type Keys interface {
	Get(service, name string) (string, error)
	Set(service, name, text string) error
	Delete(service, name string) error
}

// system is the operating system's: macOS's Keychain, Windows' Credential
// Manager, elsewhere the Secret Service on the session's bus.
type system struct{}

func (system) Get(service, name string) (string, error) { return keyring.Get(service, name) }
func (system) Set(service, name, text string) error     { return keyring.Set(service, name, text) }
func (system) Delete(service, name string) error        { return keyring.Delete(service, name) }

// keys is a store in a keyring.
type keys struct{ a *Account }

// service is what all entries of the keyring are of.
const service = "oidc-dbt"

// maxEntry is the longest text of an entry: Windows takes 2,560 bytes, and
// macOS a whole command of 4,096 in which it is in base64.
const maxEntry = 1800

// maxEntries bounds a login: two tokens of the largest size.
const maxEntries = 2*maxToken/maxEntry + 2

// An index is the entry that names the others. Replacing it is what replaces the login.
type index struct {
	Parts []string `json:"parts"`
}

// bounded calls the keyring, which may ask the person to unlock it, until a
// little before ctx ends: the error of that end would hide what was waited for.
func bounded[T any](ctx context.Context, call func() (T, error)) (T, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-500*time.Millisecond))
		defer cancel()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, errors.New("the keyring does not answer; is it locked?")
	}
}

// notUnlocked is in the library's error where the Secret Service has a locked
// keyring, and the person does not unlock it, or nothing can ask her.
const notUnlocked = "failed to unlock correct collection"

// failed is the error of a keyring that cannot be used.
func failed(what string, err error) error {
	hint := "where there is no keyring: `oidc-dbt login --token-store file` keeps the login in a file that only you can read, " +
		"and `oidc-dbt exec --token-store memory` for one command"
	switch {
	case errors.Is(err, exec.ErrNotFound): // dbus-launch, which the library starts where there is no session
		err = errors.New("this session has none")
	case errors.Is(err, keyring.ErrSetDataTooBig):
		hint = "the keyring takes less than other systems' do: " + hint
	case strings.Contains(err.Error(), notUnlocked):
		err = errors.New("it is locked, and was not unlocked")
		hint = "unlock the keyring: your desktop asks for its password; " + hint
	}
	return fault.New(fault.NoIdentity, fmt.Errorf("%s the keyring: %w", what, err), hint)
}

// usable returns an error where a login could not be stored: before a person
// signs in for nothing. It has the person unlock the keyring.
func (k keys) usable(ctx context.Context) error {
	_, err := bounded(ctx, k.index)
	if err == nil || errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return failed("store the login in", err)
}

func (k keys) read(ctx context.Context) (tokens, error) {
	text, err := bounded(ctx, func() (string, error) {
		h, err := k.index()
		if err != nil {
			return "", err
		}
		text := ""
		for _, part := range h.Parts {
			piece, err := k.a.env.Keys.Get(service, part)
			if err != nil {
				return "", err
			}
			text += piece
		}
		return text, nil
	})
	if errors.Is(err, keyring.ErrNotFound) {
		return tokens{}, k.a.signedOut(fmt.Errorf("read the login of identity %q: the keyring does not have it", k.a.id.Name))
	}
	if err != nil {
		return tokens{}, failed("read the login from", err)
	}
	return k.a.decode(text)
}

func (k keys) room(tokens) error { return nil } // a keyring that was read is there and unlocked

func (k keys) index() (h index, err error) {
	text, err := k.a.env.Keys.Get(service, k.a.name())
	if err != nil {
		return h, err
	}
	if json.Unmarshal([]byte(text), &h) != nil || len(h.Parts) > maxEntries {
		return index{}, keyring.ErrNotFound
	}
	return h, nil
}

func (k keys) write(ctx context.Context, t tokens) error {
	text, err := encode(t)
	if err != nil {
		return err
	}
	_, err = bounded(ctx, func() (struct{}, error) { return struct{}{}, k.replace(text) })
	if err != nil {
		return failed("store the login in", err)
	}
	return nil
}

// replace writes the parts, then the entry that names them, and only then
// removes those of before.
func (k keys) replace(text string) error {
	before, _ := k.index()
	var next index
	generation := k.a.name() + "." + rand.Text()[:8] + "."
	undo := func(err error) error {
		for _, part := range next.Parts {
			_ = k.a.env.Keys.Delete(service, part)
		}
		return err
	}
	for len(text) > 0 {
		size := min(maxEntry, len(text))
		name := generation + strconv.Itoa(len(next.Parts))
		if err := k.a.env.Keys.Set(service, name, text[:size]); err != nil {
			return undo(err)
		}
		next.Parts, text = append(next.Parts, name), text[size:]
	}
	names, err := json.Marshal(next)
	if err == nil {
		err = k.a.env.Keys.Set(service, k.a.name(), string(names))
	}
	if err != nil {
		return undo(err)
	}
	for _, part := range before.Parts {
		_ = k.a.env.Keys.Delete(service, part)
	}
	return nil
}

func (k keys) remove(ctx context.Context) error {
	_, err := bounded(ctx, func() (struct{}, error) {
		h, err := k.index()
		for _, part := range h.Parts {
			err = errors.Join(err, k.a.env.Keys.Delete(service, part))
		}
		if !errors.Is(err, keyring.ErrNotFound) {
			err = errors.Join(err, k.a.env.Keys.Delete(service, k.a.name()))
		}
		return struct{}{}, err
	})
	if err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return failed("remove the login from", err)
	}
	return nil
}
