package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// An Order is what a caller asks a Control for.
type Order string

const (
	// Answer changes nothing: it shows that the process is alive.
	Answer Order = "answer"
	// End ends the process quietly, as the end of its job does.
	End Order = "end"
	// Halt ends the process and at once what it has the warehouse do.
	Halt Order = "halt"
)

// proof shows that the secret is known, and not the secret itself: another process
// may have the port by now, and could pass for this one.
func (o Order) proof(secret secret.Value) string {
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	io.WriteString(mac, string(o))
	return hex.EncodeToString(mac.Sum(nil))
}

// acceptance is what a Control answers with the proof of.
const acceptance Order = "accepted"

// A Control ends this process for a caller on loopback that knows its secret. A
// process id may belong to another process by then.
type Control struct {
	listener net.Listener
	secret   secret.Value
	given    map[Order]chan struct{}
	give     map[Order]func()
	refused  refusals
}

// NewControl listens until Close. refused gets the count of callers without
// the secret, at most once a minute; now is the clock for that.
func NewControl(refused func(count int), now func() time.Time) (*Control, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the end of the job: %w", err)
	}
	c := &Control{secret: newSecret(), refused: refusals{tell: refused, now: now},
		given: map[Order]chan struct{}{}, give: map[Order]func(){}}
	for _, o := range []Order{Answer, End, Halt} {
		given := make(chan struct{})
		c.given[o], c.give[o] = given, sync.OnceFunc(func() { close(given) })
	}
	c.listener = newGate(listener, gateConfig{refused: c.refused.add, now: now, warn: func(error) {}})
	go c.serve()
	return c, nil
}

// Address returns where it listens, "127.0.0.1:PORT".
func (c *Control) Address() string { return c.listener.Addr().String() }

// Secret returns what a caller must know.
func (c *Control) Secret() secret.Value { return c.secret }

// Given is closed when a caller has given the order.
func (c *Control) Given(o Order) <-chan struct{} { return c.given[o] }

// Close ends the listener. The connection of the caller that asked for the end
// stays open until the process has ended, which is the answer.
func (c *Control) Close() {
	c.refused.flush()
	c.listener.Close()
}

// helloTimeout bounds how long a caller may take to show that it knows the secret.
const helloTimeout = 5 * time.Second

func (c *Control) serve() {
	for conn := range accepted(c.listener) {
		go func() {
			defer conn.Close()
			shown := make([]byte, hex.EncodedLen(sha256.Size))
			_ = conn.SetReadDeadline(c.refused.now().Add(helloTimeout))
			_, err := io.ReadFull(conn, shown)
			order := c.read(shown)
			if err != nil || order == "" {
				c.refused.add()
				return
			}
			welcome(conn)
			_, err = io.WriteString(conn, acceptance.proof(c.secret)) // before the process may end
			c.give[order]()
			_ = conn.SetReadDeadline(time.Time{})
			if err == nil && order != Answer {
				_, _ = io.Copy(io.Discard, conn) // until the caller stops waiting
			}
		}()
	}
}

// read returns the order that was shown, "" for none.
func (c *Control) read(shown []byte) (order Order) {
	for o := range c.given {
		if hmac.Equal(shown, []byte(o.proof(c.secret))) {
			order = o
		}
	}
	return order
}

// ErrGone is why nobody obeys: the process behind the Control has ended.
var ErrGone = errors.New("it has already ended")

// errOther is why an answer is not believed.
var errOther = errors.New("what listens there does not know the secret")

// hasNoListener reports whether a connection failed because no process listens at
// the port, or the one that did was killed: refused or reset, with the numbers that
// Windows has for them. (WinError.h, WSAECONNREFUSED and WSAECONNRESET)
func hasNoListener(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNRESET, 10061, 10054},
		func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// Ask gives an order to the process behind a Control. It waits for the process to
// accept it, and of all but Answer until the process has ended, or ctx ends.
// address must be on loopback. Where nothing listens, or the process was just
// killed, the error is ErrGone.
func Ask(ctx context.Context, order Order, address string, secret secret.Value) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
		return fmt.Errorf("address is %q, want one on loopback", address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case hasNoListener(err):
			return ErrGone
		}
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer := make([]byte, hex.EncodedLen(sha256.Size))
	if _, err = io.WriteString(conn, order.proof(secret)); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && !hmac.Equal(answer, []byte(acceptance.proof(secret))):
		return errOther
	case err != nil: // reset: the process was killed before it read the order
		return ErrGone
	case order == Answer:
		return nil
	}
	_, _ = io.Copy(io.Discard, conn) // until the system closes it, with the process
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
