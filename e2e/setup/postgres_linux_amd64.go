package setup

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PostgresServer is a PostgreSQL server on loopback, which requires a password
// from all clients.
type PostgresServer struct {
	Host           string
	Port           int
	User, Password string // of the superuser
	CA             string // the PEM file of the server's certificate authority; "" without TLS

	rules string // the path of pg_hba.conf
	log   string // the path of the server's log
}

// Postgres starts an empty PostgreSQL server. With TLS it accepts no other
// connections. settings are further ones of the server (name=value).
func Postgres(t testing.TB, tls bool, settings ...string) *PostgresServer {
	t.Helper()
	folder := filepath.Join(NPM(t, "e2e/setup/postgres"), "@embedded-postgres", "linux-x64", "native", "bin")
	return startPostgres(t, folder, nil, tls, settings)
}

// DebianPostgres is Postgres with the build of the distribution, an older version, which knows LDAP and PAM as the
// other does not.
func DebianPostgres(t testing.TB, tls bool, settings ...string) *PostgresServer {
	t.Helper()
	dir, libraries := Debian(t, "^postgresql-[0-9]+$")
	folders, err := filepath.Glob(filepath.Join(dir, "usr", "lib", "postgresql", "[0-9]*", "bin"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("PostgreSQL is not in %s: %v", dir, err)
	}
	return startPostgres(t, slices.Max(folders), append(os.Environ(), libraries), tls, settings)
}

// startPostgres starts a server by the programs in a folder.
func startPostgres(t testing.TB, folder string, env []string, tls bool, settings []string) *PostgresServer {
	t.Helper()
	s := &PostgresServer{Host: "127.0.0.1", Port: Port(t), User: "postgres", Password: rand.Text()}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(folder, program), args...)
		cmd.Env, cmd.SysProcAttr = env, notRoot()
		return cmd
	}
	password := Write(t, dir, "password", s.Password)
	run(t, command("initdb", "--pgdata="+data, "--username="+s.User, "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"))
	connections := "host"
	args := []string{"-D", data, "-c", "listen_addresses=" + s.Host, "-c", fmt.Sprintf("port=%d", s.Port),
		"-c", "unix_socket_directories=", "-c", "fsync=off"}
	if tls {
		connections = "hostssl"
		ca, server := Certificate(t)
		s.CA = ca
		args = append(args, "-c", "ssl=on", "-c", "ssl_cert_file="+server, "-c", "ssl_key_file="+server)
	}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	s.rules = Write(t, dir, "pg_hba.conf", connections+" all all 127.0.0.1/32 scram-sha-256\n")
	s.log = StartCommand(t, command("postgres", append(args, "-c", "hba_file="+s.rules)...), func() error {
		conn, err := s.Connect(t.Context(), s.User, s.Password)
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	})
	return s
}

// Log returns what the server has logged.
func (s *PostgresServer) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Ask has the server request one user's password in another form: `md5`,
// `password` for clear text, or another method of pg_hba.conf with its options.
func (s *PostgresServer) Ask(t testing.TB, user, form string) {
	t.Helper()
	others, err := os.ReadFile(s.rules)
	if err != nil {
		t.Fatal(err)
	}
	connections, _, _ := strings.Cut(string(others), " ")
	rule := fmt.Sprintf("%s all %q 127.0.0.1/32 %s\n", connections, user, form)
	if err := os.WriteFile(s.rules, append([]byte(rule), others...), 0o600); err != nil {
		t.Fatal(err)
	}
	const loaded = "select pg_conf_load_time()" // of the process that new sessions come from
	before := s.SQL(t, loaded)[0][0]
	s.SQL(t, "select pg_reload_conf()")
	for deadline := time.Now().Add(5 * time.Minute); s.SQL(t, loaded)[0][0] == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not read its rules again")
		}
	}
}

// notRoot gives a process another user id if this one is root, which PostgreSQL
// refuses to run as: in a user namespace, so that it owns the same files.
func notRoot() *syscall.SysProcAttr {
	if os.Getuid() != 0 {
		return nil
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
}

// URL returns the address of the database postgres in the form of libpq; login
// is the user and the password, escaped. With TLS the client must verify the
// server's certificate and name.
func (s *PostgresServer) URL(login string) string {
	query := url.Values{"sslmode": {"disable"}}
	if s.CA != "" {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CA}}
	}
	return fmt.Sprintf("postgres://%s@%s:%d/postgres?%s", login, s.Host, s.Port, query.Encode())
}

// Connect logs in to the database postgres.
func (s *PostgresServer) Connect(ctx context.Context, user, password string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.URL(url.UserPassword(user, password).String()))
}

// SQL runs statements as the superuser and returns the rows of the last one,
// each value as text and NULL as "".
func (s *PostgresServer) SQL(t testing.TB, statements string) (rows [][]string) {
	t.Helper()
	conn, err := s.Connect(t.Context(), s.User, s.Password)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	results, err := conn.PgConn().Exec(t.Context(), statements).ReadAll()
	if err != nil {
		t.Fatalf("run %s: %v", statements, err)
	}
	for _, values := range results[len(results)-1].Rows {
		var row []string
		for _, value := range values {
			row = append(row, string(value))
		}
		rows = append(rows, row)
	}
	return rows
}
