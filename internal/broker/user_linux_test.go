package broker

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 499395 2 0000000000000000 100 0 0 10 0
   1: 0100007F:4E20 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 499396 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:C350 0100007F:4E20 01 00000000:00000000 00:00000000 00000000  1002        0 499397 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:C351 0100007F:4E20 06 00000000:00000000 03:00000F00 00000000     0        0 0 3 0000000000000000
   4: 0100007F:C352 0100007F:4E20 08 00000000:00000000 00:00000000 00000000 4294967294        0 499398 1 0000000000000000 20 4 30 10 -1
 100: 0100007F:C353 0100007F:4E20 01 00000000
`

// TestFindSocket: the user is that of the row with both addresses, the client's first.
func TestFindSocket(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddrPort("127.0.0.1:20000")
	for _, tt := range []struct {
		name, peer string
		user       int
		found      bool
	}{
		{"a client", "127.0.0.1:50000", 1002, true},
		{"one that has closed, whose row says root", "127.0.0.1:50001", unknownUser, true},
		{"the last user", "127.0.0.1:50002", 4294967294, true},
		{"a row that is cut off", "127.0.0.1:50003", unknownUser, true},
		{"no row", "127.0.0.1:50004", unknownUser, false},
		{"another address", "127.0.0.2:50000", unknownUser, false},
	} {
		user, found := findSocket([]byte(tcpTable), socketEnd(netip.MustParseAddrPort(tt.peer))+" "+socketEnd(own)+" ")
		if user != tt.user || found != tt.found {
			t.Errorf("%s: user %d, %v, want %d, %v", tt.name, user, found, tt.user, tt.found)
		}
	}
	if user, found := findSocket([]byte(tcpTable), socketEnd(own)+" 00000000:0000 "); user != 1001 || !found {
		t.Errorf("the listener: user %d, %v", user, found)
	}
	if got, want := mappedEnd(own), "0000000000000000FFFF00000100007F:4E20"; got != want {
		t.Errorf("of IPv6: %s, want %s", got, want)
	}
}

// FuzzFindSocket: for any table, a user is a number from it.
func FuzzFindSocket(f *testing.F) {
	f.Add([]byte(tcpTable), uint16(50000))
	f.Add([]byte("   0: "), uint16(0))
	own := netip.MustParseAddrPort("127.0.0.1:20000")
	f.Fuzz(func(t *testing.T, table []byte, port uint16) {
		peer := netip.AddrPortFrom(own.Addr(), port)
		if user, found := findSocket(table, socketEnd(peer)+" "+socketEnd(own)+" "); !found && user != unknownUser {
			t.Errorf("user %d of no row", user)
		}
	})
}

// TestSocketUser: both ways of asking say the same of a connection, also of one
// that a socket of IPv6 has.
func TestSocketUser(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	own := listener.Addr().(*net.TCPAddr).AddrPort()
	if got := listenerUser(own); got != os.Getuid() {
		t.Errorf("the listener is user %d's, want %d", got, os.Getuid())
	}
	for range 2 {
		conn, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		if got := socketUser(unmapped(peer), own); got != os.Getuid() {
			t.Errorf("the connection is user %d's, want %d", got, os.Getuid())
		}
		if got, found := askKernel(unmapped(peer), own); found && got != os.Getuid() {
			t.Errorf("the kernel says user %d, want %d", got, os.Getuid())
		}
		table, err := os.ReadFile(table4)
		if err != nil {
			t.Fatal(err)
		}
		if got, found := findSocket(table, socketEnd(unmapped(peer))+" "+socketEnd(own)+" "); found && got != os.Getuid() {
			t.Errorf("the table says user %d, want %d", got, os.Getuid())
		}
		conn.Close()
	}
	if got := socketUser(own, own); got != unknownUser {
		t.Errorf("no connection is user %d's", got)
	}
}

func BenchmarkSocketUser(b *testing.B) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	peer, own := conn.LocalAddr().(*net.TCPAddr).AddrPort(), listener.Addr().(*net.TCPAddr).AddrPort()
	for b.Loop() {
		if socketUser(peer, own) != os.Getuid() {
			b.Fatal("another user's")
		}
	}
}
