package standin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"github.com/rclone/gofakes3/signature"
)

// A Store is an S3 store in memory that honours an STS's credentials and
// nothing else: it verifies each request's signature, session token and expiry.
type Store struct {
	sts    *STS
	next   http.Handler
	server *httptest.Server

	mu      sync.Mutex
	served  map[string]int // by method
	refused int
}

// StartStore starts a store with empty buckets on loopback. Close it.
func StartStore(sts *STS, buckets ...string) (*Store, error) {
	backend := s3mem.New()
	for _, name := range buckets {
		if err := backend.CreateBucket(context.Background(), name); err != nil {
			return nil, fmt.Errorf("create bucket %q: %w", name, err)
		}
	}
	s := &Store{sts: sts, next: gofakes3.New(backend).Server(), served: map[string]int{}}
	server, err := serve(http.HandlerFunc(s.handle))
	if err != nil {
		return nil, err
	}
	s.server = server
	return s, nil
}

// URL returns the endpoint.
func (s *Store) URL() string { return s.server.URL }

// Host returns the endpoint without its scheme, as DuckDB wants it.
func (s *Store) Host() string { return s.server.Listener.Addr().String() }

// Close stops the server.
func (s *Store) Close() { s.server.Close() }

// Served returns how many requests of a method were let through.
func (s *Store) Served(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[method]
}

// Refused returns how many requests were refused.
func (s *Store) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *Store) handle(w http.ResponseWriter, r *http.Request) {
	code := signature.V4SignVerifyWithLookup(r, func(accessKey string) (string, bool) {
		session, ok := s.sts.Session(accessKey)
		token := r.Header.Get("X-Amz-Security-Token")
		if token == "" {
			token = r.URL.Query().Get("X-Amz-Security-Token")
		}
		if !ok || token != session.SessionToken || !s.sts.config.Now().Before(session.Expiration) {
			return "", false
		}
		return session.SecretAccessKey, true
	})
	s.mu.Lock()
	if code == signature.ErrNone {
		s.served[r.Method]++
	} else {
		s.refused++
	}
	s.mu.Unlock()
	if code != signature.ErrNone {
		e := signature.GetAPIError(code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(signature.EncodeAPIErrorToResponse(e)) // the client may be gone
		return
	}
	s.next.ServeHTTP(w, r)
}
