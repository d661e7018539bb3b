// Package broker serves fresh credentials on loopback, only to the client libraries of this run.
package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Config is what a broker serves.
type Config struct {
	Target string // its name decides the port, so that the profile is the same in every run
	Route  route.Route
	// Network is how proxied requests leave the machine; the zero value reads no environment.
	Network web.Network
	Dir     string // for the files that clients read; only this user may enter it, and the caller removes it
	// StateDir is a persistent folder of this user's, for files that have the same
	// path in every run; "" for none. It need not exist.
	StateDir string
	// Current returns a credential that is not about to expire. It is called for
	// every request, also concurrently.
	Current func(context.Context) (credential.Credential, error)
	// Renew replaces a credential from Current that the warehouse has refused. An
	// error means that there is no other: the client gets the refusal.
	Renew   func(ctx context.Context, refused credential.Credential) (credential.Credential, error)
	Ahead   bool            // renew without being asked: sessions end with the credential that opened them
	Refused func(count int) // callers without the secret since the last call; at most once a minute
	Failed  func(error)     // errors that the user should see, such as a file that could not be rewritten
	// AllowUIDs are other users who may connect. Only Linux tells which user a
	// connection comes from.
	AllowUIDs []int
	Closed    func() // at the end of Close; nil for nothing
	// Guard decides which statements go on to the warehouse; nil for all. Only
	// proxies of SQL may have one.
	Guard *guard.Guard
	Now   func() time.Time

	hurry hurry // for tests
}

// A Broker serves one route of one target.
type Broker struct {
	config  Config
	secret  secret.Value
	address netip.AddrPort // zero for a route that does not listen
	service service
	file    string // the path of service.file
	caFile  string // the path of the certificate authority for service.tls
	ownPort bool   // the port is the target's own
	refused refusals
	tasks   tasks

	stopped   context.Context // for Interrupt, which gets none
	stop      context.CancelFunc
	server    *http.Server   // nil for a protocol other than HTTP
	running   sync.WaitGroup // the listener, its connections and unrequested renewals
	withdrawn sync.Once

	why     atomic.Pointer[error] // of Halt
	cutting context.Context       // ends when Halt ends sessions
	cut     context.CancelFunc
}

// A service is how a route is served. One that listens has a handler or a conn;
// it may also have a file, or only a file.
type service struct {
	handler    http.Handler                      // HTTP
	refuse     refuser                           // HTTP: replies to requests that do not reach the handler; nil for plain text
	tls        bool                              // HTTPS, with an authority of this run's own
	secretPath bool                              // clients use Address.URL and show no other secret
	conn       func(context.Context, net.Conn)   // another protocol; it returns when ctx ends or conn is closed
	raw        func(full bool, err error) []byte // for conn: an error before any request
	file       *file
	final      int  // HTTP: the status of an error that another try does not end; 0 for 500
	ahead      bool // renew without being asked: the clients' timeout is too short for an exchange
}

// tokenPath ends the path of a route whose secret is the segment before it.
const tokenPath = "/token"

// A file is what a client reads instead of using a listener, or to find it.
type file struct {
	name string
	// content returns the file's content for the current credential; its mode is 0600.
	content func(credential.Credential) ([]byte, error)
}

// listening are the routes with a listener; b.address is set by then.
var listening = map[route.Kind]func(b *Broker) (service, error){
	route.AWSContainer:         awsContainer,
	route.AzureManagedIdentity: managedIdentity,
	route.ClickHouse:           clickHouse,
	route.DatabricksMetadata:   databricksMetadata,
	route.FederatedTokenURL:    federatedTokenURL,
	route.GoogleADC:            googleADC,
	route.GoogleStorage:        googleStorage,
	route.Postgres:             postgres,
	route.S3:                   s3,
	route.Snowflake:            snowflake,
	route.TokenEndpoint:        tokenEndpoint,
	route.Trino:                trino,
}

// silent are the routes without a listener: only a file, or a credential that
// only has to be kept alive.
var silent = map[route.Kind]func(b *Broker) (service, error){
	route.AzureTokenFile:     azureTokenFile,
	route.PasswordFile:       passwordFile,
	route.SnowflakeTokenFile: snowflakeTokenFile,
	// dbt has the credential itself, which is renewed.
	route.Lease: func(*Broker) (service, error) { return service{}, nil },
}

// guarding are the routes that ask a guard.
var guarding = map[route.Kind]bool{route.ClickHouse: true, route.Postgres: true, route.Snowflake: true, route.Trino: true}

// Start serves the route until Close. The error is of class Internal, or Usage
// if the upstream is invalid.
func Start(config Config) (b *Broker, err error) {
	build, listens := listening[config.Route.Kind]
	if !listens {
		if build = silent[config.Route.Kind]; build == nil {
			return nil, fmt.Errorf("start broker: unknown route %q", config.Route.Kind) // a bug
		}
	}
	if config.Guard != nil && !guarding[config.Route.Kind] {
		return nil, fmt.Errorf("start broker: route %q has no guard", config.Route.Kind) // a bug
	}
	b = &Broker{config: config, secret: newSecret(), refused: refusals{tell: config.Refused, now: config.Now}}
	var listener net.Listener
	if listens {
		if listener, b.ownPort, err = listen(config.Target); err != nil {
			return nil, fault.New(fault.Internal, fmt.Errorf("start broker: %w", err), "")
		}
		b.address = listener.Addr().(*net.TCPAddr).AddrPort()
		defer func() {
			if err != nil {
				listener.Close()
			}
		}()
	}
	if b.service, err = build(b); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("start broker: %w", err), "")
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stopped, b.stop = ctx, stop
	b.cutting, b.cut = context.WithCancel(context.Background()) // at once by Halt; Close cancels what is running first
	if err := b.keep(ctx); err != nil {
		stop()
		return nil, fault.New(fault.Internal, fmt.Errorf("start broker: %w", err), "")
	}
	if listens {
		listener = newGate(listener,
			gateConfig{allow: config.AllowUIDs, refused: b.refused.add, hurry: config.hurry, now: config.Now,
				warn: config.Failed, words: b.service.words()})
	}
	if b.service.tls {
		certificate, err := b.certificate()
		if err != nil {
			stop()
			return nil, fault.New(fault.Internal, fmt.Errorf("start broker: %w", err), "")
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	}
	switch {
	case b.service.handler != nil:
		b.serveHTTP(listener)
	case b.service.conn != nil:
		b.serveConns(ctx, listener)
	}
	return b, nil
}

// words returns how a service reports an error before any request.
func (s service) words() func(full bool, err error) []byte {
	switch {
	case s.tls:
		return nil // a client would take them for a broken handshake
	case s.handler != nil:
		return rawHTTP
	}
	return s.raw
}

func (b *Broker) serveHTTP(listener net.Listener) {
	refuse := b.service.refuse
	if refuse == nil {
		refuse = brokerError
	}
	b.server = newServer(b.address, b.config.hurry, b.config.Now, refuse, b.haltable(refuse, b.service.handler))
	b.running.Go(func() {
		_ = b.server.Serve(listener) // ErrServerClosed, after Close
	})
}

func (b *Broker) serveConns(ctx context.Context, listener net.Listener) {
	context.AfterFunc(ctx, func() { listener.Close() })
	b.running.Go(func() {
		for conn := range accepted(listener) {
			b.running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				b.service.conn(ctx, conn)
			})
		}
	})
}

// Address returns where the route is served; the zero Address for a nil broker.
func (b *Broker) Address() route.Address {
	if b == nil {
		return route.Address{}
	}
	a := route.Address{Secret: b.secret, File: b.file, CAFile: b.caFile}
	if b.address.IsValid() {
		a.Host, a.Port = b.address.Addr().String(), int(b.address.Port())
	}
	if b.service.secretPath {
		a.URL = secret.New("http://" + b.address.String() + "/" + b.secret.Reveal() + tokenPath)
	}
	return a
}

// Interrupt cancels what the warehouse is doing for the route's clients, since
// the command has been told to stop. The clients' sessions stay open. It returns
// when the running statements have ended, or some seconds later. It does nothing
// for a nil broker.
func (b *Broker) Interrupt() {
	if b == nil {
		return
	}
	b.tasks.interrupt(b.stopped)
}

// Close ends the route at once: the command that used it has ended. It cancels
// what the warehouse is still doing for its clients. It does nothing for a nil
// broker.
func (b *Broker) Close() {
	if b == nil {
		return
	}
	b.refused.flush()
	b.withdraw()
	b.stop()
	if b.server != nil {
		_ = b.server.Close() // the listener's error no longer matters
	}
	b.tasks.close(false)
	b.running.Wait()
	b.cut()
	if b.config.Closed != nil {
		b.config.Closed()
	}
}

// newSecret returns 256 random bits, in characters that need no escape anywhere.
func newSecret() secret.Value {
	bits := make([]byte, 32)
	rand.Read(bits) // never fails (crypto/rand, since Go 1.24)
	return secret.New(base64.RawURLEncoding.EncodeToString(bits))
}

// Ports of targets: below the systems' ephemeral ranges.
const (
	firstPort = 20000
	ports     = 12000
)

// listen takes the target's own port, or any other if that is in use: then dbt
// parses the whole project again, because the profile differs.
func listen(target string) (listener net.Listener, own bool, err error) {
	name := fnv.New32a()
	io.WriteString(name, target)
	port := firstPort + name.Sum32()%ports
	if listener, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		return listener, true, nil
	}
	listener, err = net.Listen("tcp4", "127.0.0.1:0")
	return listener, false, err
}

// knows reports whether a client has shown the secret.
func (b *Broker) knows(shown string) bool {
	return subtle.ConstantTimeCompare([]byte(shown), []byte(b.secret.Reveal())) == 1
}
