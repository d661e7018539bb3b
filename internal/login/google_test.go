package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// atGoogle is a person whose provider behaves as Google does.
func atGoogle(t *testing.T) *desk {
	t.Helper()
	d := sit(t, func(c *standin.PeopleConfig) {
		c.Google, c.Interval = "GOCSPX-0123456789", 1
		c.Claims = map[string]any{"sub": "110169484474386276334", "hd": "acme.example", "email": "ann@acme.example", "email_verified": true}
	})
	d.secret, d.scopes = "GOCSPX-0123456789", nil
	return d
}

const annAtGoogle = "110169484474386276334"

func TestGoogle(t *testing.T) {
	t.Parallel()
	t.Run("browser", func(t *testing.T) {
		t.Parallel()
		d := atGoogle(t)
		d.signIn(false, login.File, annAtGoogle)
		for round := range 2 { // a second sign-in gets a refresh token, too
			d.later(31 * time.Minute)
			d.token(annAtGoogle)
			if n := d.idp.Refreshes(); n != round+1 {
				t.Errorf("%d refreshes, want %d", n, round+1)
			}
			d.signIn(false, login.File, annAtGoogle)
		}
		if _, revoked, err := d.account().SignOut(t.Context()); !revoked || err != nil {
			t.Errorf("revoked %v, %v", revoked, err)
		}
	})
	t.Run("device", func(t *testing.T) {
		t.Parallel()
		d := atGoogle(t)
		d.waited = func(n int) {
			if n == 2 {
				d.idp.Decide(true)
			}
		}
		d.signIn(true, login.File, annAtGoogle)
		d.later(31 * time.Minute)
		d.token(annAtGoogle)
		if said := strings.Join(d.said, "\n"); !strings.Contains(said, "open "+d.idp.URL()+"/device and enter the code ") {
			t.Errorf("the terminal shows\n%s", said)
		}
	})
	for _, tt := range []struct {
		name   string
		device bool
		change func(d *desk)
		want   string
	}{
		{"device, denied", true, func(d *desk) { d.waited = func(int) { d.idp.Decide(false) } },
			`no_identity: sign in: refused: "access_denied": "Forbidden"`},
		{"device, a scope that devices may not have", true, func(d *desk) { d.scopes = []string{"groups"} },
			`no_identity: sign in: refused: "invalid_scope": "Invalid device flow scope: groups"`},
		{"another secret", false, func(d *desk) { d.secret = "GOCSPX-of-another-client" },
			`no_identity: sign in: refused: "invalid_client": "The provided client secret is invalid."`},
		{"without a secret", false, func(d *desk) { d.secret = "" }, // as at any other provider
			`no_identity: sign in: refused: "invalid_request": "client_secret is missing."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := atGoogle(t)
			tt.change(d)
			d.signIn(tt.device, login.File, tt.want)
		})
	}
}

// TestDeviceAnswers: every answer to one who polls ends the sign-in, but those
// that say to ask again, with any status. (RFC 8628, 3.5)
func TestDeviceAnswers(t *testing.T) {
	t.Parallel()
	const refused = "no_identity: sign in: refused: "
	for _, tt := range []struct {
		name   string
		status int
		body   string
		polls  int
		want   string
	}{
		{"pending", 400, `{"error":"authorization_pending"}`, 2, "ann"},
		{"pending, at Google", 428, `{"error":"authorization_pending"}`, 2, "ann"},
		{"slow down, as a busy server's", 429, `{"error":"slow_down"}`, 2, "ann"},
		{"busy", 503, ``, 2, "ann"},
		{"denied", 400, `{"error":"access_denied"}`, 1, refused + `"access_denied"`},
		{"denied, at Google", 403, `{"error":"access_denied"}`, 1, refused + `"access_denied"`},
		{"denied, with a status of the server's own", 500, `{"error":"access_denied"}`, 1, refused + `"access_denied"`},
		{"expired", 400, `{"error":"expired_token"}`, 1, "no_identity: sign in: the code has expired before it was used"},
		{"invalid_grant", 400, `{"error":"invalid_grant","error_description":"Device code not valid"}`, 1,
			refused + `"invalid_grant": "Device code not valid"`},
		{"invalid_client", 401, `{"error":"invalid_client"}`, 1, refused + `"invalid_client"`},
		{"unauthorized_client", 400, `{"error":"unauthorized_client"}`, 1, refused + `"unauthorized_client"`},
		{"unsupported_grant_type", 400, `{"error":"unsupported_grant_type"}`, 1, refused + `"unsupported_grant_type"`},
		{"invalid_request", 400, `{"error":"invalid_request"}`, 1, refused + `"invalid_request"`},
		{"invalid_scope", 400, `{"error":"invalid_scope"}`, 1, refused + `"invalid_scope"`},
		{"an answer that no standard has", 400, `{"error":"authorization_declined"}`, 1, refused + `"authorization_declined"`},
		{"no answer of OAuth's", 404, `<html>`, 1, "internal: status is 404, want 200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, func(c *standin.PeopleConfig) { c.Interval, c.Approves = 1, true })
			d.transport = &instead{path: "/token", status: tt.status, body: tt.body, first: true}
			d.signIn(true, login.File, tt.want)
			if len(d.waits) != tt.polls {
				t.Errorf("%d polls, want %d", len(d.waits), tt.polls)
			}
		})
	}
}
