package broker

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// A dialect is how one client library requests a credential by GET, and the
// replies that it understands.
type dialect struct {
	shown   func(*http.Request) string // what the client shows as the secret
	unknown string                     // the error for a wrong secret
	// check returns what else is wrong with a request, "" for nothing; nil if
	// there is nothing to check.
	check    func(*http.Request) (status int, fault string)
	reply    func(*http.Request, credential.Credential) any
	refuse   func(status int, words string) any
	patience time.Duration // how long the client waits for a reply
}

// answer speaks a dialect, in JSON.
func (b *Broker) answer(d dialect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		reply := func(status int, v any) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(v) // the client may be gone
		}
		refuse := func(status int, words string) { reply(status, d.refuse(status, "oidc-dbt: "+words)) }
		if !b.admits(w, r, d.shown(r)) {
			refuse(http.StatusUnauthorized, d.unknown)
			return
		}
		if r.Method != http.MethodGet {
			refuse(http.StatusMethodNotAllowed, "want GET")
			return
		}
		if d.check != nil {
			if status, fault := d.check(r); fault != "" {
				refuse(status, fault)
				return
			}
		}
		c, err := b.current(r.Context(), d.patience)
		if err != nil {
			refuse(statusOf(err), err.Error())
			return
		}
		reply(http.StatusOK, d.reply(r, c))
	})
}

// statusOf returns a status by which clients retry after an outage, but not after
// a refusal.
func statusOf(err error) int {
	switch fault.ClassOf(err) {
	case fault.Unreachable, fault.Internal:
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// bearerOf returns the bearer of a request, "" for none (RFC 6750 §2.1).
func bearerOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
