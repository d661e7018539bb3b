package broker

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// awsContainer serves container credentials to every AWS SDK, which sends the
// secret in the header Authorization as it is. The SDKs keep a session until
// it is about to expire, DuckDB until a store refuses it.
// (AWS SDKs and Tools Reference Guide: Container credential provider)
func awsContainer(b *Broker) (service, error) {
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
			refuse(http.StatusUnauthorized, "AccessDenied", "the authorization token is not this run's")
			return
		case r.URL.Path != route.AWSContainerPath:
			refuse(http.StatusNotFound, "NotFound", "credentials are at "+route.AWSContainerPath)
			return
		case r.Method != http.MethodGet:
			refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "credentials are to be had by GET")
			return
		}
		c, err := b.current(r.Context(), awsPatience)
		switch {
		case err != nil:
			refuse(http.StatusServiceUnavailable, "NoCredentials", err.Error())
		case c.AWS == nil:
			refuse(http.StatusServiceUnavailable, "NoCredentials", "the credential is no session of AWS")
		default:
			reply(http.StatusOK, map[string]string{
				"AccessKeyId":     c.AWS.AccessKeyID.Reveal(),
				"SecretAccessKey": c.AWS.SecretAccessKey.Reveal(),
				"Token":           c.AWS.SessionToken.Reveal(),
				"Expiration":      c.Expiry.UTC().Format(time.RFC3339),
			})
		}
	})}, nil
}
