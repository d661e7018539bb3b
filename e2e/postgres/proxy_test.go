//go:build e2e && linux && amd64

package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// outlive builds slow projects with the broker, whose credentials have the
// announced lifetime life, and one without it, which must fail with the message
// refusal at a login when the server no longer accepts the credential.
func outlive(t *testing.T, issuer *standin.Issuer, life, taken time.Duration, project func(schema string) (workspace string), refusal string) {
	t.Helper()
	setup.OutlivePostgres(t, issuer, life, project)
	setup.ExpirePostgres(t, issuer, taken, project, refusal)
}

// leaseLife is the lifetime of OpenBao's users. It drops them by the wall clock,
// so that the machine must not stall for longer than the broker renews ahead.
const leaseLife = 10 * time.Second

// TestOutlivesLeases: OpenBao's users live for ten seconds, and log in at
// PostgreSQL by SCRAM, bound to its certificate. None is left.
func TestOutlivesLeases(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	lendFor(t, bao, leaseLife.String(), leaseLife.String())
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, leaseLife, leaseLife+time.Second, func(schema string) string { return leased(t, issuer, bao, server, schema) }, "password authentication failed for user")
	})
	bao.Gone(t, server)
}

// TestOutlivesRDSTokens: tokens signed by a role's session have an announced lifetime of three seconds.
func TestOutlivesRDSTokens(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	issuer := setup.Issuer(t)
	sts := setup.STS(t, issuer)
	c := startRDS(t, sts, life)
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, life, taken(life), func(schema string) string { return c.project(t, issuer, schema, shortSessions(t, sts.URL(), life)) }, c.refusal())
	})
	c.expectRefusals(t, "the token is expired")
}

// taken is how long a server accepts a token with the announced lifetime life: a
// signature's time is in whole seconds.
func taken(life time.Duration) time.Duration { return life + standin.Grace + time.Second }

// startRDS starts a server for tokens with an announced lifetime.
func startRDS(t *testing.T, sts *standin.STS, life time.Duration) (c *cloud) {
	t.Helper()
	c = startCloud(t, "dbt", func(user, password string) error {
		u, err := url.Parse("https://" + password)
		if err != nil {
			return err
		}
		signed, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
		if err != nil || time.Since(signed) > taken(life) {
			return errors.New("the token is expired")
		}
		_, err = sts.AuthenticateRDS(password, net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)), user, "eu-central-1")
		return err
	})
	return c
}

// project returns a workspace whose target prod logs in at the server with tokens
// that a role's session signs.
func (c *cloud) project(t *testing.T, issuer *standin.Issuer, schema, sts string) (workspace string) {
	t.Helper()
	return setup.Project(t, issuer, strings.Replace(c.block(", user: dbt"), "schema: marts", "schema: "+schema, 1),
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, sts))
}

var expiration = regexp.MustCompile(`<Expiration>[^<]+</Expiration>`)

// shortSessions is in front of a token service and shortens its sessions to what
// the server accepts: AWS's own are valid for at least a quarter of an hour.
func shortSessions(t *testing.T, sts string, life time.Duration) (endpoint string) {
	t.Helper()
	u, err := url.Parse(sts)
	if err != nil {
		t.Fatal(err)
	}
	host, port := setup.Serve(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = expiration.ReplaceAll(body, []byte("<Expiration>"+time.Now().Add(life).UTC().Format(time.RFC3339)+"</Expiration>"))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	})
	return fmt.Sprintf("http://%s:%d", host, port)
}
