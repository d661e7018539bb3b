package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// A refuser sends an error to an HTTP client in the form that it understands.
type refuser func(w http.ResponseWriter, status int, err error)

// idleTimeout is how long a client that has shown the secret may keep an idle
// connection. Clients handle closed ones, since warehouses close theirs as soon.
const idleTimeout = 2 * time.Minute

// newServer returns a server for connections through the gate at an address. All
// routes, proxies and probes use it, so that all have the same checks.
func newServer(own netip.AddrPort, hurry hurry, now func() time.Time, refuse refuser, next http.Handler) *http.Server {
	return &http.Server{
		Handler:                      guarded(own, now, refuse, next),
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout:            hurry.of(strangerPatience),
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     noLog(),
		DisableGeneralOptionsHandler: true, // it would answer before the guard has looked
	}
}

type connKey struct{}

// connOf returns the connection of a request, nil if it has none.
func connOf(r *http.Request) net.Conn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	return c
}

// guarded refuses requests that dbt's clients do not send: from a page in a
// browser that resolves its own name to loopback (DNS rebinding), and for other
// hosts. A client that does not show the secret gets one reply; then its
// connection is closed without waiting for the rest of the request.
func guarded(own netip.AddrPort, now func() time.Time, refuse refuser, next http.Handler) http.Handler {
	address, local := own.String(), fmt.Sprintf("localhost:%d", own.Port())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isStranger(connOf(r)) {
			w.Header().Set("Connection", "close") // until admit removes it
			defer func() {
				if isStranger(connOf(r)) {
					_ = http.NewResponseController(w).SetReadDeadline(now().Add(lingering))
				}
			}()
		}
		switch {
		case r.Method == http.MethodConnect, r.URL.Host != "", r.URL.Path == "" || r.URL.Path[0] != '/':
			refuse(w, http.StatusBadGateway, errors.New("this is not a proxy for other hosts"))
		case r.Host != address && r.Host != local:
			refuse(w, http.StatusForbidden, errors.New("not a host of this broker"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// admits reports whether a client has shown the secret. Otherwise it counts the
// client, and closes its connection after the reply.
func (b *Broker) admits(w http.ResponseWriter, r *http.Request, shown string) bool {
	if !b.knows(shown) {
		b.turnAway(w)
		return false
	}
	admit(w, r)
	return true
}

// turnAway counts a client without the secret and closes its connection.
func (b *Broker) turnAway(w http.ResponseWriter) {
	b.refused.add()
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(b.config.Now().Add(lingering))
}

// admit keeps the connection of a client that has shown the secret.
func admit(w http.ResponseWriter, r *http.Request) {
	if c := connOf(r); c != nil {
		welcome(c)
		w.Header().Del("Connection")
	}
}

// rawHTTP is an error reply before the request is read.
func rawHTTP(full bool, err error) []byte {
	status := http.StatusForbidden
	if full {
		status = http.StatusServiceUnavailable
	}
	text := fmt.Sprintf("oidc-dbt: %v\n", err)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"+
		"Content-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}
