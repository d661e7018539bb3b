//go:build e2e

package sqlserver

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// Packets of the Tabular Data Stream protocol. (MS-TDS §2.2.3.1.1)
const (
	login7   = 0x10
	prelogin = 0x12
	reply    = 0x04
)

// A front is the login of SQL Server: it reads who logs in, and has no database.
type front struct {
	certificate tls.Certificate
	admit       func(login) error

	mu      sync.Mutex
	logins  int
	refused []string
}

// A login is what LOGIN7 holds. (MS-TDS §2.2.6.4)
type login struct {
	User, Password, Database string
	Token                    string // FEDAUTH with a security token
}

// start serves the front on loopback and returns its port.
func (f *front) start(t *testing.T) int {
	t.Helper()
	_, server := setup.Certificate(t)
	var err error
	if f.certificate, err = tls.LoadX509KeyPair(server, server); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				_ = f.serve(conn) // the client reports what is missing
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func (f *front) serve(conn net.Conn) error {
	kind, hello, err := readMessage(conn)
	if err != nil || kind != prelogin {
		return fmt.Errorf("packet %#x in the place of PRELOGIN: %w", kind, err)
	}
	if err := writeMessage(conn, reply, preloginReply(hello)); err != nil {
		return err
	}
	// TLS 1.2: with 1.3, session tickets would be sent inside PRELOGIN packets.
	wrapped := &handshake{Conn: conn, during: true}
	secure := tls.Server(wrapped, &tls.Config{Certificates: []tls.Certificate{f.certificate}, MaxVersion: tls.VersionTLS12})
	if err := secure.Handshake(); err != nil {
		return err
	}
	wrapped.during = false
	kind, body, err := readMessage(secure)
	if err != nil || kind != login7 {
		return fmt.Errorf("packet %#x in the place of LOGIN7: %w", kind, err)
	}
	who, err := readLogin(body)
	if err == nil {
		err = f.admit(who)
	}
	f.mu.Lock()
	if f.logins++; err != nil {
		f.logins--
		f.refused = append(f.refused, err.Error())
	}
	f.mu.Unlock()
	if err != nil {
		return writeMessage(secure, reply, failure(18456, err.Error()))
	}
	if err := writeMessage(secure, reply, loginReply(who)); err != nil {
		return err
	}
	for {
		if _, _, err := readMessage(secure); err != nil {
			return err
		}
		if err := writeMessage(secure, reply, failure(40613, "This server has no database.")); err != nil {
			return err
		}
	}
}

// readMessage reads packets up to the end of the message.
func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, nil, err
		}
		size := int(binary.BigEndian.Uint16(head[2:]))
		if size < len(head) {
			return 0, nil, errors.New("short packet")
		}
		part := make([]byte, size-len(head))
		if _, err := io.ReadFull(r, part); err != nil {
			return 0, nil, err
		}
		body = append(body, part...)
		if head[1]&1 != 0 {
			return head[0], body, nil
		}
	}
}

func writeMessage(w io.Writer, kind byte, body []byte) error {
	const most = 4096 - 8
	for id := byte(1); ; id++ {
		part := body[:min(len(body), most)]
		body = body[len(part):]
		packet := []byte{kind, 0, 0, 0, 0, 0, id, 0}
		if len(body) == 0 {
			packet[1] = 1
		}
		binary.BigEndian.PutUint16(packet[2:], uint16(8+len(part)))
		if _, err := w.Write(append(packet, part...)); err != nil || len(body) == 0 {
			return err
		}
	}
}

// A handshake carries TLS inside PRELOGIN packets until it is done.
type handshake struct {
	net.Conn
	during bool
	rest   []byte
}

func (h *handshake) Read(p []byte) (int, error) {
	if !h.during && len(h.rest) == 0 {
		return h.Conn.Read(p)
	}
	if len(h.rest) == 0 {
		_, body, err := readMessage(h.Conn)
		if err != nil {
			return 0, err
		}
		h.rest = body
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

func (h *handshake) Write(p []byte) (int, error) {
	if !h.during {
		return h.Conn.Write(p)
	}
	return len(p), writeMessage(h.Conn, prelogin, p)
}

// preloginReply requires encryption, and federated authentication from clients
// that support it. (MS-TDS §2.2.6.5)
func preloginReply(hello []byte) []byte {
	options := []struct {
		token byte
		data  []byte
	}{{0, []byte{16, 0, 0, 0, 0, 0}}, {1, []byte{1}}, {2, []byte{0}}, {4, []byte{0}}}
	for i := 0; i+5 <= len(hello) && hello[i] != 0xff; i += 5 {
		if hello[i] == 6 {
			options = append(options, struct {
				token byte
				data  []byte
			}{6, []byte{1}})
		}
	}
	var head, data []byte
	for _, o := range options {
		head = append(head, o.token)
		head = binary.BigEndian.AppendUint16(head, uint16(5*len(options)+1+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		data = append(data, o.data...)
	}
	return append(append(head, 0xff), data...)
}

func readLogin(b []byte) (l login, err error) {
	defer func() {
		if recover() != nil { // an offset outside the message
			err = errors.New("LOGIN7 is cut off")
		}
	}()
	field := func(at int) []byte {
		offset, size := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
		return b[offset : offset+2*size]
	}
	password := bytes.Clone(field(44))
	for i, c := range password { // obfuscated, not encrypted
		c ^= 0xa5
		password[i] = c<<4 | c>>4
	}
	l = login{User: fromUTF16(field(40)), Password: fromUTF16(password), Database: fromUTF16(field(68))}
	if b[27]&0x10 == 0 { // no extension
		return l, nil
	}
	pointer := int(binary.LittleEndian.Uint16(b[56:]))
	for at := int(binary.LittleEndian.Uint32(b[pointer:])); b[at] != 0xff; {
		size := int(binary.LittleEndian.Uint32(b[at+1:]))
		data := b[at+5 : at+5+size]
		if b[at] == 2 && data[0]>>1 == 1 { // FEDAUTH, library: security token
			n := int(binary.LittleEndian.Uint32(data[1:]))
			l.Token = fromUTF16(data[5 : 5+n])
		}
		at += 5 + size
	}
	return l, nil
}

func fromUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func toUTF16(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// token returns a token whose length has two bytes.
func token(kind byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind}, uint16(len(data))), data...)
}

func short(s string) []byte { return append([]byte{byte(len([]rune(s)))}, toUTF16(s)...) }

func done(status uint16) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{0xfd}, status)
	return append(b, make([]byte, 10)...)
}

// loginReply is ENVCHANGE, LOGINACK, FEATUREEXTACK and DONE. (MS-TDS §2.2.7)
func loginReply(who login) (b []byte) {
	b = token(0xe3, append(append([]byte{1}, short(who.Database)...), short("master")...))
	ack := append([]byte{1, 0x74, 0, 0, 4}, short("Microsoft SQL Server")...)
	b = append(b, token(0xad, append(ack, 16, 0, 0, 0))...)
	if who.Token != "" {
		b = append(b, 0xae, 2, 0, 0, 0, 0, 0xff)
	}
	return append(b, done(0)...)
}

func failure(number uint32, words string) []byte {
	data := binary.LittleEndian.AppendUint32(nil, number)
	data = append(data, 1, 14)
	data = binary.LittleEndian.AppendUint16(data, uint16(len([]rune(words))))
	data = append(data, toUTF16(words)...)
	data = append(data, short("front")...)
	data = append(data, short("")...)
	data = binary.LittleEndian.AppendUint32(data, 1)
	return append(token(0xaa, data), done(2)...)
}
