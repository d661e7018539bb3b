package broker

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// trino passes statements on to Trino with the credential as bearer. The
// client shows the secret as its own bearer, and only ever over TLS.
//
// Replies have the URI at which a statement continues. It must be on the same
// Trino, and is rewritten to this proxy. (Trino: client REST API)
func trino(b *Broker) (service, error) {
	u := b.config.Route.Upstream
	transport, _, err := upstream(b.config.Network, u)
	if err != nil {
		return service{}, err
	}
	login := func(out *http.Request, c credential.Credential) {
		for name := range out.Header {
			if strings.HasPrefix(name, "X-Forwarded-") {
				out.Header.Del(name) // Trino may build its URIs from them
			}
		}
		// Results in object storage would bypass this proxy.
		out.Header.Del("X-Trino-Query-Data-Encoding")
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	}
	queries := &trinoQueries{broker: b, client: web.NewClient(transport), login: login, all: map[string]*trinoQuery{}}
	uris := uriRewriter{
		queries: queries,
		keys:    []string{nextURI, "partialCancelUri"}, // infoUri is a web page, on which users log in themselves
		origin:  originOf(&url.URL{Scheme: "https", Host: net.JoinHostPort(u.Host, fmt.Sprint(u.Port))}),
		under:   statements + "/",
		base:    "https://" + b.address.String(),
	}
	proxy, err := b.proxy(passing{login: login, reply: uris.reply, refused: unauthorized, patience: proxyPatience, fail: brokerError})
	if err != nil {
		return service{}, err
	}
	return service{tls: true, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !b.admits(w, r, bearerOf(r)):
			http.Error(w, "oidc-dbt: the token does not belong to this run", http.StatusUnauthorized)
		case !isStatement(r):
			http.Error(w, "oidc-dbt: only statements are passed on to Trino", http.StatusNotFound)
		default:
			if g := b.config.Guard; g != nil {
				if err := checkTrino(g, r); err != nil {
					denyTrino(w, uris.base, err)
					return
				}
			}
			proxy.ServeHTTP(w, r)
		}
	})}, nil
}

// nextURI is the key of a reply that names where its statement goes on.
const nextURI = "nextUri"

// statements is the path of Trino's API that clients run SQL by.
const statements = "/v1/statement"

// isStatement reports whether a request is one that clients make: to begin a
// statement, or to continue, inspect or cancel one.
func isStatement(r *http.Request) bool {
	p := r.URL.Path
	if r.URL.RawPath != "" || path.Clean(p) != p { // what a server may read as another path
		return false
	}
	switch r.Method {
	case http.MethodPost:
		return p == statements
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return strings.HasPrefix(p, statements+"/")
	}
	return false
}

// A uriRewriter rewrites URIs in replies to point to the proxy.
type uriRewriter struct {
	keys    []string // of the reply's object, whose values are URIs
	origin  string   // the warehouse's, in originOf's form; another is an error
	under   string   // the prefix of the URIs' paths
	base    string   // the proxy's origin, which replaces the warehouse's
	queries *trinoQueries
}

// aheadSize is how much of a reply is read before its status goes out: the URIs
// are among its first keys, and a foreign one becomes an error.
const aheadSize = 4 << 10

// reply has the URIs of a reply rewritten on their way.
func (u uriRewriter) reply(resp *http.Response) error {
	at := resp.Request.URL.Path
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone,
		resp.Request.Method == http.MethodDelete && resp.StatusCode < http.StatusMultipleChoices:
		u.queries.end(at)
	}
	if resp.StatusCode >= http.StatusMultipleChoices || resp.Request.Method == http.MethodHead {
		return nil // the client reads no URI out of it
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" {
		return fmt.Errorf("the reply's content encoding is %q, want gzip or none", encoding)
	}
	last := resp.Request.Method == http.MethodGet // unless there is more
	body := newJSONRewriter(endingAt{resp.Body, func() {
		if last {
			u.queries.end(at)
		}
	}}, u.keys, func(key, uri string) (string, error) {
		here, err := u.rewrite(key, uri)
		if err == nil && key == nextURI {
			last = false
			u.queries.goOn(uri)
		}
		return here, err
	})
	whole, err := body.ahead(aheadSize)
	if err != nil {
		return err
	}
	resp.Body, resp.ContentLength = body, -1
	resp.Header.Del("Content-Length")
	if whole >= 0 {
		resp.ContentLength = whole
		resp.Header.Set("Content-Length", fmt.Sprint(whole))
	}
	return nil
}

// rewrite returns the URI as it is to be asked for at the proxy.
func (u uriRewriter) rewrite(key, uri string) (string, error) {
	parsed, err := url.Parse(uri)
	switch {
	case err != nil || parsed.User != nil || parsed.Fragment != "":
		return "", fmt.Errorf("%s of the reply is %q, want a URI of the warehouse", key, uri)
	case originOf(parsed) != u.origin:
		return "", fmt.Errorf("%s of the reply points to %q, want %q", key, originOf(parsed), u.origin)
	case !strings.HasPrefix(parsed.EscapedPath(), u.under):
		return "", fmt.Errorf("%s of the reply has path %q, want one under %s", key, parsed.EscapedPath(), u.under)
	}
	next := u.base + parsed.EscapedPath()
	if parsed.RawQuery != "" || parsed.ForceQuery {
		next += "?" + parsed.RawQuery
	}
	return next, nil
}

// originOf returns scheme, host and port of a URL in one form.
func originOf(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), web.Port(u))
}
