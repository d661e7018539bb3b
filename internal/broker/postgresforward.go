package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// forward passes on what both sides say, until one of them ends. A statement
// whose client has gone is cancelled: the server would notice only when it has
// something to say to it.
//
// The error is why the broker itself ends the session; nil if it does not, or
// if the client cannot be told because it has half of a message.
func (p *postgresProxy) forward(ctx context.Context, in io.Reader, client net.Conn, server *postgresServer) error {
	t := &task{running: server.running, cancel: func(ctx context.Context) { p.requestCancel(ctx, server) }}
	defer server.Close()
	defer p.forget(server)
	if server.key != nil && !p.tasks.add(t) {
		return p.halted()
	}
	defer p.tasks.remove(t)
	done, lost := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		p.fromServer(client, server, lost)
	}()
	defer context.AfterFunc(p.cutting, func() {
		server.cutOff.Store(true)
		server.Close()
		_ = client.SetReadDeadline(longAgo)
	})()
	err := p.toServer(server, in)
	denial, denied := errors.AsType[*guard.Denial](err)
	switch {
	case denied:
		server.cutOff.Store(true)
	case server.terminated.Load(): // it ends when it has done what it was asked before
		select {
		case <-done:
		case <-lost:
		case <-ctx.Done():
		}
	}
	if server.key != nil {
		t.end()
	}
	server.Close()
	<-done
	switch {
	case !server.cutOff.Load(), !server.server.between():
		return nil
	case denied:
		return postgresError{insufficientPrivilege, denial}
	}
	return p.halted()
}

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// halted is what a client is told after Halt, nil before.
func (p *postgresProxy) halted() error {
	if why := p.why.Load(); why != nil {
		return postgresError{adminShutdown, *why}
	}
	return nil
}

// end tells a client why its session ends, and reads what the client is still
// sending: otherwise it would lose the words.
func (p *postgresProxy) end(client net.Conn, err error) {
	_ = client.SetDeadline(p.config.Now().Add(p.config.hurry.of(lingering)))
	tellPostgres(client, err)
	if denied, ok := errors.AsType[postgresError](err); ok && denied.code == insufficientPrivilege {
		// psycopg2 shows the words only if they are followed by the statement's end.
		_ = send(client, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	if half, ok := client.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, client)
	}
}

// chunkSize is how much of either side is read at once; of a client that fills
// that, pieceSize. A record of TLS has 16 KiB.
const chunkSize = 32 << 10

// toServer passes on what a client sends, as far as the guard allows.
func (p *postgresProxy) toServer(server *postgresServer, in io.Reader) error {
	forward := server.pass
	if p.config.Guard != nil {
		forward = p.guarded(server).pass
	}
	small := make([]byte, chunkSize)
	pass := func(buf []byte) (n int, err error) {
		n, err = in.Read(buf)
		if n > 0 {
			if herr := p.halted(); herr != nil { // nothing begins any more
				server.cutOff.Store(true)
				return n, herr
			}
			if werr := forward(buf[:n]); werr != nil {
				return n, werr
			}
		}
		return n, err
	}
	for bulk := false; ; {
		var n int
		var err error
		if bulk { // what is lent is not kept while the client is silent
			large := p.large.Get()
			n, err = pass(large)
			p.large.Put(large)
		} else {
			n, err = pass(small)
		}
		if err != nil {
			return err
		}
		bulk = n >= len(small)
	}
}

// pass writes what a client has sent.
func (s *postgresServer) pass(b []byte) error {
	s.sends(b)
	_, err := s.writeAtOnce(b)
	return err
}

// writeAtOnce writes all records of TLS that b takes in one call.
func (s *postgresServer) writeAtOnce(b []byte) (int, error) {
	if s.gather == nil || len(b) <= maxRecord {
		return s.Write(b)
	}
	s.gather.hold()
	n, err := s.Write(b)
	if rerr := s.gather.release(); err == nil {
		err = rerr
	}
	return n, err
}

// maxRecord is what one record of TLS takes. (RFC 8446 §5.1)
const maxRecord = 16 << 10

// A gatherer is a connection that can hold back what is written, to write it
// all at once: crypto/tls writes each record by itself.
type gatherer struct {
	net.Conn
	buffers *pool

	mu   sync.Mutex // TLS writes of its own, too
	held bool
	lent []byte
	text []byte
}

func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		return g.Conn.Write(b)
	}
	g.text = append(g.text, b...)
	return len(b), nil
}

func (g *gatherer) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.lent = true, g.buffers.Get()
	g.text = g.lent[:0]
}

func (g *gatherer) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.Conn.Write(g.text)
	g.buffers.Put(g.lent)
	g.held, g.lent, g.text = false, nil, nil
	return err
}

// fromServer goes on reading where the client is lost: it sees the end of what
// is cancelled.
func (p *postgresProxy) fromServer(client net.Conn, server *postgresServer, lost chan<- struct{}) {
	buf := make([]byte, chunkSize)
	gone := false
	for {
		n, err := server.in.Read(buf)
		server.says(buf[:n]) // before the client, which may end at once
		if n > 0 && !gone {
			if _, err := client.Write(buf[:n]); err != nil {
				gone = true
				close(lost)
				client.Close()
			}
		}
		if err != nil {
			break
		}
	}
	server.over.Store(true)
	p.forget(server) // before the client knows
	server.Close()
	if server.cutOff.Load() {
		return // the broker has something to say to the client
	}
	// The client may not have read the server's last message yet, so it closes first.
	if half, ok := client.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// atWork knows whether a session's server is at work, by the messages that
// both sides send after the login: each request for a statement's end is
// answered by one ReadyForQuery. Of a message only kind and length are read.
type atWork struct {
	asked      atomic.Uint64 // requests that end in a ReadyForQuery
	executed   atomic.Bool   // something is, for which such a request has yet to come
	ready      atomic.Uint64 // those
	copying    atomic.Bool   // the client sends data, in which a Sync is not answered
	synced     atomic.Bool   // the last request was a Sync
	terminated atomic.Bool   // the client has said that it ends
	over       atomic.Bool   // the server has ended
	cutOff     atomic.Bool   // the broker ends the session, and tells the client why
	reports    reports       // of settings

	client, server framing
}

// running returns the number of the statement that the server is at, 0 for none.
func (s *atWork) running() uint64 {
	asked := s.asked.Load()
	if s.over.Load() || s.ready.Load() >= asked && !s.copying.Load() && !s.executed.Load() {
		return 0
	}
	return asked + 1
}

// sends takes in what the client sends, before the server has it.
func (s *atWork) sends(b []byte) {
	for {
		kind, rest, ok := s.client.next(b)
		if !ok {
			return
		}
		b = rest
		switch kind {
		case 'Q', 'F', 'S': // Query, FunctionCall, Sync
			s.synced.Store(kind == 'S')
			s.asked.Add(1)
			s.executed.Store(false)
		case 'E': // Execute
			s.executed.Store(true)
		case 'X': // Terminate
			s.terminated.Store(true)
		}
	}
}

// says takes in what the server says.
func (s *atWork) says(b []byte) {
	s.reports.add(b)
	for {
		kind, rest, ok := s.server.next(b)
		if !ok {
			return
		}
		b = rest
		switch kind {
		case 'Z': // ReadyForQuery
			s.copying.Store(false)
			s.ready.Add(1)
		case 'G': // CopyInResponse: a Sync that was sent with the statement is ignored
			s.copying.Store(true)
			if s.synced.Load() {
				s.asked.Add(^uint64(0))
			}
		case 'S': // ParameterStatus
			s.reports.begin(b, s.server.left)
		}
	}
}

// A framing finds the messages in one side's stream, which arrives in pieces of any size.
type framing struct {
	head [5]byte // of a message whose beginning is there
	have int
	left int // of the message before
}

// between reports whether the stream is between two messages.
func (f *framing) between() bool { return f.left == 0 && f.have == 0 }

// next returns the kind of the next message that begins in b, and what follows
// its head; ok is false where none begins. The kind may be any byte: what a
// side sends has not been checked.
func (f *framing) next(b []byte) (kind byte, rest []byte, ok bool) {
	if f.left >= len(b) {
		f.left -= len(b)
		return 0, nil, false
	}
	b = b[f.left:]
	f.left = 0
	head := b
	if f.have > 0 || len(b) < len(f.head) {
		n := copy(f.head[f.have:], b)
		if f.have += n; f.have < len(f.head) {
			return 0, nil, false
		}
		head, b, f.have = f.head[:], b[n:], 0
	} else {
		b = b[len(f.head):]
	}
	f.left = max(int(binary.BigEndian.Uint32(head[1:])), 4) - 4 // less than that is no message
	return head[0], b, true
}
