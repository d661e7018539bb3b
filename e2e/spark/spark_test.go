//go:build e2e

// Package spark runs dbt-spark up to its login at a Thrift server, which
// verifies user and password as LDAP does.
package spark

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// SASL's messages in Thrift: a status, a length and a payload. (Thrift, TSaslTransport)
const (
	saslStart    = 1
	saslOK       = 2
	saslBad      = 3
	saslComplete = 5
)

// A server is the login of a Thrift server: only SASL PLAIN (RFC 4616).
type server struct {
	admit func(user, password string) bool

	mu      sync.Mutex
	let     int // accepted logins
	refused int
}

func (s *server) serve(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	read := func() (status byte, payload string) {
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return 0, ""
		}
		body := make([]byte, min(binary.BigEndian.Uint32(head[1:]), 1<<16))
		if _, err := io.ReadFull(conn, body); err != nil {
			return 0, ""
		}
		return head[0], string(body)
	}
	send := func(status byte, payload string) {
		reply := append([]byte{status}, binary.BigEndian.AppendUint32(nil, uint32(len(payload)))...)
		_, _ = conn.Write(append(reply, payload...))
	}
	if status, mechanism := read(); status != saslStart || mechanism != "PLAIN" {
		send(saslBad, "mechanism is not PLAIN")
		return nil
	}
	status, login := read()
	s.mu.Lock()
	good := false
	if part := strings.Split(login, "\x00"); (status == saslOK || status == saslComplete) && len(part) == 3 {
		good = s.admit(part[1], part[2])
	}
	if good {
		s.let++
	} else {
		s.refused++
	}
	s.mu.Unlock()
	if !good {
		send(saslBad, "Error validating the login")
		return nil
	}
	send(saslComplete, "")
	_, err := io.CopyN(io.Discard, conn, 4) // OpenSession arrives, but there is no Spark
	return err
}

func start(t *testing.T, admit func(user, password string) bool) (*server, int) {
	t.Helper()
	s := &server{admit: admit}
	return s, setup.Listen(t, s.serve)
}

// counts returns how many logins were accepted and refused.
func (s *server) counts() (let, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.let, s.refused
}

func TestLogin(t *testing.T) {
	issuer, python := setup.Issuer(t), setup.Python(t)
	s, port := start(t, func(user, password string) bool { return user == "dbt-prod" && password == "correct-horse" })
	exchange := setup.OpenBao(t).Static(t, issuer, map[string]any{"username": "dbt-prod", "password": "correct-horse"})
	workspace := setup.Project(t, issuer, fmt.Sprintf(`{type: spark, method: thrift, host: 127.0.0.1, port: %d, schema: marts}`, port), exchange)
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, _ := setup.DBT(t, python, workspace, env, "debug") // fails after the login, because there is no Spark
	if s.let == 0 || s.refused > 0 {
		t.Errorf("%d logins, %d refused:\n%s", s.let, s.refused, out)
	}
	if strings.Contains(out, "correct-horse") {
		t.Errorf("the password is in dbt's output:\n%s", out)
	}

	env["DBT_ENV_SECRET_OIDC_PASSWORD"] = "another"
	out, err := setup.DBT(t, python, workspace, env, "debug")
	if err == nil || s.refused == 0 {
		t.Errorf("dbt with another password: %v, %d refused\n%s", err, s.refused, out)
	}
}
