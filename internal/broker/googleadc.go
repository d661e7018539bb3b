package broker

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// googleFile is the file that GOOGLE_APPLICATION_CREDENTIALS names.
const googleFile = "google-credentials.json"

// googleADC is a file of application default credentials that has Google's
// client libraries ask the broker twice: for a subject token, which is the
// route's secret, and with that for an access token (RFC 8693). The broker has
// impersonated the service account by then, so the file names none. The file
// does not change: renewed tokens come from the listener.
// (Google Cloud: AIP-4117, external account credentials)
func googleADC(b *Broker) (service, error) {
	content, err := googleCredentials(b)
	if err != nil {
		return service{}, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /subject-token", b.googleSubjectToken)
	mux.HandleFunc("POST /token", b.googleToken)
	return service{
		handler: mux,
		file:    &file{name: googleFile, content: func(credential.Credential) ([]byte, error) { return content, nil }},
	}, nil
}

func googleCredentials(b *Broker) ([]byte, error) {
	google := b.config.Route.Google
	if google.Universe == "" {
		google.Universe = "googleapis.com"
	}
	base := "http://" + b.address.String()
	file := map[string]any{
		"type":               "external_account",
		"audience":           google.Audience,
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", // it is not a JWT, but every library accepts this type
		"token_url":          base + "/token",
		"universe_domain":    google.Universe,
		"credential_source": map[string]any{
			"url":     base + "/subject-token",
			"headers": map[string]string{"Authorization": "Bearer " + b.secret.Reveal()},
		},
	}
	if google.Project != "" { // the libraries want it of a workforce pool, and of no other
		file["workforce_pool_user_project"] = google.Project
	}
	return json.MarshalIndent(file, "", "  ")
}

// googleSubjectToken returns the secret that the caller has shown: the ID token
// would be valid beyond this route, and expires before the run ends.
func (b *Broker) googleSubjectToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !b.admits(w, r, bearerOf(r)) {
		http.Error(w, "oidc-dbt: the bearer token does not belong to this run", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(b.secret.Reveal())) // without a line break, which would be part of the token
}

// googleToken answers with the run's own access token, for any requested audience,
// scopes, project or service account. A token with 225 s or less left is
// fetched anew for each request to Google (google-auth: REFRESH_THRESHOLD):
// it comes from the keeper, and costs no exchange.
func (b *Broker) googleToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	reply := func(status int, v map[string]any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the client is gone
	}
	refuse := func(status int, code, description string) {
		reply(status, map[string]any{"error": code, "error_description": "oidc-dbt: " + description}) // RFC 6749 §5.2
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	switch {
	case !b.admits(w, r, r.PostFormValue("subject_token")):
		refuse(http.StatusUnauthorized, "invalid_grant", "the subject token does not belong to this run")
		return
	case r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
		refuse(http.StatusBadRequest, "unsupported_grant_type", "want a token exchange")
		return
	}
	c, err := b.current(r.Context(), googlePatience)
	switch {
	case err == nil:
		reply(http.StatusOK, map[string]any{
			"access_token": c.Token.Reveal(), "token_type": "Bearer",
			"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
			"expires_in":        max(1, int(c.Expiry.Sub(b.config.Now())/time.Second)), // Google's library for Go refuses 0
		})
	case fault.ClassOf(err) == fault.Unreachable:
		refuse(http.StatusServiceUnavailable, "temporarily_unavailable", err.Error())
	default:
		refuse(http.StatusBadRequest, "invalid_grant", err.Error()) // a retry would fail again
	}
}
