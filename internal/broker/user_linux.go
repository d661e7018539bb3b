package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// The tables of the connections of this network namespace. (Linux:
// Documentation/networking/proc_net_tcp.rst) A client's socket may be one of
// IPv6 that is connected to an address of IPv4, as Java's are.
const (
	table4 = "/proc/net/tcp"
	table6 = "/proc/net/tcp6"
)

// listenerUser returns the user who owns the listener at an address; unknownUser
// if the system's tables cannot be read or lack it: then the users of connections
// are unknown too.
func listenerUser(own netip.AddrPort) int {
	table, err := os.ReadFile(table4)
	if err != nil {
		return unknownUser
	}
	user, _ := findSocket(table, socketEnd(own)+" 00000000:0000 ")
	return user
}

// tableTries is how often the tables are searched: a connection that the kernel
// moves while it prints them may be missing.
const tableTries = 2

// socketUser returns the user who has the socket at one address that is
// connected to the other; unknownUser if there is none or it is closed. Users
// outside this process's user namespace appear as the kernel's overflow user,
// 65534, which no process has.
func socketUser(of, to netip.AddrPort) int {
	if user, found := askKernel(of, to); found {
		return user
	}
	v4 := socketEnd(of) + " " + socketEnd(to) + " "
	v6 := mappedEnd(of) + " " + mappedEnd(to) + " "
	for range tableTries {
		for _, in := range [...]struct{ table, row string }{{table4, v4}, {table6, v6}} {
			table, err := os.ReadFile(in.table)
			if err != nil {
				continue // a system without IPv6
			}
			if user, found := findSocket(table, in.row); found {
				return user
			}
		}
	}
	return unknownUser
}

// A kernel's question and answer about one socket. (Linux: sock_diag(7))
const (
	sockDiag     = 4  // NETLINK_SOCK_DIAG
	byFamily     = 20 // SOCK_DIAG_BY_FAMILY
	questionSize = 72
	answerSize   = 88
	answerUser   = 80
	answerInode  = 84
)

// askKernel asks for one socket: the tables are of all that there are, which
// may be tens of thousands. It finds none where the kernel or a sandbox does
// not have that.
func askKernel(of, to netip.AddrPort) (user int, found bool) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, sockDiag)
	if err != nil {
		return unknownUser, false
	}
	defer syscall.Close(fd)
	q := make([]byte, 0, questionSize)
	q = binary.NativeEndian.AppendUint32(q, questionSize)
	q = binary.NativeEndian.AppendUint16(q, byFamily)
	q = binary.NativeEndian.AppendUint16(q, syscall.NLM_F_REQUEST)
	q = append(q, make([]byte, 8)...) // number and port of the question
	q = append(q, syscall.AF_INET, syscall.IPPROTO_TCP, 0, 0)
	q = binary.NativeEndian.AppendUint32(q, ^uint32(0)) // in any state
	q = binary.BigEndian.AppendUint16(q, of.Port())
	q = binary.BigEndian.AppendUint16(q, to.Port())
	for _, a := range [...]netip.Addr{of.Addr(), to.Addr()} {
		ip := a.As4()
		q = append(append(q, ip[:]...), make([]byte, 12)...)
	}
	q = binary.NativeEndian.AppendUint32(q, 0)          // any interface
	q = binary.NativeEndian.AppendUint64(q, ^uint64(0)) // no cookie
	if syscall.Sendto(fd, q, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}) != nil {
		return unknownUser, false
	}
	answer := make([]byte, 1<<10)
	n, _, err := syscall.Recvfrom(fd, answer, syscall.MSG_DONTWAIT) // it is there: the kernel answers within Sendto
	if err != nil || n < answerSize || binary.NativeEndian.Uint16(answer[4:]) != byFamily ||
		binary.BigEndian.Uint16(answer[20:]) != of.Port() || binary.BigEndian.Uint16(answer[22:]) != to.Port() {
		return unknownUser, false
	}
	if binary.NativeEndian.Uint32(answer[answerInode:]) == 0 { // it is closed: the user would be shown as root
		return unknownUser, true
	}
	return int(binary.NativeEndian.Uint32(answer[answerUser:])), true
}

// findSocket returns the user of the row with these two addresses.
func findSocket(table []byte, addresses string) (user int, found bool) {
	_, row, found := bytes.Cut(table, []byte(": "+addresses))
	if !found {
		return unknownUser, false
	}
	row, _, _ = bytes.Cut(row, []byte("\n"))
	// Behind the addresses: state, queues, timer, retransmissions, user, timeout, inode.
	fields := bytes.Fields(row)
	if len(fields) < 7 || string(fields[6]) == "0" { // it is closed: the user would be shown as root
		return unknownUser, true
	}
	user, err := strconv.Atoi(string(fields[4]))
	if err != nil {
		return unknownUser, true
	}
	return user, true
}

// socketEnd is an address of IPv4 as a table has it: a number as the machine
// reads it from the address.
func socketEnd(a netip.AddrPort) string {
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}

// mappedEnd is the same address as a socket of IPv6 has it.
func mappedEnd(a netip.AddrPort) string {
	marker := [4]byte{0, 0, 0xff, 0xff}
	return fmt.Sprintf("%016X%08X%s", 0, binary.NativeEndian.Uint32(marker[:]), socketEnd(a))
}
