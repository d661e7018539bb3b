// Package broker serves fresh credentials on loopback, to dbt's own client libraries and to nobody else.
package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Config is what a broker serves.
type Config struct {
	Target string // its name decides the port, so that the profile is the same in every run
	Route  route.Route
	// Current returns a credential that is not about to die. It is called for
	// every request, also by several at once.
	Current func(context.Context) (credential.Credential, error)
	Refused func(count int) // callers without the secret since the last call; at most once a minute
	Now     func() time.Time
}

// A Broker serves one route of one target.
type Broker struct {
	config  Config
	secret  secret.Value
	address netip.AddrPort
	server  *http.Server
	ended   chan struct{} // closed when nothing listens any more
	refused refusals
}

// handlers are the routes.
var handlers = map[route.Kind]func(*Broker) (http.Handler, error){
	route.ClickHouse:    clickHouse,
	route.TokenEndpoint: tokenEndpoint,
}

// Start listens on loopback and serves the route until Close. The error is of
// class Internal, or Usage where the upstream cannot be one.
func Start(config Config) (*Broker, error) {
	handler, ok := handlers[config.Route.Kind]
	if !ok {
		return nil, fmt.Errorf("start broker: unknown route %q", config.Route.Kind) // a bug
	}
	b := &Broker{config: config, secret: newSecret(), ended: make(chan struct{}), refused: refusals{tell: config.Refused, now: config.Now}}
	serve, err := handler(b)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("start broker: %w", err), "")
	}
	listener, err := listen(config.Target)
	if err != nil {
		return nil, fault.New(fault.Internal, fmt.Errorf("start broker: %w", err), "")
	}
	b.address = listener.Addr().(*net.TCPAddr).AddrPort()
	b.server = &http.Server{
		Handler:           b.guard(serve),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // it would quote what clients send
	}
	go func() {
		defer close(b.ended)
		_ = b.server.Serve(listener) // ErrServerClosed, after Close
	}()
	return b, nil
}

// Address returns where the route is served; the zero Address of no broker.
func (b *Broker) Address() route.Address {
	if b == nil {
		return route.Address{}
	}
	return route.Address{Host: b.address.Addr().String(), Port: int(b.address.Port()), Secret: b.secret}
}

// Close ends the route at once: the command that used it has ended. Of no
// broker it does nothing.
func (b *Broker) Close() {
	if b == nil {
		return
	}
	b.refused.flush()
	_ = b.server.Close() // the listener's error helps nobody any more
	<-b.ended
}

// newSecret returns 256 random bits, in characters that need no escape anywhere.
func newSecret() secret.Value {
	bits := make([]byte, 32)
	rand.Read(bits) // never fails (crypto/rand, since Go 1.24)
	return secret.New(base64.RawURLEncoding.EncodeToString(bits))
}

// Ports of targets: below the ranges that systems give to connections.
const (
	firstPort = 20000
	ports     = 12000
)

// listen takes the target's own port, or any where that is taken: then dbt
// parses the project anew, because the profile differs.
func listen(target string) (net.Listener, error) {
	name := fnv.New32a()
	io.WriteString(name, target)
	port := firstPort + name.Sum32()%ports
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	return listener, err
}

// guard turns away what no client of dbt's sends: a page in a browser that
// resolves its own name to loopback, and requests to be passed on elsewhere.
func (b *Broker) guard(next http.Handler) http.Handler {
	own := b.address.String()
	local := fmt.Sprintf("localhost:%d", b.address.Port())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect, r.URL.Host != "", r.URL.Path == "" || r.URL.Path[0] != '/':
			http.Error(w, "oidc-dbt: this is no proxy for other hosts", http.StatusBadGateway)
		case r.Host != own && r.Host != local:
			http.Error(w, "oidc-dbt: not a host of this broker", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// knows reports whether a client has shown the secret.
func (b *Broker) knows(shown string) bool {
	return subtle.ConstantTimeCompare([]byte(shown), []byte(b.secret.Reveal())) == 1
}
