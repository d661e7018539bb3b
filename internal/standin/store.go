package standin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"github.com/rclone/gofakes3/signature"
)

// A Store is an S3 store in memory that honours an STS's credentials, the keys
// of SetKey, and nothing else: it verifies each request's signature, session
// token, expiry and session policy.
type Store struct {
	sts    *STS
	next   http.Handler
	server *httptest.Server

	mu      sync.Mutex
	keys    map[string]string // secrets of IAM users' active keys, by access key id
	served  map[string]int    // by method
	used    map[string]int    // requests that were let through, by access key id
	refused int
	calls   []call // what was let through
}

// StartStore starts a store with empty buckets on loopback. Close it.
func StartStore(sts *STS, buckets ...string) (*Store, error) {
	backend := s3mem.New()
	for _, name := range buckets {
		if err := backend.CreateBucket(context.Background(), name); err != nil {
			return nil, fmt.Errorf("create bucket %q: %w", name, err)
		}
	}
	s := &Store{sts: sts, next: gofakes3.New(backend).Server(), keys: map[string]string{}, served: map[string]int{}, used: map[string]int{}}
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

// SetKey makes an access key of the IAM user KeyUser active, which is good until
// DisableKey: what people store.
func (s *Store) SetKey(id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = secret
}

// DisableKey makes an access key inactive: the store does not know it any more.
func (s *Store) DisableKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

// UsedKey returns how many requests were let through with an access key id.
func (s *Store) UsedKey(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[id]
}

// known returns what is behind an access key id: a session, or an IAM user's
// active key, which has no session token.
func (s *Store) known(id string) (Session, bool) {
	s.mu.Lock()
	secret, ok := s.keys[id]
	s.mu.Unlock()
	if ok {
		return Session{AccessKeyID: id, SecretAccessKey: secret, SessionARN: KeyUser,
			Expiration: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, true
	}
	return s.sts.Session(id)
}

// Served returns how many requests of a method were let through.
func (s *Store) Served(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[method]
}

// Used returns how many keys and sessions requests were let through with.
func (s *Store) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used)
}

// Refused returns how many requests were refused.
func (s *Store) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *Store) handle(w http.ResponseWriter, r *http.Request) {
	session, err := s.admit(r)
	s.mu.Lock()
	if err == nil {
		s.served[r.Method]++
		s.used[session.AccessKeyID]++
		s.calls = append(s.calls, newCall(r, session))
	} else {
		s.refused++
	}
	s.mu.Unlock()
	if err != nil {
		text, failure := xml.Marshal(struct {
			XMLName                            xml.Name `xml:"Error"`
			Code, Message, Resource, RequestID string
		}{Code: err.code, Message: err.message, Resource: r.URL.Path, RequestID: rand.Text()})
		if failure != nil {
			panic(failure) // our own type
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(err.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(text) // the client may be gone
		}
		return
	}
	if !r.URL.Query().Has("versions") {
		s.next.ServeHTTP(w, r)
		return
	}
	// gofakes3 calls it by another name. (Amazon S3 API Reference, ListObjectVersions)
	list := httptest.NewRecorder()
	s.next.ServeHTTP(list, r)
	w.WriteHeader(list.Code)
	_, _ = w.Write(bytes.ReplaceAll(list.Body.Bytes(), []byte("ListBucketVersionsResult"), []byte("ListVersionsResult")))
}

// maxObject bounds what is read before its hash is known to be the signed one.
const maxObject = 64 << 20

// admit tells whether S3 would let the request through: a live session of the
// token service, its session token, its signature over this very content, and
// a session policy that allows the action. Requests' own times are compared
// with the machine's clock.
func (s *Store) admit(r *http.Request) (session Session, failed *stsError) {
	query := r.URL.Query()
	token := r.Header.Get("X-Amz-Security-Token")
	if token == "" {
		token = query.Get("X-Amz-Security-Token")
	}
	known := false
	code := signature.V4SignVerifyWithLookup(r, func(accessKey string) (string, bool) {
		session, known = s.known(accessKey)
		return session.SecretAccessKey, known
	})
	switch {
	case known && token != session.SessionToken:
		return session, &stsError{http.StatusBadRequest, "InvalidToken", "The provided token is malformed or otherwise invalid."}
	case known && s.sts.over(session):
		return session, &stsError{http.StatusBadRequest, "ExpiredToken", "The provided token has expired."}
	case code != signature.ErrNone:
		e := signature.GetAPIError(code)
		return session, &stsError{e.HTTPStatusCode, e.Code, e.Description}
	}
	if want := r.Header.Get("X-Amz-Content-Sha256"); len(want) == 64 {
		body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxObject))
		if err != nil {
			return session, &stsError{http.StatusBadRequest, "IncompleteBody", "The request body could not be read."}
		}
		if hash(body) != want {
			return session, &stsError{http.StatusBadRequest, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header does not match what was computed."}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	needs := [][2]string{s3Action(r.Method, r.URL.Path, query)}
	if source, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source")); err != nil || source != "" {
		needs = append(needs, s3Action(http.MethodGet, "/"+strings.TrimPrefix(source, "/"), nil))
	}
	for _, n := range needs {
		if s.sts.denied(session, n[0], n[1]) {
			return session, &stsError{http.StatusForbidden, "AccessDenied",
				"User: " + session.SessionARN + " is not authorized to perform: " + n[0] + " on resource: " + n[1] +
					" with an explicit deny in an identity-based policy"}
		}
		if !session.may(n[0], n[1]) {
			return session, &stsError{http.StatusForbidden, "AccessDenied",
				"User: " + session.SessionARN + " is not authorized to perform: " + n[0] + " on resource: " + n[1] +
					" because no session policy allows the action"}
		}
	}
	return session, nil
}

// s3Action names the permission that a request needs, and on what resource.
func s3Action(method, path string, query url.Values) [2]string {
	bucket, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	resource := "arn:aws:s3:::" + bucket
	if object != "" {
		resource += "/" + object
	}
	switch {
	case bucket == "":
		return [2]string{"s3:ListAllMyBuckets", "*"}
	case object == "" && query.Has("delete"): // many objects at once: all of them must be allowed
		return [2]string{"s3:DeleteObject", resource + "/*"}
	case object == "" && method == http.MethodGet && query.Has("versions"):
		return [2]string{"s3:ListBucketVersions", resource}
	case object == "" && (method == http.MethodGet || method == http.MethodHead):
		return [2]string{"s3:ListBucket", resource}
	case object == "" && method == http.MethodPut:
		return [2]string{"s3:CreateBucket", resource}
	case object == "":
		return [2]string{"s3:DeleteBucket", resource}
	case method == http.MethodGet && query.Has("versionId"):
		return [2]string{"s3:GetObjectVersion", resource}
	case method == http.MethodGet || method == http.MethodHead:
		return [2]string{"s3:GetObject", resource}
	case method == http.MethodDelete && query.Has("uploadId"):
		return [2]string{"s3:AbortMultipartUpload", resource}
	case method == http.MethodDelete:
		return [2]string{"s3:DeleteObject", resource}
	}
	return [2]string{"s3:PutObject", resource}
}
