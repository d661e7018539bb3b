package broker

import (
	"fmt"
	"net/http"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// googleStorage passes requests on to Cloud Storage's XML API with the access
// token as bearer. The client shows the secret as its own: DuckDB's secrets of
// type gcs hold one bearer for as long as the connection lives.
// (Google Cloud: XML API, authentication)
func googleStorage(b *Broker) (service, error) {
	proxy, err := b.proxy(func(out *http.Request, c credential.Credential) {
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	})
	if err != nil {
		return service{}, err
	}
	return service{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.knows(bearerOf(r)) {
			b.refused.add()
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AuthenticationRequired</Code><Message>oidc-dbt: the bearer is not this run's</Message></Error>")
			return
		}
		proxy.ServeHTTP(w, r)
	})}, nil
}
