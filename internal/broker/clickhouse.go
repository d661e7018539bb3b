package broker

import (
	"net/http"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// clickHouse passes requests on to ClickHouse's HTTP interface with the
// credential as bearer, which dbt-clickhouse has no key for. The client shows
// the secret as its password, in whichever of the interface's three forms.
// (ClickHouse: HTTP interface, authentication)
func clickHouse(b *Broker) (service, error) {
	proxy, err := b.proxy(func(out *http.Request, c credential.Credential) {
		q := out.URL.Query()
		q.Del("user")
		q.Del("password")
		out.URL.RawQuery = q.Encode()
		out.Header.Del("X-ClickHouse-User")
		out.Header.Del("X-ClickHouse-Key")
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	})
	if err != nil {
		return service{}, err
	}
	return service{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.knows(clickHousePassword(r)) {
			b.refused.add()
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: oidc-dbt: the password is not this run's. (AUTHENTICATION_FAILED)", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	})}, nil
}

func clickHousePassword(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	if key := r.Header.Get("X-ClickHouse-Key"); key != "" {
		return key
	}
	return r.URL.Query().Get("password")
}
