//go:build e2e && linux && amd64

package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestSession uses libpq through the proxy for all that dbt may do in a session,
// with each form in which PostgreSQL requests a password.
func TestSession(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		form, encryption string
		tls              bool
	}{
		{"scram-sha-256", "scram-sha-256", true},
		{"scram-sha-256", "scram-sha-256", false},
		{"md5", "md5", true},
		{"password", "scram-sha-256", true},
	} {
		t.Run(fmt.Sprintf("%s tls %v", tt.form, tt.tls), func(t *testing.T) {
			t.Parallel()
			bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, tt.tls)
			server.SQL(t, fmt.Sprintf("set password_encryption = '%s'; create role dbt login password 'p-%s'", tt.encryption, server.Password))
			server.Ask(t, "dbt", tt.form)
			block := fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: marts}", server.Host, server.Port)
			if tt.tls {
				block = strings.TrimSuffix(block, "}") + fmt.Sprintf(", sslmode: verify-full, sslrootcert: %q}", server.CA)
			}
			workspace := setup.Project(t, issuer, block, bao.Static(t, issuer, map[string]any{"username": "dbt", "password": "p-" + server.Password}))
			script, err := filepath.Abs("session.py")
			if err != nil {
				t.Fatal(err)
			}
			out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("python"), script, tt.form, "dbt", server.URL("postgres:"+server.Password))
			if err != nil || !strings.Contains(out, "all is well") {
				t.Errorf("%v\n%s", err, out)
			}
			if strings.Contains(out, "p-"+server.Password) {
				t.Error("the password is in the output")
			}
		})
	}
}

// TestLoginIsBoundToTheCertificate puts an attacker, whose certificate the proxy
// trusts, between the proxy and the server: PostgreSQL detects that the login is
// for another server.
func TestLoginIsBoundToTheCertificate(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	server.SQL(t, fmt.Sprintf("create role dbt login password 'p-%s'", server.Password))
	ca, key := setup.Certificate(t)
	pair, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	port := setup.Listen(t, func(client net.Conn) error { return between(client, pair, server) })
	workspace := setup.Project(t, issuer,
		fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, database: postgres, schema: marts, sslmode: verify-full, sslrootcert: %q}", port, ca),
		bao.Static(t, issuer, map[string]any{"username": "dbt", "password": "p-" + server.Password}))
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("python"), "-c", `
import os, psycopg2, yaml
output = yaml.safe_load(open(os.environ["DBT_PROFILES_DIR"] + "/profiles.yml"))["shop"]["outputs"]["prod"]
psycopg2.connect(host=output["host"], port=output["port"], user=output["user"], password=os.environ["DBT_ENV_SECRET_OIDC_PASSWORD"], dbname="postgres")`)
	if err == nil || !strings.Contains(out, "SCRAM channel binding check failed") {
		t.Errorf("a login through an attacker: %v\n%s", err, out)
	}
}

// between decrypts what a client sends and encrypts it again for the server.
func between(plain net.Conn, pair tls.Certificate, server *setup.PostgresServer) error {
	request := make([]byte, 8)
	if _, err := io.ReadFull(plain, request); err != nil {
		return err
	}
	onward, err := net.Dial("tcp", net.JoinHostPort(server.Host, strconv.Itoa(server.Port)))
	if err != nil {
		return err
	}
	defer onward.Close()
	if _, err := onward.Write(request); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(onward, answer); err != nil {
		return err
	}
	if _, err := plain.Write(answer); err != nil {
		return err
	}
	client := tls.Server(plain, &tls.Config{Certificates: []tls.Certificate{pair}})
	next := tls.Client(onward, &tls.Config{InsecureSkipVerify: true}) // an attacker need not verify it
	if err := errors.Join(client.Handshake(), next.Handshake()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(client, next)
		client.Close()
	}()
	_, err = io.Copy(next, client)
	return err
}
