package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// A tcpConn is a connection whose reads and small writes bypass the scheduler's
// bookkeeping for system calls. The calls never block, since the socket is
// non-blocking; what waits is the runtime's poller, as in package net.
//
// With the bookkeeping, the runtime's monitor hands the processor of a thread
// that is in a call for more than some 20 µs to another thread, which it has to
// wake up. Writes that wake up the other end of the connection take that long
// where the processors are busy. In sessions of many round trips this was a
// third of the proxy's processor time.
type tcpConn struct {
	*net.TCPConn
	in, out half
}

// A half is one direction of a connection. The poller calls try until it
// reports that the read or write of b is done.
type half struct {
	mu  sync.Mutex // held for one read or write
	b   []byte
	n   int
	err syscall.Errno

	when func(try func(fd uintptr) (done bool)) error // syscall.RawConn's Read or Write; nil: use package net's
	try  func(fd uintptr) (done bool)
}

func newTCPConn(conn *net.TCPConn) *tcpConn {
	c := &tcpConn{TCPConn: conn}
	raw, err := conn.SyscallConn()
	if err != nil {
		return c
	}
	c.in.when, c.in.try = raw.Read, c.in.read
	c.out.when, c.out.try = raw.Write, c.out.write
	return c
}

// Read implements net.Conn.
func (c *tcpConn) Read(b []byte) (int, error) {
	if len(b) == 0 || c.in.when == nil {
		return c.TCPConn.Read(b)
	}
	n, err := c.in.do(b)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.explain("read", err)
}

// Write implements net.Conn.
func (c *tcpConn) Write(b []byte) (int, error) {
	if len(b) == 0 || len(b) > maxCall || c.out.when == nil {
		return c.TCPConn.Write(b)
	}
	n, err := c.out.do(b)
	return n, c.explain("write", err)
}

// explain returns the error that a net.TCPConn has.
func (c *tcpConn) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*net.OpError](err); ok { // closed, or past its deadline
		err = known.Err
	} else {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (h *half) do(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b, h.n, h.err = b, 0, 0
	err := h.when(h.try)
	h.b = nil
	if err == nil && h.err != 0 {
		err = h.err
	}
	return h.n, err
}

// read is done when something was read, or the end.
func (h *half) read(fd uintptr) bool {
	n, err := call(syscall.SYS_READ, fd, h.b)
	if err == syscall.EAGAIN {
		return false
	}
	h.n, h.err = n, err
	return true
}

// write is done when all is written.
func (h *half) write(fd uintptr) bool {
	for h.n < len(h.b) {
		n, err := call(syscall.SYS_WRITE, fd, h.b[h.n:])
		if err != 0 {
			h.err = err
			return err != syscall.EAGAIN
		}
		h.n += n
	}
	h.err = 0
	return true
}

// call reads or writes, at most maxCall bytes.
func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	b = b[:min(len(b), maxCall)]
	for {
		n, _, err := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if err == 0 {
			return int(n), 0
		}
		if err != syscall.EINTR {
			return 0, err
		}
	}
}

// maxCall is how much a call may take: the scheduler and the garbage collector
// wait for its end. What is larger is written in the usual way, which gives the
// processor to others meanwhile.
const maxCall = 32 << 10
