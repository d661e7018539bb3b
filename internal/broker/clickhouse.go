package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// clickHouse passes requests on to ClickHouse's HTTP interface with the
// credential in them: a bearer, or user and password of a lease. The client
// shows the secret as its password, in any of the interface's three forms. Its
// user is ignored: ClickHouse gets only the credential's login. (ClickHouse: HTTP
// interface, authentication)
//
// ClickHouse continues a query whose client has gone. Each gets an id, by which
// it can be killed.
func clickHouse(b *Broker) (service, error) {
	login := func(out *http.Request, c credential.Credential) {
		if q, ok := out.Context().Value(clickHouseQueryKey{}).(*clickHouseQuery); ok {
			q.credential.Store(&c)
		}
		logInClickHouse(out, c)
	}
	proxy, err := b.proxy(passing{login: login, refused: clickHouseRefuses, patience: clickHousePatience, fail: brokerError})
	if err != nil {
		return service{}, err
	}
	transport, base, err := upstream(b.config.Network, b.config.Route.Upstream)
	if err != nil {
		return service{}, err
	}
	transport.DisableKeepAlives = true // a load balancer may choose another server the next time
	killer := clickHouseKiller{broker: b, client: web.NewClient(transport), base: base}
	return service{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !b.admits(w, r, clickHousePassword(r)):
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: oidc-dbt: the password does not belong to this run. (AUTHENTICATION_FAILED)",
				http.StatusForbidden)
		case r.URL.EscapedPath() == "/ping":
			proxy.ServeHTTP(w, r)
		case r.URL.EscapedPath() != "/":
			// no dashboards, no handlers of the server's own
			http.Error(w, "oidc-dbt: only queries are passed on to ClickHouse", http.StatusNotFound)
		default:
			if g := b.config.Guard; g != nil {
				if err := checkClickHouse(g, r); err != nil {
					denyClickHouse(w, err)
					return
				}
			}
			killer.watch(w, r, proxy)
		}
	})}, nil
}

// clickHouseRefuses knows ClickHouse's error codes for failed authentication.
// (ClickHouse: src/Common/ErrorCodes.cpp)
func clickHouseRefuses(resp *http.Response) bool {
	switch resp.Header.Get("X-ClickHouse-Exception-Code") {
	case "192", "193", "194", "516": // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED
		return resp.StatusCode >= http.StatusBadRequest
	}
	return resp.StatusCode == http.StatusUnauthorized
}

func logInClickHouse(out *http.Request, c credential.Credential) {
	q := out.URL.Query()
	q.Del("user")
	q.Del("password")
	out.URL.RawQuery = q.Encode()
	for _, name := range []string{"X-ClickHouse-User", "X-ClickHouse-Key", "X-ClickHouse-SSL-Certificate-Auth"} {
		out.Header.Del(name)
	}
	if c.Token.IsZero() {
		out.SetBasicAuth(c.User, c.Password.Reveal()) // ClickHouse's own header cannot hold every password
	} else {
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
}

// A clickHouseQuery is one that the server may be running.
type clickHouseQuery struct {
	id   string
	task *task
	underway
	credential atomic.Pointer[credential.Credential] // with which it was sent
	missed     atomic.Int32                          // how often the server did not know it
}

type clickHouseQueryKey struct{}

func (q *clickHouseQuery) running() uint64 {
	if q.left.Load() && !q.ended.Load() {
		return 1
	}
	return 0
}

type clickHouseKiller struct {
	broker *Broker
	client *http.Client
	base   *url.URL
}

// watch passes a query on, and registers it to be killed if it still runs when no
// client waits for it.
func (k clickHouseKiller) watch(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	values := r.URL.Query()
	q := &clickHouseQuery{id: clickHouseID(r)}
	r = q.noted(r)
	r = r.WithContext(context.WithValue(r.Context(), clickHouseQueryKey{}, q))
	if q.id == "" {
		q.id = "oidc-dbt-" + rand.Text()
		values.Set("query_id", q.id)
		to := *r.URL
		to.RawQuery = values.Encode()
		r.URL = &to
	}
	q.task = &task{running: q.running, cancel: func(ctx context.Context) { k.kill(ctx, q) }}
	if !k.broker.tasks.add(q.task) {
		http.Error(w, "oidc-dbt: the run is over", http.StatusServiceUnavailable)
		return
	}
	defer func() {
		if q.running() == 0 {
			k.broker.tasks.remove(q.task)
		}
	}()
	proxy.ServeHTTP(w, r)
}

// maxKilled bounds what is read of a reply to KILL QUERY, which quotes the query.
const maxKilled = 1 << 20

var clickHouseText = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// kill ends a query as the user that sent it: others may not. A query that the
// server twice does not know has ended.
func (k clickHouseKiller) kill(ctx context.Context, q *clickHouseQuery) {
	c := q.credential.Load()
	if c == nil || !c.Expiry.After(k.broker.config.Now()) {
		current, err := k.broker.config.Current(ctx)
		if err != nil {
			return
		}
		c = &current
	}
	to := *k.base
	to.Path = "/"
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(),
		strings.NewReader(fmt.Sprintf("KILL QUERY WHERE query_id = '%s' SYNC FORMAT TSV", clickHouseText.Replace(q.id))))
	if err != nil {
		return
	}
	logInClickHouse(out, *c)
	resp, err := k.client.Do(out)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	killed, err := io.ReadAll(io.LimitReader(resp.Body, maxKilled))
	if err != nil || resp.StatusCode != http.StatusOK {
		return
	}
	if len(bytes.TrimSpace(killed)) > 0 || q.missed.Add(1) > 1 {
		q.ended.Store(true)
		k.broker.tasks.remove(q.task)
	}
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
