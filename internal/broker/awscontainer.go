package broker

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// awsContainer serves container credentials to every AWS SDK. The SDKs send the
// secret as the whole Authorization header. They keep a session until it is about
// to expire, DuckDB until a store refuses it.
// (AWS SDKs and Tools Reference Guide: Container credential provider)
func awsContainer(b *Broker) (service, error) {
	var last steadySession
	return service{ahead: true, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		reply := func(status int, fields map[string]string) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(fields) // the client may be gone
		}
		refuse := func(status int, code, message string) {
			reply(status, map[string]string{"code": code, "message": "oidc-dbt: " + message})
		}
		switch {
		case !b.admits(w, r, r.Header.Get("Authorization")):
			refuse(http.StatusUnauthorized, "AccessDenied", "the authorization token does not belong to this run")
			return
		case r.URL.Path != route.AWSContainerPath:
			refuse(http.StatusNotFound, "NotFound", "credentials are at "+route.AWSContainerPath)
			return
		case r.Method != http.MethodGet:
			refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "want GET")
			return
		}
		c, err := b.current(r.Context(), awsPatience)
		switch {
		case err != nil:
			refuse(http.StatusServiceUnavailable, "NoCredentials", err.Error())
		case c.AWS == nil:
			refuse(http.StatusServiceUnavailable, "NoCredentials", "the credential is not an AWS session")
		default:
			c = last.orNext(c, b.config.Now())
			reply(http.StatusOK, map[string]string{
				"AccessKeyId":     c.AWS.AccessKeyID.Reveal(),
				"SecretAccessKey": c.AWS.SecretAccessKey.Reveal(),
				"Token":           c.AWS.SessionToken.Reveal(),
				"Expiration":      c.Expiry.UTC().Format(time.RFC3339),
			})
		}
	})}, nil
}

// A steadySession keeps handing out one session while a client may be reading
// it piece by piece: of a session with less than 15 minutes left, botocore gets
// key, secret and token by one request each, and a signature made from two
// sessions is refused. (botocore/credentials.py, RefreshableCredentials)
type steadySession struct {
	mu       sync.Mutex
	session  credential.Credential
	asked    time.Time // when it was last handed out
	replaced time.Time // when a newer one first appeared; zero if none has
}

// How far apart the requests of one read are, and how long a session that has
// been replaced is handed out at most.
const (
	readGap      = 250 * time.Millisecond
	longestStale = 2 * time.Second
)

// orNext returns the session that was handed out last, or next if no client is in
// the middle of reading the last one.
func (s *steadySession) orNext(next credential.Credential, now time.Time) credential.Credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := sameSecrets(s.session, next)
	if !same && s.replaced.IsZero() {
		s.replaced = now
	}
	if same || now.Sub(s.asked) > readGap || now.Sub(s.replaced) > longestStale || s.session.Expiry.Before(now.Add(time.Second)) {
		s.session, s.replaced = next, time.Time{}
	}
	s.asked = now
	return s.session
}
