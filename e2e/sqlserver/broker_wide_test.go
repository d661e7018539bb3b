//go:build e2e && wide

package sqlserver

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestLoginsWithoutTheBroker is the same with a step's static token.
func TestLoginsWithoutTheBroker(t *testing.T) {
	for _, adapter := range []string{"sqlserver", "fabric"} {
		t.Run(adapter, func(t *testing.T) {
			f, _, issuer, workspace, used := tenant(t, adapter, 0, elsewhere)
			env, _ := setup.Authenticate(t, issuer, workspace)
			python := setup.Python(t)
			cmd := exec.CommandContext(t.Context(), python.Program("python"), "logins.py")
			cmd.Dir, cmd.Env = workspace, python.Environ()
			for name, value := range env {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
			text, err := cmd.CombinedOutput()
			out := string(text)
			if err != nil || used() > 1 || len(f.refused) < 3 || !strings.Contains(out, string(errRefused)) {
				t.Errorf("%v, %d logins with %d tokens, refused %q\n%s", err, f.logins, used(), f.refused, out)
			}
		})
	}
}

// TestTokenFile: with a target that has no dbt block, azure-identity reads the ID
// token from the file. Each new credential object reads the current token; one
// that is kept reads it again only after ten minutes, when its token has expired.
func TestTokenFile(t *testing.T) {
	_, tokens, issuer, workspace, _ := tenant(t, "fabric", standin.Grace, elsewhere)
	setup.Write(t, workspace, ".github/oidc-dbt.yml", strings.Replace(
		setup.Policy(issuer, "{}", fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, scope: %s/.default}}", application, resource)), "    dbt: {}\n", "", 1))
	l := publicAuthority(t, tokens)
	t.Setenv("HTTPS_PROXY", l.proxy)
	t.Setenv("REQUESTS_CA_BUNDLE", l.ca)
	// A login of the job, which azure-identity would prefer.
	t.Setenv("AZURE_TENANT_ID", "stale")
	t.Setenv("AZURE_CLIENT_ID", "stale")
	t.Setenv("AZURE_CLIENT_SECRET", "stale")
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "dev")
	setup.Write(t, workspace, "tokens.py", `import os, time
from azure.identity import DefaultAzureCredential
kept = DefaultAzureCredential()
for _ in range(8): # longer than the ID token is taken
    print("new", len(DefaultAzureCredential().get_token("`+resource+`/.default").token) > 0)
    try:
        print("kept", len(kept.get_token("`+resource+`/.default").token) > 0)
    except Exception as e:
        print("kept", "AADSTS700024" in str(e) and "dead")
    time.sleep(2.5)
print(oct(os.stat(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).st_mode & 0o777))
`)
	out, err := setup.Exec(t, issuer, workspace, nil, "python", "tokens.py")
	if err != nil || strings.Count(out, "new True\n") != 8 || !strings.Contains(out, "kept True\n") || !strings.Contains(out, "kept dead\n") || !strings.Contains(out, "\n0o600\n") {
		t.Errorf("%v; Entra ID was asked for %q\n%s", err, l.asked, out)
	}
	setup.NoSecrets(t, issuer, "the output", out)
}
