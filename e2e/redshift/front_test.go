//go:build e2e && linux && amd64

package redshift

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A login is what a client sends to log in.
type login struct {
	user, database string
	password       string
	token          string // from Identity Center's plugin, instead of user and password
}

// A front is the gateway of Redshift: it speaks its protocol, has logins
// verified, and connects accepted clients to a real PostgreSQL.
type front struct {
	Port int
	CA   string

	server *setup.PostgresServer
	// admit returns the login's user at PostgreSQL, or why it is refused.
	admit func(login) (user, password string, err error)
	tls   *tls.Config

	mu     sync.Mutex
	groups []string // distinct query groups
	in     int
	out    []string // why logins were refused
}

// startFront starts a front on loopback, which accepts only TLS.
func startFront(t *testing.T, server *setup.PostgresServer, admit func(login) (user, password string, err error)) *front {
	t.Helper()
	ca, key := setup.Certificate(t)
	pair, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{CA: ca, server: server, admit: admit, tls: &tls.Config{Certificates: []tls.Certificate{pair}}}
	f.Port = setup.Listen(t, f.serve)
	return f
}

// serve serves one connection. (PostgreSQL: Frontend/Backend Protocol;
// redshift_connector for Redshift's additions)
func (f *front) serve(plain net.Conn) error {
	request, err := pgproto3.NewBackend(plain, plain).ReceiveStartupMessage()
	if _, ok := request.(*pgproto3.SSLRequest); err != nil || !ok {
		return fmt.Errorf("a client asks for no TLS: %T, %w", request, err)
	}
	if _, err := plain.Write([]byte{'S'}); err != nil {
		return err
	}
	conn := tls.Server(plain, f.tls)
	client := pgproto3.NewBackend(conn, conn)
	message, err := client.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	startup, ok := message.(*pgproto3.StartupMessage)
	if !ok {
		return fmt.Errorf("start-up message %T", message)
	}
	who := login{user: startup.Parameters["user"], database: startup.Parameters["database"]}
	if strings.HasSuffix(startup.Parameters["plugin_name"], "IdpTokenAuthPlugin") {
		if kind := startup.Parameters["token_type"]; kind != "EXT_JWT" {
			return fmt.Errorf("token of type %q", kind)
		}
		who.token, err = askToken(conn)
	} else {
		who.password, err = askPassword(client)
	}
	if err != nil {
		return err
	}
	user, password, err := f.admit(who)
	f.mu.Lock()
	if err == nil {
		f.in++
	} else {
		f.out = append(f.out, err.Error())
	}
	f.mu.Unlock()
	if err != nil {
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: err.Error()})
		return client.Flush()
	}
	return f.forward(conn, client, user, password, who.database)
}

func askPassword(client *pgproto3.Backend) (string, error) {
	client.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := errors.Join(client.Flush(), client.SetAuthType(pgproto3.AuthTypeCleartextPassword)); err != nil {
		return "", err
	}
	message, err := client.Receive()
	if err != nil {
		return "", err
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return "", fmt.Errorf("message %T, want a password", message)
	}
	return password.Password, nil
}

// askToken requests the token of an identity provider: authentication code 14,
// answered by a message of type `i`.
func askToken(conn net.Conn) (string, error) {
	if _, err := conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 14}); err != nil {
		return "", err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if head[0] != 'i' || size < 4 || size > 64<<10 {
		return "", fmt.Errorf("message %q of %d bytes, want a token", head[0], size)
	}
	token := make([]byte, size-4)
	_, err := io.ReadFull(conn, token)
	return string(token), err
}

// forward logs in at the real server and forwards all later messages.
func (f *front) forward(conn net.Conn, client *pgproto3.Backend, user, password, database string) error {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=disable", f.server.Host, f.server.Port))
	if err != nil {
		return err
	}
	config.User, config.Password, config.Database = user, password, database
	session, err := pgconn.ConnectConfig(context.Background(), config)
	if err != nil {
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: err.Error()})
		return client.Flush()
	}
	server, err := session.Hijack()
	if err != nil {
		return err
	}
	defer server.Conn.Close()
	server.ParameterStatuses["server_version"] = "8.0.2" // the version that Redshift reports
	if err := setup.Welcome(client, server); err != nil {
		return err
	}
	go func() {
		_ = setup.Replies(client, server) // ends when the server or the client closes
		conn.Close()
	}()
	for {
		message, err := client.Receive()
		if err != nil {
			return err
		}
		if parse, ok := message.(*pgproto3.Parse); ok {
			f.queryGroup(parse)
		}
		text, err := message.Encode(nil)
		if err != nil {
			return err
		}
		if _, err := server.Conn.Write(text); err != nil {
			return err
		}
	}
}

// queryGroup records the query group; PostgreSQL has no such setting.
func (f *front) queryGroup(parse *pgproto3.Parse) {
	group, ok := strings.CutPrefix(parse.Query, "SET query_group TO ")
	if !ok {
		return
	}
	parse.Query = "SET application_name TO " + group
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.groups, group) {
		f.groups = append(f.groups, group)
	}
}

// block returns the `dbt:` block that leads to the front.
func (f *front) block(keys string) string {
	return fmt.Sprintf("{type: redshift, host: 127.0.0.1, port: %d, dbname: postgres, schema: marts, threads: 2, sslmode: verify-full%s}", f.Port, keys)
}

// checkLogins checks that there were logins, and that none was refused.
func (f *front) checkLogins(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.in == 0 || len(f.out) > 0 {
		t.Errorf("%d logins, refused: %q", f.in, f.out)
	}
	if want := []string{"'oidc-dbt target=prod'"}; !slices.Equal(f.groups, want) {
		t.Errorf("query groups are %q, want %q", f.groups, want)
	}
}
