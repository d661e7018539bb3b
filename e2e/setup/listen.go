package setup

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Listen serves each connection to a free port on loopback, until the end of the
// test closes them. Errors other than a closed connection are logged.
func Listen(t testing.TB, serve func(net.Conn) error) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				if err := serve(conn); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					t.Logf("connection: %v", err)
				}
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}
