//go:build e2e && wide

package athena

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestTokenServiceGoesDown: a query that would run for ever fails when the last
// session expires, and boto3 says why.
func TestTokenServiceGoesDown(t *testing.T) {
	t.Parallel()
	issuer, python := setup.Issuer(t), setup.Python(t)
	sts := setup.STSOf(t, issuer, life)
	down := sync.OnceFunc(sts.Close)
	_, front, _ := start(t, sts, func(*guard) bool {
		down()
		return true
	})
	workspace := project(t, issuer, sts, front, 1)
	command := []string{"env", fmt.Sprintf("AWS_ENDPOINT_URL=http://127.0.0.1:%d", front), python.Program("dbt"), "--no-use-colors", "show", "--inline", "select 1 as one"}
	out, err := setup.Exec(t, issuer, workspace, nil, command...)
	for _, want := range []string{"Received non 200 response 503 from container metadata", "oidc-dbt: exchange ID token with", "oidc-dbt: warning: renew the credential: "} {
		if err == nil || !strings.Contains(out, want) {
			t.Fatalf("dbt show: %v, want %q\n%s", err, want, out)
		}
	}
}
