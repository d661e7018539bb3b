package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTCPConnIsAsNetHasIt does the same with a connection of net's and with
// one of the broker's: what they return, and their errors, are the same.
func TestTCPConnIsAsNetHasIt(t *testing.T) {
	t.Parallel()
	past := time.Unix(1, 0)
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, conn net.Conn, other *net.TCPConn) (int, error)
	}{
		{"read", func(t *testing.T, conn net.Conn, other *net.TCPConn) (int, error) {
			mustWrite(t, other, "some words")
			return conn.Read(make([]byte, 64))
		}},
		{"read what comes later", func(t *testing.T, conn net.Conn, other *net.TCPConn) (int, error) {
			timer := time.AfterFunc(20*time.Millisecond, func() { _, _ = other.Write([]byte("late")) })
			defer timer.Stop()
			return conn.Read(make([]byte, 64))
		}},
		{"read nothing", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) { return conn.Read(nil) }},
		{"read at the end", func(_ *testing.T, conn net.Conn, other *net.TCPConn) (int, error) {
			other.Close()
			return conn.Read(make([]byte, 64))
		}},
		{"read after a deadline", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			_ = conn.SetReadDeadline(past)
			return conn.Read(make([]byte, 64))
		}},
		{"a deadline ends a read", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			timer := time.AfterFunc(20*time.Millisecond, func() { _ = conn.SetReadDeadline(past) })
			defer timer.Stop()
			return conn.Read(make([]byte, 64))
		}},
		{"read where it is closed", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			conn.Close()
			return conn.Read(make([]byte, 64))
		}},
		{"a close ends a read", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			timer := time.AfterFunc(20*time.Millisecond, func() { conn.Close() })
			defer timer.Stop()
			return conn.Read(make([]byte, 64))
		}},
		{"read what was reset", func(t *testing.T, conn net.Conn, other *net.TCPConn) (int, error) {
			reset(t, other)
			return conn.Read(make([]byte, 64))
		}},
		{"write", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			return conn.Write([]byte("some words"))
		}},
		{"write nothing", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) { return conn.Write(nil) }},
		{"write after a deadline", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			_ = conn.SetWriteDeadline(past)
			return conn.Write([]byte("some words"))
		}},
		{"write where it is closed", func(_ *testing.T, conn net.Conn, _ *net.TCPConn) (int, error) {
			conn.Close()
			return conn.Write([]byte("some words"))
		}},
		{"write what is not read", func(t *testing.T, conn net.Conn, other *net.TCPConn) (int, error) {
			reset(t, other)
			_, _ = conn.Read(make([]byte, 1)) // takes the reset
			return conn.Write([]byte("some words"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			result := func(wrap func(*net.TCPConn) net.Conn) (n int, words string) {
				tcp, other := tcpPair(t)
				conn := wrap(tcp)
				n, err := tt.do(t, conn, other)
				if err != nil {
					words = strings.NewReplacer(tcp.LocalAddr().String(), "here", tcp.RemoteAddr().String(), "there").Replace(err.Error())
				}
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
					words += " (timeout)"
				}
				return n, words
			}
			wantN, want := result(func(c *net.TCPConn) net.Conn { return c })
			gotN, got := result(func(c *net.TCPConn) net.Conn { return newTCPConn(c) })
			if gotN != wantN || got != want {
				t.Errorf("got %d, %q, want %d, %q", gotN, got, wantN, want)
			}
		})
	}
}

// TestTCPConnPassesAllOn has both directions busy at once, with more than the
// system keeps for a reader who is slow.
func TestTCPConnPassesAllOn(t *testing.T) {
	t.Parallel()
	tcp, other := tcpPair(t)
	conn := newTCPConn(tcp)
	text := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	for _, w := range []net.Conn{conn, other} {
		go func() {
			for size, rest := 1, text; len(rest) > 0; size = size*3%100_000 + 1 {
				n, err := w.Write(rest[:min(size, len(rest))])
				if err != nil {
					t.Error(err)
					break
				}
				rest = rest[n:]
			}
			_ = w.(interface{ CloseWrite() error }).CloseWrite()
		}()
	}
	there := make(chan []byte)
	go func() {
		got, err := io.ReadAll(other)
		if err != nil {
			t.Error(err)
		}
		there <- got
	}()
	here, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(here, text) || !bytes.Equal(<-there, text) {
		t.Error("what was read is not what was written")
	}
}

// TestTCPConnWritesInTurn has several writers: what each writes stays together.
func TestTCPConnWritesInTurn(t *testing.T) {
	t.Parallel()
	const writers, each, size = 4, 200, 30_000
	tcp, other := tcpPair(t)
	conn := newTCPConn(tcp)
	for i := range writers {
		go func() {
			for range each {
				if _, err := conn.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	got := map[byte]int{}
	block := make([]byte, size)
	for range writers * each {
		if _, err := io.ReadFull(other, block); err != nil {
			t.Fatal(err)
		}
		if bytes.Count(block, block[:1]) != size {
			t.Fatal("two writes are mixed")
		}
		got[block[0]]++
	}
	if diff := cmp.Diff(map[byte]int{'a': each, 'b': each, 'c': each, 'd': each}, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close() })
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

func mustWrite(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// reset ends a connection without a farewell.
func reset(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	if err := conn.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
