//go:build e2e && linux && amd64

package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A front is the gateway of a cloud's database service: it accepts only TLS,
// requests the password in its own form, has the service check it, and connects
// accepted clients to a real PostgreSQL.
type front struct {
	Port int
	CA   string

	server  *setup.PostgresServer
	check   func(user, password string) error
	tls     *tls.Config
	mu      sync.Mutex
	logins  []map[string]string // the start-up parameters of accepted clients
	refused int
}

// startFront starts a front of a new server whose role `user` may create schemas.
func startFront(t *testing.T, user string, check func(user, password string) error) *front {
	t.Helper()
	f := &front{server: setup.Postgres(t, false), check: check}
	f.server.SQL(t, fmt.Sprintf("create role %q login password '%s'; grant create on database postgres to %q", user, f.server.Password, user))
	ca, key := setup.Certificate(t)
	pair, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	f.CA, f.tls = ca, &tls.Config{Certificates: []tls.Certificate{pair}}
	f.Port = setup.Listen(t, f.serve)
	return f
}

// serve serves one connection. (PostgreSQL: Frontend/Backend Protocol)
func (f *front) serve(conn net.Conn) error {
	client := pgproto3.NewBackend(conn, conn)
	fail := func(code, message string) error {
		f.mu.Lock()
		f.refused++
		f.mu.Unlock()
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
		return client.Flush()
	}
	var startup *pgproto3.StartupMessage
	encrypted := false
	for startup == nil {
		message, err := client.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pgproto3.GSSEncRequest:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case *pgproto3.SSLRequest:
			if _, err := conn.Write([]byte{'S'}); err != nil {
				return err
			}
			secured := tls.Server(conn, f.tls)
			if err := secured.Handshake(); err != nil {
				return err
			}
			conn, encrypted = secured, true
			client = pgproto3.NewBackend(conn, conn)
		case *pgproto3.StartupMessage:
			startup = m
		default:
			return fmt.Errorf("start-up message %T", m)
		}
	}
	user := startup.Parameters["user"]
	if !encrypted {
		return fail("28000", fmt.Sprintf("no pg_hba.conf entry for user %q, no encryption", user))
	}
	client.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := errors.Join(client.Flush(), client.SetAuthType(pgproto3.AuthTypeCleartextPassword)); err != nil {
		return err
	}
	message, err := client.Receive()
	if err != nil {
		return err
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return fmt.Errorf("message %T, want a password", message)
	}
	if err := f.check(user, password.Password); err != nil {
		return fail("28P01", fmt.Sprintf("password authentication failed for user %q: %v", user, err))
	}
	f.mu.Lock()
	f.logins = append(f.logins, startup.Parameters)
	f.mu.Unlock()
	return f.forward(conn, client, startup.Parameters)
}

// forward logs in at the real server and copies all later messages.
func (f *front) forward(conn net.Conn, client *pgproto3.Backend, parameters map[string]string) error {
	ctx := context.Background()
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=disable", f.server.Host, f.server.Port))
	if err != nil {
		return err
	}
	config.Password = f.server.Password
	for name, value := range parameters {
		switch name {
		case "user":
			config.User = value
		case "database":
			config.Database = value
		default:
			config.RuntimeParams[name] = value
		}
	}
	login, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	server, err := login.Hijack()
	if err != nil {
		return err
	}
	defer server.Conn.Close()
	if err := setup.Welcome(client, server); err != nil {
		return err
	}
	go func() {
		_ = setup.Replies(client, server) // ends when the server or the client closes
		conn.Close()
	}()
	_, err = io.Copy(server.Conn, conn)
	return err
}

// block returns the `dbt:` block that leads to the front.
func (f *front) block(keys string) string {
	return fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, database: postgres, schema: marts, threads: 2, sslmode: verify-full, sslrootcert: %s%s}", f.Port, f.CA, keys)
}

// counts returns how many logins were accepted and refused, and checks their tags.
func (f *front) counts(t *testing.T) (in, refused int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, parameters := range f.logins {
		if got := parameters["application_name"]; got != "oidc-dbt target=prod" {
			t.Errorf("application_name is %q, want that of the target", got)
		}
	}
	return len(f.logins), f.refused
}

// expectBuilt builds again, through the proxy.
func (f *front) expectBuilt(t *testing.T, issuer *standin.Issuer, workspace string) {
	t.Helper()
	f.server.SQL(t, "drop schema marts cascade")
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "build")
	if err != nil || !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		t.Errorf("dbt build through the proxy: %v\n%s", err, out)
	}
}

// expectRefused runs a query with another password, which the service must refuse.
func expectRefused(t *testing.T, workspace string, env map[string]string, password, why string) {
	t.Helper()
	if password != "" {
		env = map[string]string{"DBT_PROFILES_DIR": env["DBT_PROFILES_DIR"], "DBT_ENV_SECRET_OIDC_PASSWORD": password}
	}
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || !strings.Contains(out, why) {
		t.Errorf("dbt with a login that must be refused: %v, want %q\n%s", err, why, out)
	}
}
