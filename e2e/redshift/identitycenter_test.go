//go:build e2e && linux && amd64

package redshift

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestIdentityCenter: dbt asks the broker at each login, and Redshift maps the
// ID token to a user of Identity Center.
func TestIdentityCenter(t *testing.T) {
	t.Parallel()
	w := start(t)
	people, err := standin.StartIdentityCenter(w.sts, standin.IdentityCenterConfig{
		Region: region, IssuerURL: w.issuer.URL(), Audiences: []string{"redshift.acme.example"}, Claim: "actor", Users: map[string]string{"octocat": "dbt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(people.Close)
	f := startFront(t, w.server, func(l login) (string, string, error) {
		user, ok := people.LogIn(t.Context(), l.token)
		if !ok || l.user != "" {
			return "", "", errors.New("authentication with Identity Center failed")
		}
		return user, w.server.Password, nil
	})
	python := setup.Python(t)
	show := func(audience string) (string, error) {
		workspace := setup.Project(t, w.issuer, f.block(""), fmt.Sprintf("{identity_center: {region: %s, audience: %s}}", region, audience))
		// This proxy does not exist: the broker must be asked without one.
		return setup.Exec(t, w.issuer, workspace, []string{"--audit-log", filepath.Join(t.TempDir(), "audit.jsonl")},
			"env", "SSL_CERT_FILE="+f.CA, "HTTP_PROXY=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1", python.Program("dbt"), "show", "--inline", "select current_user as who")
	}
	out, err := show("redshift.acme.example")
	if err != nil || !strings.Contains(out, "| dbt ") {
		t.Errorf("dbt show: %v\n%s", err, out)
	}
	f.checkLogins(t)
	setup.NoSecrets(t, w.issuer, "what exec and dbt print", out)

	const refused = "authentication with Identity Center failed"
	if out, err := show("other.acme.example"); err == nil || !strings.Contains(out, refused) {
		t.Errorf("another audience: %v\n%s", err, out)
	}
	claims := standin.GitHubClaims()
	claims["actor"] = "mallory"
	w.issuer.SetClaims(claims)
	if out, err := show("redshift.acme.example"); err == nil || !strings.Contains(out, refused) {
		t.Errorf("a user that is not there: %v\n%s", err, out)
	}
}
