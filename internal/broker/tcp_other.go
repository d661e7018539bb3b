//go:build !linux

package broker

import "net"

// A tcpConn is a plain connection: only Linux has the quick one.
type tcpConn struct{ *net.TCPConn }

func newTCPConn(conn *net.TCPConn) *tcpConn { return &tcpConn{conn} }
