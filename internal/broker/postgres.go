package broker

import (
	"bufio"
	"bytes"
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
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// postgres logs clients in at a PostgreSQL server, or at one that speaks its
// protocol, and then passes on what both say, unread. The client shows the
// secret as its password, over plain loopback.
// (PostgreSQL 18: Frontend/Backend Protocol)
func postgres(b *Broker) (service, error) {
	config, err := clientTLS(b.config.Network, b.config.Route.Upstream)
	if err != nil {
		return service{}, err
	}
	if config != nil {
		config.NextProtos = []string{"postgresql"} // as libpq since 17: no server of another protocol answers
		config.DynamicRecordSizingDisabled = true  // a database reads whole messages
	}
	p := &postgresProxy{Broker: b, tls: config, live: map[cancelKey][]*postgresServer{}, large: newPool(pieceSize),
		sealed: newPool(pieceSize + pieceSize/8)}
	return service{conn: p.serve, raw: rawPostgres}, nil
}

// rawPostgres is an error before the client has identified itself. (SQLSTATE
// 53300: too_many_connections)
func rawPostgres(full bool, err error) []byte {
	code := invalidAuthorization
	if full {
		code = "53300"
	}
	words, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code,
		Message: "oidc-dbt: " + err.Error()}).Encode(nil)
	return words
}

type postgresProxy struct {
	*Broker
	tls  *tls.Config // nil for a plain connection
	keys scramKeys

	large, sealed *pool // for what a client sends in bulk, and what TLS makes of it

	mu   sync.Mutex
	live map[cancelKey][]*postgresServer // the sessions that may be cancelled
}

// A cancelKey is what a server gives a session for cancelling what it does.
type cancelKey struct {
	process uint32
	secret  string
}

// SQLSTATE codes. (PostgreSQL: Appendix A)
const (
	connectionFailure    = "08006"
	protocolViolation    = "08P01"
	invalidAuthorization = "28000"
	invalidPassword      = "28P01"
	adminShutdown        = "57P01"

	insufficientPrivilege = "42501"
)

// A postgresError is sent to the client. Other errors are not: either the client
// has gone, or it already has the server's message.
type postgresError struct {
	code string
	error
}

// A postgresRefusal is a server's refusal of a login, which the client has not
// seen.
type postgresRefusal struct {
	message
	before []byte // what the server has said until then
}

func (r postgresRefusal) Error() string { return "the server refused the login" }

// ofCredential reports whether another credential may do better. PgBouncer has the code of a protocol violation for
// everything that it refuses itself. (PgBouncer 1.24: src/proto.c, send_pooler_error; src/pam.c, src/client.c)
func (r postgresRefusal) ofCredential() bool {
	var words pgproto3.ErrorResponse
	if words.Decode(r.body) != nil {
		return false
	}
	return words.Code == invalidPassword || words.Code == invalidAuthorization ||
		words.Code == protocolViolation && strings.Contains(words.Message, "authentication failed")
}

// errPassedOn is a refusal by the server that was sent to the client.
var errPassedOn = errors.New("the server refused the login")

// clientPatience bounds a client's part of the login: it is on this machine and
// needs no user input.
const clientPatience = 10 * time.Second

func (p *postgresProxy) serve(ctx context.Context, conn net.Conn) {
	timer := time.AfterFunc(clientPatience, func() { conn.Close() })
	defer timer.Stop()
	through := conn // the gate counts conn itself
	if c, ok := guestOf(conn); ok {
		through = newTCPConn(c.TCPConn)
	}
	client := bufio.NewReader(through)
	startup, cancel, err := readStartup(client, conn)
	if cancel != nil {
		timer.Stop()
		p.cancel(ctx, *cancel)
		return
	}
	if err == nil {
		err = p.admit(client, conn, startup)
	}
	if err == nil {
		welcome(conn)
		err = p.halted()
	}
	timer.Stop()
	if err == nil {
		err = p.restrict(startup)
	}
	var server *postgresServer
	if err == nil {
		server, err = p.open(ctx, conn, startup)
	}
	if err != nil {
		tellPostgres(conn, err)
		return
	}
	if err := p.forward(ctx, client, through, server); err != nil {
		p.end(through, err)
	}
}

// tellPostgres sends an error to a client, if it is for one.
func tellPostgres(client io.Writer, err error) {
	if told, ok := errors.AsType[postgresError](err); ok {
		_ = send(client, &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: told.code,
			Message: "oidc-dbt: " + told.Error()})
	}
}

// maxStartup bounds a client's first message, as the server itself does
// (MAX_STARTUP_PACKET_LENGTH).
const maxStartup = 10_000

// Codes of the first message, in the place of a start-up message's version.
const (
	cancelRequest = 80877102
	tlsRequest    = 80877103
	gssRequest    = 80877104
)

// readStartup reads how a client begins. A request for encryption is declined:
// the client is on this machine. It returns a start-up or a cancel request.
func readStartup(client io.Reader, conn io.Writer) (*pgproto3.StartupMessage, *pgproto3.CancelRequest, error) {
	for range 3 { // at most one request for each kind of encryption
		var size [4]byte
		if _, err := io.ReadFull(client, size[:]); err != nil {
			return nil, nil, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n < 8 || n > maxStartup {
			return nil, nil, postgresError{protocolViolation, fmt.Errorf("the first message has %d bytes, want 8 to %d", n, maxStartup)}
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return nil, nil, err
		}
		switch binary.BigEndian.Uint32(body) {
		case tlsRequest, gssRequest:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return nil, nil, err
			}
		case cancelRequest:
			request := &pgproto3.CancelRequest{}
			if err := request.Decode(body); err != nil {
				return nil, nil, postgresError{protocolViolation, err}
			}
			return nil, request, nil
		default:
			startup := &pgproto3.StartupMessage{}
			if err := startup.Decode(body); err != nil {
				return nil, nil, postgresError{protocolViolation, err}
			}
			return startup, nil, nil
		}
	}
	return nil, nil, postgresError{protocolViolation, errors.New("the client asked for encryption too often")}
}

// admit lets a client in that has the secret and wants the target's database.
// Until then nothing is sent to the server.
func (p *postgresProxy) admit(client io.Reader, conn io.Writer, startup *pgproto3.StartupMessage) error {
	if err := send(conn, &pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return err
	}
	m, err := readMessage(client)
	if err != nil {
		return err
	}
	var shown pgproto3.PasswordMessage
	if m.kind != 'p' || shown.Decode(m.body) != nil || !p.knows(shown.Password) {
		p.refused.add()
		return postgresError{invalidPassword, errors.New("the password does not belong to this run")}
	}
	if want, got := p.config.Route.Upstream.Database, startup.Parameters["database"]; want != "" && got != want {
		return postgresError{invalidAuthorization, fmt.Errorf("the database is %q, want the target's %q", got, want)}
	}
	return nil
}

// patience bounds what comes before the server's own part of the login:
// dbt-postgres gives up after 10 s (connect_timeout), and then says no more
// than "timeout expired".
const patience = 9 * time.Second

var errPatience = notThere(patience)

// open logs the client in at the server, with the current credential.
func (p *postgresProxy) open(ctx context.Context, client io.Writer, startup *pgproto3.StartupMessage) (*postgresServer, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	c, err := p.config.Current(bounded)
	if err != nil {
		return nil, postgresError{connectionFailure, fmt.Errorf("get a credential: %w", err)}
	}
	for again := false; ; again = true {
		server, err := p.dial(bounded, p.place())
		if err != nil {
			return nil, postgresError{connectionFailure, err}
		}
		err = p.logIn(ctx, client, server, startup, c)
		if err == nil {
			return server, nil
		}
		server.Close()
		refusal, ok := errors.AsType[postgresRefusal](err)
		if !ok {
			return nil, err
		}
		if !again && refusal.ofCredential() {
			if next, ok := p.renewed(bounded, c); ok {
				c = next
				continue // the client has heard nothing yet
			}
		}
		_, err = client.Write(refusal.before)
		return nil, errors.Join(err, refusal.writeTo(client), errPassedOn)
	}
}

// logInPatience bounds the server's part of the login. A paused database takes
// half a minute to resume; clients with a shorter timeout end by themselves.
const logInPatience = time.Minute

func (p *postgresProxy) logIn(ctx context.Context, client io.Writer, server *postgresServer,
	startup *pgproto3.StartupMessage, c credential.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, logInPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	l := postgresLogin{user: p.config.Route.Upstream.User, password: c.Password.Reveal(), tls: server.tls, keys: &p.keys}
	if c.User != "" {
		l.user = c.User
	}
	if l.password == "" {
		l.password = c.Token.Reveal() // in the password's place, as the clouds' databases take it
	}
	startup.Parameters["user"] = l.user
	var told bytes.Buffer // held back: a login may be tried again
	err := l.run(&told, server, startup)
	if err == nil {
		p.remember(server) // before the client has it
		if _, err = told.WriteTo(client); err != nil {
			p.forget(server)
		}
		return err
	}
	refusal, refused := errors.AsType[postgresRefusal](err)
	switch {
	case refused:
		refusal.before = told.Bytes()
		return refusal
	case ctx.Err() != nil:
		err = fmt.Errorf("not finished after %s", logInPatience)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the server closed the connection")
	}
	return postgresError{invalidAuthorization, fmt.Errorf("log in at %q: %w", p.place(), err)}
}

func (p *postgresProxy) remember(server *postgresServer) {
	if server.key == nil {
		return
	}
	k := cancelKey{server.key.ProcessID, string(server.key.SecretKey)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[k] = append(p.live[k], server)
}

func (p *postgresProxy) forget(server *postgresServer) {
	if server.key == nil {
		return
	}
	k := cancelKey{server.key.ProcessID, string(server.key.SecretKey)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[k] = slices.DeleteFunc(p.live[k], func(s *postgresServer) bool { return s == server })
	if len(p.live[k]) == 0 {
		delete(p.live, k)
	}
}

// cancel passes on a request to cancel what one of the proxy's own sessions
// does. It has no password, only the session's key. There is no reply that would
// tell whether there is such a session.
func (p *postgresProxy) cancel(ctx context.Context, request pgproto3.CancelRequest) {
	p.mu.Lock()
	live := p.live[cancelKey{request.ProcessID, string(request.SecretKey)}]
	p.mu.Unlock()
	if len(live) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	p.requestCancel(ctx, live[0])
}

// requestCancel has the server end what it is doing in a session. It returns
// when the server has seen the request, or ctx ends. The request goes to the
// very server, of several that the name may stand for, and encrypted as the
// session is.
func (p *postgresProxy) requestCancel(ctx context.Context, session *postgresServer) {
	server, err := p.dial(ctx, session.RemoteAddr().String())
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if send(server, &pgproto3.CancelRequest{ProcessID: session.key.ProcessID, SecretKey: session.key.SecretKey}) == nil {
		_, _ = io.Copy(io.Discard, server) // its end tells that the request was seen
	}
}

// A message is one of the protocol after the start-up.
type message struct {
	kind byte
	body []byte
}

// maxMessage bounds messages of a login: errors are under 30,000 bytes for
// libpq, and tokens as passwords well under that.
const maxMessage = 64 << 10

func readMessage(r io.Reader) (message, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessage {
		return message{}, postgresError{protocolViolation, fmt.Errorf("message %q has %d bytes, want 4 to %d", head[0], n, maxMessage)}
	}
	m := message{head[0], make([]byte, n-4)}
	_, err := io.ReadFull(r, m.body)
	return m, err
}

// writeTo passes the message on.
func (m message) writeTo(w io.Writer) error {
	head := binary.BigEndian.AppendUint32([]byte{m.kind}, uint32(len(m.body)+4))
	_, err := w.Write(append(head, m.body...))
	return err
}

func send(w io.Writer, m pgproto3.Message) error {
	text, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
