//go:build e2e && linux && amd64

package people

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A front is a reverse proxy in front of Keycloak, which takes the front's address for its own. It notes what
// is asked.
type front struct {
	realm setup.Realm

	mu     sync.Mutex
	calls  []call
	device func(reply map[string]any) // changes what Keycloak says of a device code
}

// A call is a request to one of Keycloak's endpoints, and what came of it.
type call struct {
	endpoint string // token, revoke, auth/device, …
	grant    string // of a token
	status   int
	refusal  string // the error of the reply
	at       time.Time
}

// before starts a front.
func before(t *testing.T, keycloak setup.Realm) *front {
	t.Helper()
	server, path, _ := strings.Cut(strings.TrimPrefix(keycloak.URL, "http://"), "/")
	f := &front{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server})
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // as when a tab is closed
	}
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, endpoint, _ := strings.Cut(r.URL.Path, "/openid-connect/")
		if r.Method != http.MethodPost || endpoint == "" {
			proxy.ServeHTTP(w, r)
			return
		}
		f.note(proxy, w, r, endpoint)
	}))
	at := fmt.Sprintf("http://%s:%d/%s", host, port, path)
	f.realm = setup.Realm{URL: at, TokenURL: at + "/protocol/openid-connect/token", JWKS: at + "/protocol/openid-connect/certs"}
	return f
}

func (f *front) note(proxy http.Handler, w http.ResponseWriter, r *http.Request, endpoint string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form, _ := url.ParseQuery(string(body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	kept := &keeper{header: http.Header{}}
	proxy.ServeHTTP(kept, r)

	f.mu.Lock()
	defer f.mu.Unlock()
	reply := map[string]any{}
	_ = json.Unmarshal(kept.body.Bytes(), &reply)
	refusal, _ := reply["error"].(string)
	f.calls = append(f.calls, call{endpoint, form.Get("grant_type"), kept.status, refusal, time.Now()})
	text := kept.body.Bytes()
	if f.device != nil && reply["device_code"] != nil {
		f.device(reply)
		text, _ = json.Marshal(reply)
		kept.header.Del("Content-Length")
	}
	for name, values := range kept.header {
		w.Header()[name] = values
	}
	w.WriteHeader(kept.status)
	_, _ = w.Write(text)
}

// A keeper keeps a reply.
type keeper struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *keeper) Header() http.Header         { return k.header }
func (k *keeper) WriteHeader(status int)      { k.status = status }
func (k *keeper) Write(p []byte) (int, error) { return k.body.Write(p) }

// to returns the calls of an endpoint, by grant if there is one.
func (f *front) to(endpoint, grant string) (list []call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c.endpoint == endpoint && c.grant == grant {
			list = append(list, c)
		}
	}
	return list
}

// refreshes returns how many there were, which must all have succeeded.
func (f *front) refreshes(t *testing.T) (n int) {
	t.Helper()
	for _, c := range f.to("token", "refresh_token") {
		if n++; c.status != http.StatusOK {
			t.Errorf("a refresh was refused: %+v", c)
		}
	}
	return n
}
