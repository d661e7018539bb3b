package broker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// wireProxy is a proxy without a listener, whose credential current gives out.
func wireProxy(current func(context.Context) (credential.Credential, error)) *postgresProxy {
	return &postgresProxy{
		Broker: &Broker{
			config:  Config{Route: route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: "127.0.0.1", Port: 1, Plain: true, User: "dbt"}}, Current: current},
			secret:  secret.New("secret-of-the-run"),
			refused: refusals{tell: func(int) {}, now: time.Now},
		},
		live: map[cancelKey][]*postgresServer{}, large: newPool(pieceSize), sealed: newPool(pieceSize),
	}
}

// startupMessage is a client's first.
func startupMessage(t testing.TB, parameters map[string]string) []byte {
	t.Helper()
	text, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: parameters}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func passwordMessage(t testing.TB, password string) []byte {
	t.Helper()
	text, err := (&pgproto3.PasswordMessage{Password: password}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// never is a provider that does not answer.
func never(ctx context.Context) (credential.Credential, error) {
	<-ctx.Done()
	return credential.Credential{}, context.Cause(ctx)
}

// TestPostgresPatience: dbt waits ten seconds, and then says nothing of why.
func TestPostgresPatience(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, said string
		sent       []byte
		after      time.Duration
	}{
		{"no credential", "oidc-dbt: get a credential: not available after 9s", slices.Concat(startupMessage(t, map[string]string{"user": "dbt"}), passwordMessage(t, "secret-of-the-run")), 9 * time.Second},
		{"a client that says nothing", "", nil, 10 * time.Second},
		{"a client that says half", "", startupMessage(t, map[string]string{"user": "dbt"}), 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, conn := net.Pipe()
				began := time.Now()
				go func() {
					wireProxy(never).serve(t.Context(), conn)
					conn.Close()
				}()
				go func() { _, _ = client.Write(tt.sent) }()
				reply, err := io.ReadAll(client)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tt.after || !strings.Contains(string(reply), tt.said) {
					t.Errorf("after %s: %q, want %q after %s", took, reply, tt.said, tt.after)
				}
			})
		})
	}
}

// TestPostgresLogInPatience: a server that takes the connection and says nothing.
func TestPostgresLogInPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		p := wireProxy(nil)
		startup := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
		err := p.logIn(t.Context(), io.Discard, newPostgresServer(near), startup, credential.Credential{Password: secret.New("p")})
		if want := `log in at "127.0.0.1:1": not finished after 1m0s`; err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
		far.Close()
	})
}

// FuzzPostgresClient: without the secret, no message of a client gets past the
// broker, and the broker ends the connection.
func FuzzPostgresClient(f *testing.F) {
	good := startupMessage(f, map[string]string{"user": "dbt", "database": "analytics"})
	f.Add(good)
	f.Add(slices.Concat(good, passwordMessage(f, "guess")))
	f.Add(slices.Concat(good, passwordMessage(f, "secret-of-the-run")))
	f.Add([]byte{0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 4, 210, 22, 48})
	f.Add([]byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, sent []byte) {
		asked := false
		p := wireProxy(func(context.Context) (credential.Credential, error) {
			asked = true
			return credential.Credential{}, errors.New("down")
		})
		client, conn := net.Pipe()
		go func() {
			_, _ = client.Write(sent)
			client.Close()
		}()
		p.serve(t.Context(), pipeEnd{conn})
		conn.Close()
		if asked && !bytes.Contains(sent, []byte("secret-of-the-run\x00")) {
			t.Errorf("%q gets in", sent)
		}
	})
}

// A pipeEnd takes what is written to it: the peer need not read.
type pipeEnd struct{ net.Conn }

func (pipeEnd) Write(b []byte) (int, error) { return len(b), nil }

// letsIn is a server's word that it asks no more.
var letsIn = regexp.MustCompile(`(?s)R....\x00\x00\x00\x00`)

// FuzzPostgresServer: the login ends for all messages of a server, and the client
// learns nothing about the credential.
func FuzzPostgresServer(f *testing.F) {
	ok := []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	key := []byte{'K', 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2}
	f.Add(slices.Concat(ok, key, ready))
	f.Add(slices.Concat([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}, ok, ready))
	f.Add(slices.Concat([]byte{'R', 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4}, ok, ready))
	f.Add([]byte("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00R\x00\x00\x00\x1a\x00\x00\x00\x0br=a,s=YQ==,i=1"))
	f.Add([]byte("R\x00\x00\x00\x16\x00\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x01b"))
	f.Add([]byte("v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00E\x00\x00\x00\x10SFATAL\x00Mno\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		p := wireProxy(nil)
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(sent)
			far.Close()
		}()
		var told bytes.Buffer
		startup := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
		server := newPostgresServer(pipeEnd{near})
		err := p.logIn(t.Context(), &told, server, startup, credential.Credential{Password: secret.New("marked-password")})
		near.Close()
		if text := told.String(); strings.Contains(text, "marked-password") || err != nil && strings.Contains(err.Error(), "marked-password") {
			t.Errorf("the client is told %q, %v", text, err)
		}
		if err == nil && !letsIn.Match(sent) {
			t.Error("a session without the server's word")
		}
	})
}

// TestScramKeys: what is derived from a password is kept until there is
// another one.
func TestScramKeys(t *testing.T) {
	t.Parallel()
	var keys scramKeys
	of := func(password string) *scram.Client {
		c, err := keys.of(password)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := of("one")
	if of("one") != first {
		t.Error("the same password has other keys")
	}
	second := of("two")
	if second == first || of("one") == first {
		t.Error("another password has the same keys, or the ones before are still there")
	}
	for _, password := range []string{"", "\u0000\u0007", "\xff", "pass\u00adword"} { // RFC 4013 takes the last, and only that
		if _, err := keys.of(password); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
}
