//go:build e2e && linux && amd64

package redshift

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// life is the announced lifetime of logins. Redshift's own shortest is 15
// minutes.
const life = 3 * time.Second

// A gateway is in front of Redshift's API, and shortens its logins to life.
type gateway struct {
	endpoint string

	mu     sync.Mutex
	expiry map[string]time.Time // by password
}

var (
	dbPassword = regexp.MustCompile(`<DbPassword>([^<]+)</DbPassword>`)
	expiration = regexp.MustCompile(`<Expiration>[^<]+</Expiration>`)
)

func newGateway(t *testing.T, endpoint string) *gateway {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	d := &gateway{expiry: map[string]time.Time{}}
	host, port := setup.Serve(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ModifyResponse: d.shorten,
	})
	d.endpoint = fmt.Sprintf("http://%s:%d", host, port)
	return d
}

func (d *gateway) shorten(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if password := dbPassword.FindSubmatch(body); password != nil {
		end := time.Now().Add(life)
		body = expiration.ReplaceAll(body, []byte("<Expiration>"+end.UTC().Format(time.RFC3339)+"</Expiration>"))
		d.mu.Lock()
		d.expiry[string(password[1])] = end
		d.mu.Unlock()
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func (d *gateway) live(password string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.expiry[password].Add(standin.Grace))
}

// schema returns the front's block with a schema of its own.
func (f *front) inSchema(schema, keys string) string {
	return strings.Replace(f.block(keys), "schema: marts", "schema: "+schema, 1)
}

// TestOutlivesLogins: AWS's logins are valid for three seconds.
func TestOutlivesLogins(t *testing.T) {
	t.Parallel()
	w := start(t)
	d := newGateway(t, w.redshift.URL())
	f := startFront(t, w.server, func(l login) (string, string, error) {
		if !d.live(l.password) {
			return "", "", errors.New("the login has expired")
		}
		if err := w.redshift.Check("acme", l.user, l.database, func(p string) bool { return p == l.password }); err != nil {
			return "", "", err
		}
		return "dbt", w.server.Password, nil
	})
	exchange := strings.Replace(w.exchange(), w.redshift.URL(), d.endpoint, 1)
	project := func(schema string) string {
		return setup.Project(t, w.issuer, f.inSchema(schema, ", cluster_id: acme, user: dbt"), exchange)
	}
	setup.OutlivePostgres(t, w.issuer, life, project, "SSL_CERT_FILE="+f.CA)
	setup.ExpirePostgres(t, w.issuer, life+standin.Grace, project, "the login has expired", "SSL_CERT_FILE="+f.CA)
}
