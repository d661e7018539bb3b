package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// A postgresServer is a connection to the server.
type postgresServer struct {
	net.Conn
	in  *bufio.Reader
	tls *tls.ConnectionState     // nil for a plain connection
	key *pgproto3.BackendKeyData // nil where the server gives none

	gather *gatherer // below TLS; nil for a plain connection

	atWork
}

func newPostgresServer(conn net.Conn) *postgresServer {
	return &postgresServer{Conn: conn, in: bufio.NewReader(conn)}
}

// place is the server's address, for errors.
func (p *postgresProxy) place() string {
	u := p.config.Route.Upstream
	return net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
}

// dial connects to the server at an address, and encrypts.
func (p *postgresProxy) dial(ctx context.Context, address string) (*postgresServer, error) {
	failed := func(err error) (*postgresServer, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to %q: %w", p.place(), err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return failed(err)
	}
	conn = newTCPConn(conn.(*net.TCPConn))
	if p.tls == nil {
		return newPostgresServer(conn), nil
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	gather := &gatherer{Conn: conn, buffers: p.sealed}
	secured, err := encrypt(ctx, gather, p.tls)
	if err != nil {
		conn.Close()
		return failed(err)
	}
	server, state := newPostgresServer(secured), secured.ConnectionState()
	server.tls, server.gather = &state, gather
	return server, nil
}

// encrypt requests TLS. It reads only the one byte of the answer: plain text that
// an attacker appends to it must not be taken for the server's.
func encrypt(ctx context.Context, conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	if err := send(conn, &pgproto3.SSLRequest{}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, fmt.Errorf("ask for TLS: %w", err)
	}
	switch answer[0] {
	case 'S':
	case 'N', 'E': // E: an error, of servers that do not know the request
		return nil, errors.New("the server does not speak TLS")
	default:
		return nil, fmt.Errorf("ask for TLS: the answer is %q, want S: this is not a PostgreSQL server", answer[0])
	}
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(ctx)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		err = fmt.Errorf("%w (set sslrootcert, SSL_CERT_FILE or NODE_EXTRA_CA_CERTS to the file of its certificate authority)", err)
	}
	return secured, err
}

// A postgresLogin answers what a server asks at the start of one session.
type postgresLogin struct {
	user, password string
	tls            *tls.ConnectionState

	keys *scramKeys

	asked bool                      // for the password, in any form
	sasl  *scram.ClientConversation // nil for a form other than SASL
}

// run is the start-up: what the server asks is answered, everything else that
// it says is the client's. A server's refusal is a postgresRefusal.
func (l *postgresLogin) run(client io.Writer, server *postgresServer, startup *pgproto3.StartupMessage) error {
	if err := send(server, startup); err != nil {
		return err
	}
	for in := false; ; {
		m, err := readMessage(server.in)
		if err != nil {
			return err
		}
		switch {
		case m.kind == 'R' && !in:
			if in, err = l.answer(server, m.body); err != nil {
				return err
			}
			if !in {
				continue
			}
		case m.kind == 'E':
			return postgresRefusal{message: m}
		case m.kind == 'S' && in:
			server.reports.begin(m.body, len(m.body))
		case m.kind == 'K' && in:
			server.key = &pgproto3.BackendKeyData{}
			if err := server.key.Decode(m.body); err != nil {
				return err
			}
		case !in && m.kind != 'N' && m.kind != 'v': // notice, version
			return fmt.Errorf("the server sent message %q instead of a request for authentication", m.kind)
		}
		if err := m.writeTo(client); err != nil {
			return err
		}
		if m.kind == 'Z' {
			return nil
		}
	}
}

// Forms of login. (PostgreSQL: Message Formats, Authentication…; the digest
// and the token are Redshift's, redshift_connector 2.1)
const (
	askNothing     = 0
	askPassword    = 3
	askMD5         = 5
	askSASL        = 10
	askSASLMore    = 11
	askSASLFinal   = 12
	askSHA256      = 13
	maxDigestField = 1 << 10
)

// otherForms are those that nothing here can answer.
var otherForms = map[uint32]string{2: "Kerberos", 6: "an SCM credential", 7: "GSSAPI", 9: "SSPI", 14: "an identity provider's token"}

// answer answers one request for authentication. in reports that the server
// asks no more.
func (l *postgresLogin) answer(server io.Writer, body []byte) (in bool, err error) {
	if len(body) < 4 {
		return false, errors.New("the server's request for authentication is truncated")
	}
	form := binary.BigEndian.Uint32(body)
	more := form == askSASLMore || form == askSASLFinal
	switch {
	case form == askNothing:
		if l.sasl != nil && !l.sasl.Valid() {
			return false, errors.New("the server accepted the login without proving that it knows the password")
		}
		return true, nil
	case more != (l.sasl != nil), l.asked && !more:
		return false, fmt.Errorf("the server requested authentication type %d out of order", form)
	}
	l.asked = true
	switch form {
	case askPassword: // over TLS to a server that is verified, or on loopback
		return false, send(server, &pgproto3.PasswordMessage{Password: l.password})
	case askMD5:
		var request pgproto3.AuthenticationMD5Password
		if err := request.Decode(body); err != nil {
			return false, err
		}
		return false, send(server, &pgproto3.PasswordMessage{Password: "md5" + md5Hex(md5Hex(l.password+l.user)+string(request.Salt[:]))})
	case askSASL:
		return false, l.beginSASL(server, body)
	case askSASLMore:
		if err := checkIterations(string(body[4:])); err != nil {
			return false, err
		}
		reply, err := l.sasl.Step(string(body[4:]))
		if err != nil {
			return false, fmt.Errorf("SCRAM: %w", err)
		}
		return false, send(server, &pgproto3.SASLResponse{Data: []byte(reply)})
	case askSASLFinal:
		if _, err := l.sasl.Step(string(body[4:])); err != nil {
			return false, fmt.Errorf("SCRAM: %w", err)
		}
		return false, nil
	case askSHA256:
		reply, err := l.digest(body[4:])
		if err != nil {
			return false, err
		}
		return false, reply.writeTo(server)
	}
	name, ok := otherForms[form]
	if !ok {
		name = fmt.Sprintf("authentication type %d", form)
	}
	return false, fmt.Errorf("the server requested %s, want a password", name)
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// The mechanisms. (RFC 5802, RFC 7677)
const (
	scramPlain = "SCRAM-SHA-256"
	scramBound = "SCRAM-SHA-256-PLUS"
)

// beginSASL chooses the mechanism, and binds the login to the server's
// certificate if the server supports that (RFC 5929 §4). If it does not offer it,
// the client says that it could, so that the server detects a downgrade (RFC 5802
// §6).
func (l *postgresLogin) beginSASL(server io.Writer, body []byte) error {
	var request pgproto3.AuthenticationSASL
	if err := request.Decode(body); err != nil {
		return err
	}
	client, err := l.keys.of(l.password)
	if err != nil {
		return fmt.Errorf("SCRAM: %w", err)
	}
	var binding scram.ChannelBinding
	if l.tls != nil {
		// A certificate of EdDSA has no binding: the zero one.
		binding, _ = scram.NewTLSServerEndpointBinding(l.tls)
	}
	offers := func(mechanism string) bool { return slices.Contains(request.AuthMechanisms, mechanism) }
	mechanism := scramPlain
	switch {
	case binding.IsSupported() && offers(scramBound):
		mechanism, l.sasl = scramBound, client.NewConversationWithChannelBinding(binding)
	case !offers(scramPlain):
		return fmt.Errorf("the server offers %q, want %s", request.AuthMechanisms, scramPlain)
	case binding.IsSupported():
		l.sasl = client.NewConversationAdvertisingChannelBinding()
	default:
		l.sasl = client.NewConversation()
	}
	first, err := l.sasl.Step("")
	if err != nil {
		return fmt.Errorf("SCRAM: %w", err)
	}
	return send(server, &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(first)})
}

// scramKeys keep what is derived from a password for a server's salt and
// iterations, milliseconds of work, until there is another password.
type scramKeys struct {
	mu       sync.Mutex
	password [sha256.Size]byte // the hash of it
	client   *scram.Client     // derives once
}

func (k *scramKeys) of(password string) (*scram.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hash := sha256.Sum256([]byte(password))
	if k.client != nil && k.password == hash {
		return k.client, nil
	}
	// The server takes the user from the start-up message, and also accepts
	// passwords that are invalid by RFC 4013.
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		if client, err = scram.SHA256.NewClientUnprepped("", password, ""); err != nil {
			return nil, err
		}
	}
	client.WithMinIterations(1) // scram_iterations is the server's to choose
	k.password, k.client = hash, client
	return client, nil
}

// maxIterations bounds the work that a server can cause to about half a second.
// PostgreSQL's default is 4,096.
const maxIterations = 1_000_000

// checkIterations looks into a server-first-message (RFC 5802 §7).
func checkIterations(first string) error {
	for field := range strings.SplitSeq(first, ",") {
		count, ok := strings.CutPrefix(field, "i=")
		if n, err := strconv.Atoi(count); ok && err == nil && n > maxIterations {
			return fmt.Errorf("SCRAM: the server requested %d iterations, want at most %d", n, maxIterations)
		}
	}
	return nil
}

// digest is the answer to Redshift's own form: SHA-256 of what the server
// stores and both sides' nonces. (redshift_connector 2.1, ExtensibleDigest)
func (l *postgresLogin) digest(request []byte) (message, error) {
	in := bytes.NewReader(request)
	number := func() (n uint32) {
		if binary.Read(in, binary.BigEndian, &n) != nil {
			n = maxDigestField + 1
		}
		return n
	}
	field := func() []byte {
		n := number()
		if n > maxDigestField || int(n) > in.Len() {
			return nil
		}
		text := make([]byte, n)
		_, _ = io.ReadFull(in, text) // as many are there
		return text
	}
	algorithm, salt, nonce := number(), field(), field()
	switch {
	case salt == nil || nonce == nil:
		return message{}, errors.New("the server's request for a digest is truncated")
	case algorithm != 0:
		return message{}, fmt.Errorf("the server requested digest algorithm %d, want 0 (SHA-256)", algorithm)
	}
	own := []byte(rand.Text())
	stored := sha256.Sum256(append([]byte(l.password), salt...))
	proof := sha256.Sum256(slices.Concat(stored[:], nonce, own))
	reply := binary.BigEndian.AppendUint32(nil, uint32(len(proof)))
	reply = append(reply, proof[:]...)
	reply = binary.BigEndian.AppendUint32(reply, uint32(len(own)))
	return message{'d', append(reply, own...)}, nil
}
