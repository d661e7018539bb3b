package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A Control ends a broker in the background for a caller on loopback that shows
// its secret. A process id may belong to another process by then.
type Control struct {
	listener net.Listener
	secret   secret.Value
	stopped  chan struct{}
	refused  refusals
}

// NewControl listens until Close. refused gets the count of callers without
// the secret, at most once a minute; now is the clock for that.
func NewControl(refused func(count int), now func() time.Time) (*Control, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the end of the job: %w", err)
	}
	c := &Control{secret: newSecret(), stopped: make(chan struct{}), refused: refusals{tell: refused, now: now}}
	c.listener = newGate(listener, gateConfig{refused: c.refused.add, now: now, warn: func(error) {}})
	go c.serve()
	return c, nil
}

// Address returns where it listens, "127.0.0.1:PORT".
func (c *Control) Address() string { return c.listener.Addr().String() }

// Secret returns what a caller must show.
func (c *Control) Secret() secret.Value { return c.secret }

// Stopped is closed when a caller has asked for the end.
func (c *Control) Stopped() <-chan struct{} { return c.stopped }

// Close ends the listener. The connection of the caller that asked for the end
// stays open until the process has ended, which is the answer.
func (c *Control) Close() {
	c.refused.flush()
	c.listener.Close()
}

// helloTimeout bounds how long a caller may take to show the secret.
const helloTimeout = 5 * time.Second

func (c *Control) serve() {
	var once sync.Once
	for conn := range accepted(c.listener) {
		go func() {
			defer conn.Close()
			shown := make([]byte, len(c.secret.Reveal()))
			_ = conn.SetReadDeadline(c.refused.now().Add(helloTimeout))
			_, err := io.ReadFull(conn, shown)
			if err != nil || subtle.ConstantTimeCompare(shown, []byte(c.secret.Reveal())) != 1 {
				c.refused.add()
				return
			}
			welcome(conn)
			once.Do(func() { close(c.stopped) })
			_ = conn.SetReadDeadline(time.Time{})
			_, _ = io.Copy(io.Discard, conn) // until the caller stops waiting
		}()
	}
}

// Stop asks the process behind a Control to end, and waits until it has, or
// ctx ends. address must be on loopback.
func Stop(ctx context.Context, address string, secret secret.Value) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
		return fmt.Errorf("end the background process: address is %q, want one on loopback", address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return errGone
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err = io.WriteString(conn, secret.Reveal()); err == nil {
		_, err = io.Copy(io.Discard, conn) // until the system closes it, with the process
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("end the background process: %w", context.Cause(ctx))
	case err != nil: // reset: the process was killed before it read the secret
		return errGone
	}
	return nil
}

var errGone = errors.New("end the background process: it has already ended, and the credential was not renewed since then")
