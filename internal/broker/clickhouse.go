package broker

import (
	"net/http"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// clickHouse passes requests on to ClickHouse's HTTP interface with the
// credential in them: a bearer, or user and password of a lease. The client
// shows the secret as its password, in whichever of the interface's three
// forms; its user does not matter, and nor would another: ClickHouse gets one
// login, this. (ClickHouse: HTTP interface, authentication)
func clickHouse(b *Broker) (service, error) {
	login := func(out *http.Request, c credential.Credential) {
		q := out.URL.Query()
		q.Del("user")
		q.Del("password")
		out.URL.RawQuery = q.Encode()
		for _, name := range []string{"X-ClickHouse-User", "X-ClickHouse-Key", "X-ClickHouse-SSL-Certificate-Auth"} {
			out.Header.Del(name)
		}
		if c.Token.IsZero() {
			out.SetBasicAuth(c.User, c.Password.Reveal()) // a header of its own would not hold every password
		} else {
			out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
		}
	}
	proxy, err := b.proxy(passing{login: login, refused: clickHouseRefuses, patience: clickHousePatience, fail: brokerError})
	if err != nil {
		return service{}, err
	}
	return service{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !b.knows(clickHousePassword(r)):
			b.refused.add()
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: oidc-dbt: the password is not this run's. (AUTHENTICATION_FAILED)", http.StatusForbidden)
		case r.URL.EscapedPath() != "/" && r.URL.EscapedPath() != "/ping":
			http.Error(w, "oidc-dbt: only queries are passed on to ClickHouse", http.StatusNotFound) // no dashboards, no handlers of the server's own
		default:
			proxy.ServeHTTP(w, r)
		}
	})}, nil
}

// clickHouseRefuses knows the codes of ClickHouse's that are about who asks.
// (ClickHouse: src/Common/ErrorCodes.cpp)
func clickHouseRefuses(resp *http.Response) bool {
	switch resp.Header.Get("X-ClickHouse-Exception-Code") {
	case "192", "193", "194", "516": // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED
		return resp.StatusCode >= http.StatusBadRequest
	}
	return resp.StatusCode == http.StatusUnauthorized
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
