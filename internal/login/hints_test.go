package login_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestHints: what a person is told to do about the usual mistakes of a first sign-in.
func TestHints(t *testing.T) {
	t.Parallel()
	const redirect = "if the browser shows an error of the provider, compare the client's id and its redirect address, " +
		"http://127.0.0.1/callback with any port; on a machine without a browser: oidc-dbt login --device"
	for _, tt := range []struct {
		name   string
		client string
		path   string // after the issuer's address
		device bool
		hint   string
	}{
		{"a client that the provider does not know", "dbt-clj", "", true,
			"client_id must name a client of the provider that is public (no secret) and may use this flow: see " + login.ClientPage},
		{"a page that shows the provider's error", client, "", false, redirect},
		{"an issuer of the provider's that is none", client, "/realms/acme", false,
			"check the policy's issuer: a browser must show the provider's settings at $IDP/realms/acme/.well-known/openid-configuration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, nil)
			env := d.env()
			env.Open = nil
			a := login.New(env, policy.Identity{Name: "engineers", Issuer: d.idp.URL() + tt.path, Kind: "people", ClientID: tt.client, Audience: tt.client})
			patience := 5 * time.Minute
			if tt.hint == redirect {
				patience = 10 * time.Second // nobody ever comes back from that page
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := a.SignIn(ctx, d.verifier(), tt.device, login.File)
			if hint := strings.ReplaceAll(fault.Hint(err), d.idp.URL(), "$IDP"); hint != tt.hint {
				t.Errorf("error is %v, hint %q, want %q", err, hint, tt.hint)
			}
			const none = "no browser could be opened: open the address above in one of this machine, " +
				"or press Ctrl-C and sign in with another machine's: oidc-dbt login --device"
			if said := slices.Contains(d.said, none); said != (tt.hint == redirect) {
				t.Errorf("said %q", d.said)
			}
		})
	}
}
