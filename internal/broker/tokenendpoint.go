package broker

import (
	"encoding/json"
	"net/http"
	"time"
)

// tokenEndpoint is an OAuth token endpoint whose client secret is the route's
// secret (RFC 6749 §4.4, §5.1). It answers with the credential, for any requested
// scope or resource.
func tokenEndpoint(b *Broker) (service, error) {
	return service{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		reply := func(status int, v map[string]any) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(v) // the client may be gone
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		switch {
		case r.Method != http.MethodPost:
			reply(http.StatusMethodNotAllowed, map[string]any{"error": "invalid_request"})
			return
		case !b.admits(w, r, r.PostFormValue("client_secret")):
			reply(http.StatusUnauthorized,
				map[string]any{"error": "invalid_client", "error_description": "oidc-dbt: the client secret is not this run's"})
			return
		}
		c, err := b.current(r.Context(), redshiftPatience)
		if err != nil {
			reply(http.StatusServiceUnavailable, map[string]any{"error": "temporarily_unavailable", "error_description": "oidc-dbt: " + err.Error()})
			return
		}
		reply(http.StatusOK, map[string]any{
			"access_token": c.Token.Reveal(), "token_type": "Bearer",
			"expires_in": int(c.Expiry.Sub(b.config.Now()) / time.Second),
		})
	})}, nil
}
