package broker_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// pgPassword is the credential's password, which only the server may see.
const pgPassword = "marked-password"

// A pgServer speaks PostgreSQL's protocol: it requests the password by ask, and
// then knows a handful of queries.
type pgServer struct {
	port int
	ca   string      // the file of its certificate authority; "" without TLS
	tls  *tls.Config // nil without TLS
	ask  func(*pgSession) error

	began chan struct{} // receives when a "sleep" has begun
	woken chan struct{} // ends each "sleep" when it is closed

	mu       sync.Mutex
	came     int             // connections
	asked    map[uint32]bool // sessions with at least one cancel request: slow ones get several
	slept    int             // statements that have ended, by themselves or cancelled
	sessions map[uint32]*pgSession
}

type pgSession struct {
	*pgproto3.Backend
	conn      net.Conn
	tls       *tls.Conn // nil without TLS
	startup   *pgproto3.StartupMessage
	binding   scram.ChannelBinding
	key       pgproto3.BackendKeyData
	how       string // what ask found out about the login
	cancelled chan struct{}
	server    *pgServer
}

// startPostgres starts a server with a certificate for the names, or without
// TLS if there are none.
func startPostgres(t testing.TB, ask func(*pgSession) error, names ...string) *pgServer {
	t.Helper()
	s := &pgServer{ask: ask, sessions: map[uint32]*pgSession{}, asked: map[uint32]bool{}, began: make(chan struct{}, 100), woken: make(chan struct{})}
	if len(names) > 0 {
		s.ca = filepath.Join(t.TempDir(), "ca.pem")
		s.tls = &tls.Config{Certificates: []tls.Certificate{certificate(t, s.ca, names...)}}
	}
	s.port = setup.Listen(t, s.serve)
	return s
}

// certificate makes a self-signed certificate and writes it to a file.
func certificate(t testing.TB, file string, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *pgServer) serve(conn net.Conn) error {
	s.mu.Lock()
	s.came++
	process := uint32(s.came)
	s.mu.Unlock()
	session := &pgSession{Backend: pgproto3.NewBackend(conn, conn), conn: conn, cancelled: make(chan struct{}, 1), server: s}
	for session.startup == nil {
		first, err := session.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch m := first.(type) {
		case *pgproto3.SSLRequest:
			if s.tls == nil {
				_, err := conn.Write([]byte{'N'})
				return err
			}
			if _, err := conn.Write([]byte{'S'}); err != nil {
				return err
			}
			session.tls = tls.Server(conn, s.tls)
			session.conn = session.tls
			own := sha256.Sum256(s.tls.Certificates[0].Certificate[0])
			session.binding = scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: own[:]}
			session.Backend = pgproto3.NewBackend(session.tls, session.tls)
		case *pgproto3.CancelRequest:
			s.mu.Lock()
			defer s.mu.Unlock()
			if other := s.sessions[m.ProcessID]; other != nil && bytes.Equal(other.key.SecretKey, m.SecretKey) && (session.tls != nil) == (s.tls != nil) {
				s.asked[m.ProcessID] = true
				select {
				case other.cancelled <- struct{}{}:
				default:
				}
			}
			return nil
		case *pgproto3.StartupMessage:
			session.startup = m
		default:
			return fmt.Errorf("message %T", m)
		}
	}
	if err := s.ask(session); err != nil {
		return err
	}
	session.key = pgproto3.BackendKeyData{ProcessID: process, SecretKey: []byte(rand.Text()[:4])}
	if session.startup.ProtocolVersion > pgproto3.ProtocolVersion30 {
		session.key.SecretKey = []byte(rand.Text() + rand.Text()) // longer since protocol 3.2
	}
	s.mu.Lock()
	s.sessions[process] = session
	s.mu.Unlock()
	session.Send(&pgproto3.AuthenticationOk{})
	session.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "18.4"})
	session.Send(&pgproto3.BackendKeyData{ProcessID: session.key.ProcessID, SecretKey: session.key.SecretKey})
	session.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := session.Flush(); err != nil {
		return err
	}
	return session.queries()
}

// refuse is an error of the server with all fields that one may have.
func (s *pgSession) refuse(code, text string) error {
	s.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: text, Detail: "a detail", Hint: "a hint"})
	return errors.Join(s.Flush(), errors.New(text))
}

// queries answers queries: "who" with the login, "rows N" and "copy out N"
// with rows, "copy in" with what was sent, "sleep" when it is cancelled, and
// "die" with the server's end.
func (s *pgSession) queries() error {
	for {
		m, err := s.Receive()
		if err != nil {
			return err
		}
		q, ok := m.(*pgproto3.Query)
		if !ok {
			return nil // Terminate
		}
		word, n, _ := strings.Cut(q.String, " ")
		count := 0
		_, _ = fmt.Sscan(strings.TrimPrefix(n, "out "), &count)
		done := fmt.Sprint("SELECT ", count)
		switch {
		case word == "who":
			s.Send(&pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, 4)})
			p := s.startup.Parameters
			s.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(p["user"]), []byte(p["database"]), []byte(p["application_name"]), []byte(s.how)}})
		case word == "rows":
			s.Send(&pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, 2)})
			err = s.repeat(count, &pgproto3.DataRow{Values: [][]byte{[]byte("0123456789"), []byte(strings.Repeat("x", 90))}})
		case strings.HasPrefix(q.String, "copy out"):
			s.Send(&pgproto3.CopyOutResponse{})
			err = s.repeat(count, &pgproto3.CopyData{Data: append(bytes.Repeat([]byte{'y'}, 99), '\n')})
			s.Send(&pgproto3.CopyDone{})
		case strings.HasPrefix(q.String, "copy in"):
			s.Send(&pgproto3.CopyInResponse{})
			if err = s.Flush(); err != nil {
				return err
			}
			for copying := true; copying; {
				m, err := s.Receive()
				if err != nil {
					return err
				}
				if data, ok := m.(*pgproto3.CopyData); ok {
					count += len(data.Data)
				} else {
					copying = false
				}
			}
			done = fmt.Sprint("COPY ", count)
		case word == "sleep":
			select {
			case s.server.began <- struct{}{}:
			default:
			}
			select {
			case <-s.cancelled:
				s.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request"})
			case <-s.server.woken:
			case <-time.After(5 * time.Minute):
			}
			s.server.mu.Lock()
			s.server.slept++
			s.server.mu.Unlock()
		case word == "die":
			return s.refuse("57P01", "terminating connection due to administrator command")
		}
		s.Send(&pgproto3.CommandComplete{CommandTag: []byte(done)})
		s.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := errors.Join(err, s.Flush()); err != nil {
			return err
		}
	}
}

// repeat sends a message many times, in pieces, as servers do.
func (s *pgSession) repeat(count int, m pgproto3.BackendMessage) error {
	for i := range count {
		s.Send(m)
		if i%80 == 79 {
			if err := s.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// request sends an authentication request and returns the reply's body.
func (s *pgSession) request(m []byte, kind byte) (string, error) {
	if _, err := s.conn.Write(m); err != nil {
		return "", err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(s.conn, head); err != nil {
		return "", err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(s.conn, body); err != nil {
		return "", err
	}
	if head[0] != kind {
		return "", fmt.Errorf("message %q, want %q", head[0], kind)
	}
	return string(body), nil
}

// authentication is an authentication request of a form, with its data.
func authentication(form uint32, more ...byte) []byte {
	m := binary.BigEndian.AppendUint32([]byte{'R'}, uint32(8+len(more)))
	return append(binary.BigEndian.AppendUint32(m, form), more...)
}

// expect requests the password and checks the reply with right.
func expect(form string, request []byte, kind byte, right func(user, reply string) bool) func(*pgSession) error {
	return func(s *pgSession) error {
		reply, err := s.request(request, kind)
		if err != nil {
			return err
		}
		if s.how = form; !right(s.startup.Parameters["user"], reply) {
			return s.refuse("28P01", "password authentication failed")
		}
		return nil
	}
}

func trust(*pgSession) error { return nil }

var cleartext = expect("password", authentication(3), 'p', func(_, reply string) bool { return reply == pgPassword+"\x00" })

var askMD5 = expect("md5", authentication(5, 1, 2, 3, 4), 'p', func(user, reply string) bool {
	hash := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	return reply == "md5"+hash(hash(pgPassword+user)+"\x01\x02\x03\x04")+"\x00"
})

// askDigest is Redshift's. (redshift_connector: ExtensibleDigest)
var askDigest = expect("digest", authentication(13, 0, 0, 0, 0, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 3, 'x', 'y', 'z'), 'd', func(_, reply string) bool {
	if len(reply) < 40 || binary.BigEndian.Uint32([]byte(reply)) != 32 || int(binary.BigEndian.Uint32([]byte(reply[36:]))) != len(reply)-40 || len(reply) < 50 {
		return false
	}
	stored := sha256.Sum256([]byte(pgPassword + "ab"))
	want := sha256.Sum256([]byte(string(stored[:]) + "xyz" + reply[40:]))
	return reply[4:36] == string(want[:])
})

// askSCRAM offers mechanisms as PostgreSQL does: with TLS it can bind the login
// to its certificate, and notices when that offer was removed on the way.
func askSCRAM(mechanisms ...string) func(*pgSession) error {
	return func(s *pgSession) error {
		server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) {
			client, err := scram.SHA256.NewClient("", pgPassword, "")
			if err != nil {
				return scram.StoredCredentials{}, err
			}
			return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
		})
		if err != nil {
			return err
		}
		talk := server.NewConversation()
		if slices.Contains(mechanisms, "SCRAM-SHA-256-PLUS") {
			talk = server.NewConversationWithChannelBinding(s.binding)
		}
		reply, err := s.request(authentication(10, []byte(strings.Join(mechanisms, "\x00")+"\x00\x00")...), 'p')
		if err != nil {
			return err
		}
		var first pgproto3.SASLInitialResponse
		if err := first.Decode([]byte(reply)); err != nil {
			return err
		}
		flag, _, _ := strings.Cut(string(first.Data), ",")
		s.how = first.AuthMechanism + " " + flag
		challenge, err := talk.Step(string(first.Data))
		if err != nil {
			return s.refuse("28P01", err.Error())
		}
		if reply, err = s.request(authentication(11, []byte(challenge)...), 'p'); err != nil {
			return err
		}
		last, err := talk.Step(reply)
		if err != nil || !talk.Valid() {
			return s.refuse("28P01", "password authentication failed")
		}
		_, err = s.conn.Write(authentication(12, []byte(last)...))
		return err
	}
}

// pgRoute is the route to a server, in clear text on loopback if it has no TLS.
func pgRoute(s *pgServer) route.Route {
	return route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: "127.0.0.1", Port: s.port, Plain: s.tls == nil, CAFile: s.ca, User: "dbt", Database: "analytics"}}
}

// pgCredential gives the broker a password as its credential.
func pgCredential(c *broker.Config) {
	c.Current = func(context.Context) (credential.Credential, error) {
		return credential.Credential{Password: secret.New(pgPassword), Expiry: time.Now().Add(time.Hour)}, nil
	}
}

// pgConnect logs in at the broker as dbt does.
func pgConnect(t testing.TB, b *broker.Broker, parameters string) (*pgconn.PgConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=somebody password=%s database=analytics application_name=dbt sslmode=disable %s", b.Address().Port, b.Address().Secret.Reveal(), parameters))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func pgQuery(t testing.TB, conn *pgconn.PgConn, query string) []*pgconn.Result {
	t.Helper()
	results, err := conn.Exec(t.Context(), query).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// pgError is what a client sees of a refusal.
func pgError(err error) string {
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s %s: %s", refusal.Severity, refusal.Code, refusal.Message)
	}
	return fmt.Sprint(err)
}

func TestPostgresLogin(t *testing.T) {
	t.Parallel()
	both := []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}
	for _, tt := range []struct {
		name, how string
		ask       func(*pgSession) error
		tls       bool
	}{
		{"nothing is asked", "", trust, true},
		{"password", "password", cleartext, true},
		{"password on loopback", "password", cleartext, false},
		{"MD5", "md5", askMD5, true},
		{"MD5 on loopback", "md5", askMD5, false},
		{"SCRAM, bound to the certificate", "SCRAM-SHA-256-PLUS p=tls-server-end-point", askSCRAM(both...), true},
		{"SCRAM, of a server that cannot bind it", "SCRAM-SHA-256 y", askSCRAM("SCRAM-SHA-256"), true},
		{"SCRAM on loopback", "SCRAM-SHA-256 n", askSCRAM("SCRAM-SHA-256"), false},
		{"Redshift's digest", "digest", askDigest, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var names []string
			if tt.tls {
				names = []string{"127.0.0.1"}
			}
			server := startPostgres(t, tt.ask, names...)
			b := start(t, pgRoute(server), pgCredential)
			conn, err := pgConnect(t, b, "")
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%s", pgQuery(t, conn, "who")[0].Rows[0]), fmt.Sprintf("[dbt analytics dbt %s]", tt.how); got != want {
				t.Errorf("the server knows %s, want %s", got, want)
			}
			if got := conn.ParameterStatus("server_version"); got != "18.4" {
				t.Errorf("server_version is %q", got)
			}
		})
	}
}

// TestPostgresUser: a lease's user replaces the block's, and the one that the
// client sends.
func TestPostgresUser(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, askMD5, "127.0.0.1")
	b := start(t, pgRoute(server), func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{User: "v-dbt-1", Token: secret.New(pgPassword), Expiry: time.Now().Add(time.Hour)}, nil
		}
	})
	conn, err := pgConnect(t, b, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s", pgQuery(t, conn, "who")[0].Rows[0]); got != "[v-dbt-1 analytics dbt md5]" {
		t.Errorf("the server knows %s", got)
	}
}

// TestPostgresAnyDatabase: without a database in the block, dbt chooses it.
func TestPostgresAnyDatabase(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, trust, "127.0.0.1")
	r := pgRoute(server)
	r.Upstream.Database = ""
	conn, err := pgConnect(t, start(t, r, pgCredential), "database=another")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s", pgQuery(t, conn, "who")[0].Rows[0]); got != "[dbt another dbt ]" {
		t.Errorf("the server knows %s", got)
	}
}

// TestPostgresClients: which clients are refused before anything is sent to the server.
func TestPostgresClients(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, trust, "127.0.0.1")
	var told refusals
	b := start(t, pgRoute(server), pgCredential, func(c *broker.Config) { c.Refused = told.add })
	for _, tt := range []struct{ name, parameters, err string }{
		{"another password", "password=guess", "FATAL 28P01: oidc-dbt: the password does not belong to this run"},
		{"the credential itself", "password=" + pgPassword, "FATAL 28P01: oidc-dbt: the password does not belong to this run"},
		{"the secret and more", "password=" + b.Address().Secret.Reveal() + "x", "FATAL 28P01: oidc-dbt: the password does not belong to this run"},
		{"another database", "database=other", `FATAL 28000: oidc-dbt: the database is "other", want the target's "analytics"`},
	} {
		_, err := pgConnect(t, b, tt.parameters)
		if got := pgError(err); got != tt.err {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.err)
		}
	}
	raw := func(first []byte) string {
		conn, err := net.Dial("tcp", address(b))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(first); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		reply, _ := io.ReadAll(conn)
		said := strings.Trim(string(reply[:bytes.IndexFunc(append(reply, 'E'), func(r rune) bool { return r == 'E' })]), "\x00")
		var refusal pgproto3.ErrorResponse
		if i := bytes.IndexByte(reply, 'E'); i >= 0 && refusal.Decode(reply[i+5:]) == nil {
			said += refusal.Code + " " + refusal.Message
		}
		return said
	}
	number := func(n ...uint32) (m []byte) {
		for _, n := range n {
			m = binary.BigEndian.AppendUint32(m, n)
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		first []byte
		want  string
	}{
		{"nothing", nil, ""},
		{"half a message", number(100, 3<<16), ""},
		{"too short", number(7, 0), "08P01 oidc-dbt: the first message has 7 bytes, want 8 to 10000"},
		{"too long", number(10_001, 3<<16), "08P01 oidc-dbt: the first message has 10001 bytes, want 8 to 10000"},
		{"another protocol", []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), "08P01 oidc-dbt: the first message has 1195725856 bytes, want 8 to 10000"},
		{"a protocol that is gone", number(8, 2<<16), "08P01 oidc-dbt: Bad startup message version number. Expected 196608 or 196610, got 131072"},
		{"encryption without an end", slices.Concat(number(8, 80877103), number(8, 80877104), number(8, 80877103), number(8, 80877104)), "NNN08P01 oidc-dbt: the client asked for encryption too often"},
		{"a cancel request cut short", number(8, 80877102), "08P01 oidc-dbt: cancel request too short"},
		{"a cancel request for no session", number(16, 80877102, 1, 2), ""},
	} {
		if got := raw(tt.first); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 2]" {
		t.Errorf("told of %s callers, want [1 2]", got)
	}
	if came := server.arrivals(); came > 0 {
		t.Errorf("%d connections reached the server", came)
	}
}

// TestPostgresFaults: each fault of a server, with the message that dbt prints.
func TestPostgresFaults(t *testing.T) {
	t.Parallel()
	say := func(m []byte) func(*pgSession) error {
		return func(s *pgSession) error {
			_, err := s.conn.Write(m)
			_, _ = io.Copy(io.Discard, s.conn)
			return err
		}
	}
	// first is a server's first message of SCRAM, with the client's nonce.
	first := func(mutate func(string) string, then ...byte) func(*pgSession) error {
		return func(s *pgSession) error {
			reply, err := s.request(authentication(10, []byte("SCRAM-SHA-256\x00\x00")...), 'p')
			if err != nil {
				return err
			}
			_, nonce, _ := strings.Cut(reply, "r=")
			if _, err := s.request(authentication(11, []byte(mutate("r="+nonce+"more,s=c2FsdA==,i=4096"))...), 'p'); err != nil {
				return err
			}
			_, err = s.conn.Write(then)
			_, _ = io.Copy(io.Discard, s.conn)
			return err
		}
	}
	same := func(s string) string { return s }
	long := append([]byte{'R'}, binary.BigEndian.AppendUint32(nil, 65537)...)
	for _, tt := range []struct {
		name string
		ask  func(*pgSession) error
		err  string // after: FATAL 28000: oidc-dbt: log in at "127.0.0.1:PORT":
	}{
		{"Kerberos", say(authentication(2)), "the server requested Kerberos, want a password"},
		{"GSSAPI", say(authentication(7)), "the server requested GSSAPI, want a password"},
		{"SSPI", say(authentication(9)), "the server requested SSPI, want a password"},
		{"a token", say(authentication(14)), "the server requested an identity provider's token, want a password"},
		{"a form of tomorrow", say(authentication(99)), "the server requested authentication type 99, want a password"},
		{"cut off", say([]byte{'R', 0, 0, 0, 6, 0, 0}), "the server's request for authentication is truncated"},
		{"MD5 without salt", say(authentication(5)), "bad authentication message size"},
		{"other mechanisms", say(authentication(10, []byte("OAUTHBEARER\x00\x00")...)), `the server offers ["OAUTHBEARER"], want SCRAM-SHA-256`},
		{"SCRAM from its middle", say(authentication(11)), "the server requested authentication type 11 out of order"},
		{"asked twice", say(slices.Concat(authentication(3), authentication(5, 1, 2, 3, 4))), "the server requested authentication type 5 out of order"},
		{"cleartext in the midst of SCRAM", say(slices.Concat(authentication(10, []byte("SCRAM-SHA-256\x00\x00")...), authentication(3))), "the server requested authentication type 3 out of order"},
		{"SCRAM with another's nonce", first(func(string) string { return "r=other,s=c2FsdA==,i=4096" }), "SCRAM: server nonce did not extend client nonce"},
		{"SCRAM with too much to compute", first(func(s string) string { return s + "000000" }), "SCRAM: the server requested 4096000000 iterations, want at most 1000000"},
		{"SCRAM with nonsense", first(func(string) string { return "?" }), "SCRAM: not enough fields in first server message"},
		{"SCRAM by who does not know the password", first(same, authentication(12, []byte("v=bm90aGluZw==")...)...), "SCRAM: server validation failed"},
		{"SCRAM that is broken off", first(same, authentication(0)...), "the server accepted the login without proving that it knows the password"},
		{"a digest of tomorrow", say(authentication(13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)), "the server requested digest algorithm 1, want 0 (SHA-256)"},
		{"a digest cut off", say(authentication(13, 0, 0, 0, 0, 0, 0, 0, 9, 1)), "the server's request for a digest is truncated"},
		{"too long", say(long), `message 'R' has 65537 bytes, want 4 to 65536`},
		{"a message of later", say([]byte{'T', 0, 0, 0, 6, 0, 0}), `the server sent message 'T' instead of a request for authentication`},
		{"a key that is none", say(slices.Concat(authentication(0), []byte{'K', 0, 0, 0, 4})), "BackendKeyData body must have length of 8, but it is 0"},
		{"gone", func(s *pgSession) error { s.conn.Close(); return io.EOF }, "the server closed the connection"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, tt.ask, "127.0.0.1")
			want := fmt.Sprintf(`FATAL 28000: oidc-dbt: log in at "127.0.0.1:%d": %s`, server.port, tt.err)
			_, err := pgConnect(t, start(t, pgRoute(server), pgCredential), "")
			if got := pgError(err); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestPostgresUnreachable: why the proxy cannot connect to a server.
func TestPostgresUnreachable(t *testing.T) {
	t.Parallel()
	good, other, plain := startPostgres(t, cleartext, "127.0.0.1"), startPostgres(t, cleartext, "db.acme.example"), startPostgres(t, cleartext)
	nonsense := setup.Listen(t, func(conn net.Conn) error {
		_, err := conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return err
	})
	hangsUp := setup.Listen(t, func(conn net.Conn) error {
		_, err := io.ReadFull(conn, make([]byte, 8))
		return err
	})
	closed := closedPort(t)
	at := func(s *pgServer, change func(*route.Upstream)) route.Upstream {
		u := pgRoute(s).Upstream
		change(&u)
		return u
	}
	port := func(n int) func(*route.Upstream) { return func(u *route.Upstream) { u.Port = n } }
	for _, tt := range []struct {
		name string
		to   route.Upstream
		err  string // after: connect to "HOST:PORT":
	}{
		{"good", pgRoute(good).Upstream, ""},
		{"a name that is not checked", at(other, func(u *route.Upstream) { u.AnyName = true }), ""},
		{"another's name", pgRoute(other).Upstream, "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"},
		{"another's authority", at(good, func(u *route.Upstream) { u.CAFile = other.ca }), "tls: failed to verify certificate: x509: certificate signed by unknown authority (set sslrootcert, SSL_CERT_FILE or NODE_EXTRA_CA_CERTS to the file of its certificate authority)"},
		{"another's authority, for any name", at(good, func(u *route.Upstream) { u.CAFile, u.AnyName = other.ca, true }), "tls: failed to verify certificate: x509: certificate signed by unknown authority (set sslrootcert, SSL_CERT_FILE or NODE_EXTRA_CA_CERTS to the file of its certificate authority)"},
		{"no TLS", at(good, port(plain.port)), "the server does not speak TLS"},
		{"another protocol", at(good, port(nonsense)), "ask for TLS: the answer is 'H', want S: this is not a PostgreSQL server"},
		{"an end", at(good, port(hangsUp)), "ask for TLS: EOF"},
		{"a closed port", at(good, port(closed)), fmt.Sprintf("dial tcp 127.0.0.1:%d: connect: connection refused", closed)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := "<nil>"
			if tt.err != "" {
				want = fmt.Sprintf(`FATAL 08006: oidc-dbt: connect to "127.0.0.1:%d": %s`, tt.to.Port, tt.err)
			}
			_, err := pgConnect(t, start(t, route.Route{Kind: route.Postgres, Upstream: tt.to}, pgCredential), "")
			if got := pgError(err); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestPostgresRefusal: the server's own error reaches dbt unchanged, before and
// after the login.
func TestPostgresRefusal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, code, message string
		ask                 func(*pgSession) error
	}{
		{"the login", "28P01", "password authentication failed", func(s *pgSession) error {
			if _, err := s.request(authentication(3), 'p'); err != nil {
				return err
			}
			return s.refuse("28P01", "password authentication failed")
		}},
		{"the session", "53300", "too many connections", func(s *pgSession) error {
			s.Send(&pgproto3.AuthenticationOk{})
			return s.refuse("53300", "too many connections")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := pgConnect(t, start(t, pgRoute(startPostgres(t, tt.ask, "127.0.0.1")), pgCredential), "")
			got, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || got.Code != tt.code || got.Message != tt.message || got.Detail != "a detail" || got.Hint != "a hint" {
				t.Errorf("error is %v, want the server's own", err)
			}
		})
	}
}

func TestPostgresWithoutCredential(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, trust, "127.0.0.1")
	b := start(t, pgRoute(server), func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{}, errors.New("request ID token: down")
		}
	})
	_, err := pgConnect(t, b, "")
	if got, want := pgError(err), "FATAL 08006: oidc-dbt: get a credential: request ID token: down"; got != want {
		t.Errorf("error is %s, want %s", got, want)
	}
	if server.arrivals() > 0 {
		t.Error("the server was asked")
	}
}

// TestPostgresSession: a session's messages are passed on in both directions
// until its end.
func TestPostgresSession(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, cleartext, "127.0.0.1")
	b := start(t, pgRoute(server), pgCredential)
	conn, err := pgConnect(t, b, "")
	if err != nil {
		t.Fatal(err)
	}
	if rows := pgQuery(t, conn, "rows 100000")[0].Rows; len(rows) != 100_000 || string(rows[99_999][0]) != "0123456789" {
		t.Errorf("%d rows", len(rows))
	}
	var out bytes.Buffer
	if _, err := conn.CopyTo(t.Context(), &out, "copy out 100000"); err != nil || out.Len() != 10_000_000 {
		t.Errorf("copied %d bytes out, %v", out.Len(), err)
	}
	if tag, err := conn.CopyFrom(t.Context(), &out, "copy in"); err != nil || tag.String() != "COPY 10000000" {
		t.Errorf("copy in: %s, %v", tag, err)
	}

	slept := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "sleep").ReadAll()
		slept <- err
	}()
	<-server.began
	if err := conn.CancelRequest(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := pgError(<-slept), "ERROR 57014: canceling statement due to user request"; got != want {
		t.Errorf("the cancelled query says %s, want %s", got, want)
	}
	if got := fmt.Sprintf("%s", pgQuery(t, conn, "who")[0].Rows[0]); got != "[dbt analytics dbt password]" {
		t.Errorf("after it the server knows %s", got)
	}

	_, err = conn.Exec(t.Context(), "die").ReadAll()
	if got, want := pgError(err), "FATAL 57P01: terminating connection due to administrator command"; got != want {
		t.Errorf("the server's end is %s, want %s", got, want)
	}
	<-conn.CleanupDone() // pgx itself sends a cancel request
	// The broker may see the session's end later than the client. Until then it
	// passes cancel requests on.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		came := server.arrivals()
		_ = conn.CancelRequest(t.Context())
		if server.arrivals() == came {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a request to cancel a session that is over is passed on")
		}
	}
}

// TestPostgresProtocol: the newer version of the protocol has longer keys; a
// server that does not speak it says so; notices may come before the login.
func TestPostgresProtocol(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		ask    func(*pgSession) error
		key    int // bytes
		notice string
	}{
		{"new", trust, 52, ""},
		{"old", func(s *pgSession) error {
			s.Send(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 0})
			s.Send(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "soon"})
			s.startup.ProtocolVersion = pgproto3.ProtocolVersion30
			return s.Flush()
		}, 4, "soon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, pgRoute(startPostgres(t, tt.ask, "127.0.0.1")), pgCredential)
			config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=somebody password=%s database=analytics sslmode=disable max_protocol_version=3.2", b.Address().Port, b.Address().Secret.Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			notice := ""
			config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice = n.Message }
			conn, err := pgconn.ConnectConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if got := len(conn.SecretKey()); got != tt.key || notice != tt.notice {
				t.Errorf("a key of %d bytes, notice %q; want %d and %q", got, notice, tt.key, tt.notice)
			}
			slept := make(chan error, 1)
			go func() {
				_, err := conn.Exec(context.Background(), "sleep").ReadAll()
				slept <- err
			}()
			time.Sleep(50 * time.Millisecond)
			if err := conn.CancelRequest(t.Context()); err != nil {
				t.Error(err)
			}
			if got, want := pgError(<-slept), "ERROR 57014: canceling statement due to user request"; got != want {
				t.Errorf("the cancelled query says %s, want %s", got, want)
			}
		})
	}
}

// TestPostgresManySessions: as many sessions as dbt may have. None outlives the
// broker or its client.
func TestPostgresManySessions(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, askSCRAM("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), "127.0.0.1")
	b := start(t, pgRoute(server), pgCredential)
	var all sync.WaitGroup
	conns := make([]*pgconn.PgConn, 64)
	for i := range conns {
		all.Go(func() {
			conn, err := pgConnect(t, b, "")
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = conn
			if results, err := conn.Exec(t.Context(), "rows 1000").ReadAll(); err != nil || len(results[0].Rows) != 1000 {
				t.Errorf("%d results, %v", len(results), err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	b.Close()
	for _, conn := range conns {
		if _, err := conn.Exec(t.Context(), "who").ReadAll(); err == nil {
			t.Error("a session outlives the broker")
		}
	}
}

// TestPostgresInterrupt: statements are cancelled by an interrupt, which keeps
// the session; when the broker closes; and when the client's connection ends
// without a Terminate message. Idle sessions get no cancel request.
func TestPostgresInterrupt(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{true, false} {
		var names []string
		if tls {
			names = []string{"127.0.0.1"}
		}
		for name, test := range map[string]func(t *testing.T, names []string){
			"interrupt":                      testPostgresInterrupt,
			"end of the broker":              testPostgresBrokerEnds,
			"end of the clients":             testPostgresClientsGo,
			"clients that say that they end": testPostgresClientsEnd,
			"the broker's end before that of a client that has said it": testPostgresBrokerEndsFirst,
		} {
			t.Run(fmt.Sprintf("%s, TLS %t", name, tls), func(t *testing.T) {
				t.Parallel()
				test(t, names)
			})
		}
	}
}

// sleepers is the number of sessions at the server of these tests.
const sleepers = 8

// asleep starts a "sleep" in all sessions but the first.
func asleep(t *testing.T, names []string) (server *pgServer, b *broker.Broker, conns []*pgconn.PgConn, ends chan error) {
	server = startPostgres(t, trust, names...)
	b = start(t, pgRoute(server), pgCredential)
	ends = make(chan error, sleepers)
	for range sleepers {
		conn, err := pgConnect(t, b, "max_protocol_version=3.2")
		if err != nil {
			t.Fatal(err)
		}
		pgQuery(t, conn, "who")
		conns = append(conns, conn)
	}
	for _, conn := range conns[1:] {
		go func() {
			_, err := conn.Exec(context.Background(), "sleep").ReadAll()
			ends <- err
		}()
		<-server.began
	}
	return server, b, conns, ends
}

// rawAsleep starts a "sleep" in all sessions of clients that, unlike pgx, send
// no cancel requests.
func rawAsleep(t *testing.T, names []string) (server *pgServer, b *broker.Broker, clients []net.Conn) {
	server = startPostgres(t, trust, names...)
	b = start(t, pgRoute(server), pgCredential)
	for range sleepers {
		conn, err := pgConnect(t, b, "")
		if err != nil {
			t.Fatal(err)
		}
		hijacked, err := conn.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		if err := send(hijacked.Conn, &pgproto3.Query{String: "sleep"}); err != nil {
			t.Fatal(err)
		}
		<-server.began
		clients = append(clients, hijacked.Conn)
	}
	return server, b, clients
}

// arrivals returns how many connections have come.
func (s *pgServer) arrivals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came
}

// counts reports how many statements were cancelled and how many have ended.
func (s *pgServer) counts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%d cancelled, %d ends", len(s.asked), s.slept)
}

// expect waits until the server has seen what is wanted.
func (s *pgServer) expect(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); s.counts() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server has seen %s, want %s", s.counts(), want)
		}
	}
}

func testPostgresInterrupt(t *testing.T, names []string) {
	const cancelled = "ERROR 57014: canceling statement due to user request"
	server, b, conns, ends := asleep(t, names)
	b.Interrupt()
	for range sleepers - 1 {
		if got := pgError(<-ends); got != cancelled {
			t.Errorf("a client is told %s", got)
		}
	}
	for _, conn := range conns {
		pgQuery(t, conn, "who")
	}
	if got, want := server.counts(), "7 cancelled, 7 ends"; got != want {
		t.Errorf("the server has seen %s, want %s", got, want)
	}
}

func testPostgresBrokerEnds(t *testing.T, names []string) {
	server, b, _, ends := asleep(t, names)
	b.Close()
	if got, want := server.counts(), "7 cancelled, 7 ends"; got != want {
		t.Errorf("when the broker has ended, the server has seen %s, want %s", got, want)
	}
	for range sleepers - 1 {
		<-ends
	}
}

func testPostgresClientsGo(t *testing.T, names []string) {
	server, _, clients := rawAsleep(t, names)
	for _, conn := range clients {
		conn.Close() // without Terminate
	}
	server.expect(t, "8 cancelled, 8 ends")
}

func testPostgresClientsEnd(t *testing.T, names []string) {
	server, b, clients := rawAsleep(t, names)
	for _, conn := range clients {
		if err := send(conn, &pgproto3.Terminate{}); err != nil {
			t.Error(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	close(server.woken)
	for _, conn := range clients {
		ended(t, conn) // the broker has seen the server's end
	}
	server.expect(t, "0 cancelled, 8 ends")
	b.Close()
	server.expect(t, "0 cancelled, 8 ends")
}

func testPostgresBrokerEndsFirst(t *testing.T, names []string) {
	server, b, clients := rawAsleep(t, names)
	for _, conn := range clients {
		if err := send(conn, &pgproto3.Terminate{}); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	b.Close()
	server.expect(t, "8 cancelled, 8 ends")
}

func send(w io.Writer, m pgproto3.Message) error {
	text, err := m.Encode(nil)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}
