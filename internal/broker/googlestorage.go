package broker

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// googleStorage passes requests on to Cloud Storage's XML API with the access
// token as bearer. The client shows the secret as its own: DuckDB's secrets of
// type gcs hold one bearer for as long as the connection lives.
// (Google Cloud: XML API, authentication)
func googleStorage(b *Broker) (service, error) {
	login := func(out *http.Request, c credential.Credential) {
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
	proxy, err := b.proxy(passing{login: login, refused: unauthorized, patience: proxyPatience, fail: googleStorageError})
	if err != nil {
		return service{}, err
	}
	return service{refuse: googleStorageError, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.admits(w, r, bearerOf(r)) {
			googleStorageError(w, http.StatusUnauthorized, errors.New("the bearer token does not belong to this run"))
			return
		}
		proxy.ServeHTTP(w, r)
	})}, nil
}

// googleStorageError is an error in the form of Cloud Storage's XML API, by
// which DuckDB speaks. (Google Cloud: XML API, HTTP status and error codes)
func googleStorageError(w http.ResponseWriter, status int, err error) {
	code := map[int]string{
		http.StatusUnauthorized: "AuthenticationRequired", http.StatusForbidden: "AccessDenied",
		http.StatusServiceUnavailable: "ServiceUnavailable",
	}[status]
	if code == "" {
		code = "InternalError"
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>oidc-dbt: %s</Message></Error>",
		code, xmlText.Replace(err.Error()))
}
