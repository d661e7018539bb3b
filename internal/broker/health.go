package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthTimeout is how long a probe waits for a renewal that is under way:
// Kubernetes gives one a second.
const healthTimeout = 800 * time.Millisecond

// A Health answers probes at /healthz on loopback, without anything secret.
type Health struct {
	server  *http.Server
	address string
}

// ServeHealth answers on a port, 0 for any, until Close.
func (b *Broker) ServeHealth(port int) (*Health, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen for /healthz: %w", err)
	}
	own := listener.Addr().(*net.TCPAddr).AddrPort()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), healthTimeout, errors.New("the next credential is still being requested"))
		defer cancel()
		status, reply := http.StatusOK, map[string]string{"status": "ok"}
		if c, err := b.config.Current(ctx); err != nil {
			status, reply = http.StatusServiceUnavailable, map[string]string{"status": "failing", "reason": err.Error()}
		} else {
			reply["expires_at"] = c.Expiry.UTC().Format(time.RFC3339)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(reply) // the prober may be gone
	})
	h := &Health{server: newServer(own, b.config.hurry, b.config.Now, brokerError, mux), address: own.String()}
	gate := newGate(listener, gateConfig{anyone: true, now: b.config.Now, warn: b.config.Failed, words: rawHTTP})
	go func() { _ = h.server.Serve(gate) }() // until Close
	return h, nil
}

// Address returns where it listens, "127.0.0.1:PORT".
func (h *Health) Address() string { return h.address }

// Close ends it at once.
func (h *Health) Close() { _ = h.server.Close() }
