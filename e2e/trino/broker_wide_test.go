//go:build e2e && wide

package trino

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const idTokens = "{oidc: {audience: " + audience + "}}"

// lost makes the job's next tokens say staging: they are verified and authorised
// like the first one, and dbt fails with the reason soon after the last valid
// token.
func (as login) lost(t *testing.T, issuer *standin.Issuer) {
	workspace := as.slowProject(t, issuer, "lost", idTokens, 1)
	cmd := setup.ExecCommand(t.Context(), t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build", "--select", "slow", "slower")
	out := &watched{words: "START sql table model lost.slow ", seen: sync.OnceValue(func() time.Time {
		claims := standin.GitHubClaims()
		claims["environment"], claims["sub"] = "staging", "repo:acme/analytics:environment:staging"
		issuer.SetClaims(claims)
		return time.Now()
	})}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	ended := time.Now()
	const words = `error 500: b'oidc-dbt: denied by policy: no rule of target "prod" matches "repo:acme/analytics:environment:staging"`
	if took := ended.Sub(out.seen()); err == nil || !strings.Contains(out.text.String(), words) || took > tokenLife+5*time.Minute {
		t.Errorf("dbt build ended with %v, %v after the identity had gone:\n%s", err, took, out.text.String())
	}
}

// watched keeps what is written, and calls seen each time the words appear.
type watched struct {
	words string
	seen  func() time.Time
	text  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if bytes.Contains(w.text.Bytes(), []byte(w.words)) {
		w.seen()
	}
	return n, err
}

// TestBroker runs several times longer than its token is valid. It has a server
// of its own, since the issuer's tokens expire soon.
func TestBroker(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	as := login{start(t, issuer), user, func() string { return issuer.Sign(audience, nil) }}
	as.slowTable(t)
	issuer.SetLife(tokenLife)
	t.Run("at once", func(t *testing.T) {
		t.Run("with the broker", func(t *testing.T) {
			t.Parallel()
			as.outlive(t, issuer, "oidc", idTokens, 1)
		})
		t.Run("without", func(t *testing.T) {
			t.Parallel()
			as.without(t, issuer, idTokens)
		})
	})
	t.Run("an identity that is lost", func(t *testing.T) { as.lost(t, issuer) })
}
