package broker

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A gate is the listener of every route and proxy. A connection is a stranger
// until it has shown the secret. The number of strangers is limited and the
// oldest is closed for the next, so that they cannot keep this run's clients
// out. Connections of other users are refused, if the system tells the user.
type gate struct {
	net.Listener
	config gateConfig
	limits limits
	own    int // the user of this process; unknownUser if the system does not tell

	mu        sync.Mutex
	strangers []*guest // the oldest first
	evicting  bool     // a stranger was closed for another, and none has shown the secret since
	known     int      // connections that have shown the secret
	foreign   int      // connections that are being refused
	seen      []int    // the other users that were reported
	told      time.Time
	freed     chan struct{} // has an element if a place has become free
	closed    chan struct{}
	close     sync.Once
}

// gateConfig configures a gate.
type gateConfig struct {
	allow   []int  // other users who may connect
	anyone  bool   // all users may connect: nothing is secret
	refused func() // a connection was turned away
	hurry   hurry
	now     func() time.Time
	warn    func(error)                       // reports to the user
	words   func(full bool, err error) []byte // an error in the protocol, before any request; nil for none
}

// strangerPatience bounds how long a connection may stay without showing the
// secret. This run's clients show it at once.
const strangerPatience = 10 * time.Second

// How long a stranger is kept before it is closed for the next: on a busy machine
// a client's secret may take a moment to arrive. The time is shorter while only
// strangers connect.
const strangerGrace, shortGrace = 2 * time.Second, 250 * time.Millisecond

// lingering is how long a refused connection is still read: otherwise a client
// that is still sending would lose the reply.
const lingering = 500 * time.Millisecond

// fullPatience is how long a connection waits for another to end if the limit is
// reached.
const fullPatience = time.Second

func newGate(listener net.Listener, config gateConfig) *gate {
	g := &gate{Listener: listener, config: config, limits: limitsOf(openFiles()), own: unknownUser,
		freed: make(chan struct{}, 1), closed: make(chan struct{})}
	if !config.anyone {
		g.own = listenerUser(listener.Addr().(*net.TCPAddr).AddrPort())
	}
	return g
}

// Close ends the listener, and every connection of a stranger's.
func (g *gate) Close() error {
	g.close.Do(func() { close(g.closed) })
	g.mu.Lock()
	strangers := slices.Clone(g.strangers)
	g.mu.Unlock()
	for _, s := range strangers {
		s.Close()
	}
	return g.Listener.Close()
}

// Accept returns the next connection, a stranger. It fails only if the listener
// was closed.
func (g *gate) Accept() (net.Conn, error) {
	pause := time.Duration(0)
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !g.wait(&pause) {
				return nil, err
			}
			g.bites(fmt.Errorf("accept a connection: %w", err))
			continue
		}
		pause = 0
		if c := g.enter(conn.(*net.TCPConn)); c != nil {
			return c, nil
		}
	}
}

// accepted are the connections of a gate, or of what is around one, until it
// is closed.
func accepted(listener net.Listener) iter.Seq[net.Conn] {
	return func(yield func(net.Conn) bool) {
		for {
			conn, err := listener.Accept()
			if err != nil || !yield(conn) {
				return
			}
		}
	}
}

// wait waits after a failure, such as a lack of descriptors, longer each time. It
// reports false if the gate was closed.
func (g *gate) wait(pause *time.Duration) bool {
	*pause = min(max(2**pause, 5*time.Millisecond), time.Second)
	select {
	case <-g.closed:
		return false
	case <-time.After(*pause):
		return true
	}
}

// enter lets a connection in, or returns nil.
func (g *gate) enter(conn *net.TCPConn) *guest {
	if g.own != unknownUser {
		if user := userOf(conn); user != g.own && !slices.Contains(g.config.allow, user) {
			g.turnAway(conn, user)
			return nil
		}
	}
	if !g.free(g.config.hurry.of(fullPatience), func() (bool, time.Duration) { return g.known < g.limits.known, fullPatience }) {
		err := g.limits.full()
		g.bites(err)
		g.refuse(conn, g.message(true, err))
		return nil
	}
	g.free(g.config.hurry.of(strangerGrace), func() (bool, time.Duration) {
		if len(g.strangers) < g.limits.strangers {
			return true, 0
		}
		grace := strangerGrace
		if g.evicting {
			grace = shortGrace
		}
		return false, g.config.hurry.of(grace) - g.config.now().Sub(g.strangers[0].since)
	})
	c := &guest{TCPConn: conn, gate: g, since: g.config.now()}
	g.mu.Lock()
	var oldest *guest
	if len(g.strangers) >= g.limits.strangers {
		oldest, g.evicting = g.strangers[0], true
	}
	g.strangers = append(g.strangers, c)
	c.timer = time.AfterFunc(g.config.hurry.of(strangerPatience), c.leave)
	g.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return c
}

// free waits until there is room, for as long as room says; room is called with
// the mutex held. It reports false if there is none by then.
func (g *gate) free(patience time.Duration, room func() (bool, time.Duration)) bool {
	end := g.config.now().Add(patience)
	for {
		g.mu.Lock()
		is, wait := room()
		g.mu.Unlock()
		if is {
			return true
		}
		if wait = min(wait, end.Sub(g.config.now())); wait <= 0 {
			return false
		}
		select {
		case <-g.freed:
		case <-g.closed:
			return false
		case <-time.After(wait):
		}
	}
}

// signal tells free that a place has become free. The mutex is held.
func (g *gate) signal() {
	select {
	case g.freed <- struct{}{}:
	default:
	}
}

// maxSeen bounds the other users that are reported.
const maxSeen = 8

// turnAway closes the connection of another user and says why.
func (g *gate) turnAway(conn *net.TCPConn, user int) {
	g.config.refused()
	err := fmt.Errorf("connections are for user %d only, and the user of this one is unknown", g.own)
	if user != unknownUser {
		err = fmt.Errorf("connections are for user %d only, and this one is from user %d (--allow-uid %d allows it)", g.own, user, user)
	}
	g.mu.Lock()
	tell := !slices.Contains(g.seen, user) && len(g.seen) < maxSeen
	if tell {
		g.seen = append(g.seen, user)
	}
	g.mu.Unlock()
	if tell {
		g.config.warn(err)
	}
	g.refuse(conn, g.message(false, err))
}

func (g *gate) message(full bool, err error) []byte {
	if g.config.words == nil {
		return nil
	}
	return g.config.words(full, err)
}

// refuse sends the words, if any, and closes the connection. It does not block,
// and limits how many connections are being refused at a time.
func (g *gate) refuse(conn *net.TCPConn, words []byte) {
	g.mu.Lock()
	busy := g.foreign >= g.limits.foreign
	if !busy {
		g.foreign++
	}
	g.mu.Unlock()
	if busy {
		conn.Close()
		return
	}
	go func() {
		defer func() {
			conn.Close()
			g.mu.Lock()
			g.foreign--
			g.mu.Unlock()
		}()
		_ = conn.SetDeadline(g.config.now().Add(g.config.hurry.of(lingering)))
		if _, err := conn.Write(words); err == nil && conn.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
		}
	}()
}

// bites reports that a limit was reached, at most once a minute.
func (g *gate) bites(err error) {
	g.mu.Lock()
	now := g.config.now()
	tell := g.told.IsZero() || now.Sub(g.told) >= tellEvery
	if tell {
		g.told = now
	}
	g.mu.Unlock()
	if tell {
		g.config.warn(fmt.Errorf("%w (%s)", err, g.limits))
	}
}

// A guest is a connection that came through a gate.
type guest struct {
	*net.TCPConn
	gate  *gate
	since time.Time
	timer *time.Timer

	state guestState // under the gate's mutex
}

type guestState int

const (
	stranger guestState = iota
	known
	gone
)

// leave closes the connection if it is still a stranger.
func (c *guest) leave() {
	c.gate.mu.Lock()
	leaves := c.state == stranger
	c.gate.mu.Unlock()
	if leaves {
		c.Close()
	}
}

// Close closes the connection and gives its place to another.
func (c *guest) Close() error {
	c.gate.mu.Lock()
	was := c.state
	c.state = gone
	switch was {
	case stranger:
		c.gate.forget(c)
	case known:
		c.gate.known--
	}
	c.gate.signal()
	c.timer.Stop()
	c.gate.mu.Unlock()
	return c.TCPConn.Close()
}

// forget removes a connection from the strangers. The gate's mutex is held.
func (g *gate) forget(c *guest) {
	if i := slices.Index(g.strangers, c); i >= 0 {
		g.strangers = slices.Delete(g.strangers, i, i+1)
	}
}

// welcome notes that a connection has shown the secret: from then on it may stay
// open. It does nothing for a connection that did not come through a gate.
func welcome(conn net.Conn) {
	c, ok := guestOf(conn)
	if !ok {
		return
	}
	c.gate.mu.Lock()
	if c.state == stranger {
		c.state = known
		c.timer.Stop()
		c.gate.forget(c)
		c.gate.known++
		c.gate.evicting = false
		c.gate.signal()
	}
	c.gate.mu.Unlock()
}

// isStranger reports whether the secret was not shown on a connection yet.
func isStranger(conn net.Conn) bool {
	c, ok := guestOf(conn)
	if !ok {
		return false
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	return c.state == stranger
}

// guestOf returns a connection as it came through a gate, without its
// encryption; false if it did not come through one.
func guestOf(conn net.Conn) (*guest, bool) {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	c, ok := conn.(*guest)
	return c, ok
}

// unknownUser is a user that the system does not tell.
const unknownUser = -1

// userOf returns the user who has the other end of a connection on loopback.
func userOf(conn *net.TCPConn) int {
	own, peer := conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	return socketUser(unmapped(peer), unmapped(own))
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
