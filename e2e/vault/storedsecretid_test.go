//go:build e2e

package vault

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestStoredSecretID removes the stored login to a real OpenBao by the commands of the guide's section: the secret id of
// an AppRole, and a token.
func TestStoredSecretID(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "guides", "from-a-stored-key.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Vault and OpenBao\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		commands = append(commands, strings.Split(strings.TrimSpace(m[1]), "\n")...)
	}
	if len(commands) != 5 {
		t.Fatalf("the section has the commands %q, want 5", commands)
	}
	bao := setup.OpenBao(t)
	bao.Write(t, "sys/auth/approle", map[string]any{"type": "approle"})
	bao.Write(t, "auth/approle/role/dbt", map[string]any{"token_policies": []string{"default"}})
	ask := func(method, path string) map[string]string {
		t.Helper()
		reply, err := bao.Request(t.Context(), bao.Token, method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var data map[string]any
		if err := json.Unmarshal(reply.Data, &data); err != nil {
			t.Fatal(err)
		}
		texts := map[string]string{}
		for name, v := range data {
			texts[name], _ = v.(string)
		}
		return texts
	}
	role := ask(http.MethodGet, "auth/approle/role/dbt/role-id")["role_id"]
	stored := ask(http.MethodPost, "auth/approle/role/dbt/secret-id")
	login := func() (token string, err error) {
		reply, err := bao.Request(t.Context(), "", http.MethodPost, "auth/approle/login",
			map[string]string{"role_id": role, "secret_id": stored["secret_id"]})
		return reply.Auth.ClientToken, err
	}
	token, err := login()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := bao.Request(t.Context(), token, http.MethodGet, "auth/token/lookup-self", nil)
	if err != nil {
		t.Fatal(err)
	}
	var self struct{ Accessor string }
	if err := json.Unmarshal(reply.Data, &self); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // OpenBao has Vault's commands
	if err := os.Symlink(setup.Python(t).Program("bao"), filepath.Join(bin, "vault")); err != nil {
		t.Fatal(err)
	}
	run := func(command string) string {
		t.Helper()
		accessor := self.Accessor
		if strings.Contains(command, "secret-id-accessor") {
			accessor = stored["secret_id_accessor"]
		}
		cmd := exec.Command("bash", "-euc", strings.ReplaceAll(command, "ACCESSOR", accessor))
		cmd.Env = append(setup.Python(t).Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+bin,
			"VAULT_ADDR="+bao.URL, "BAO_ADDR="+bao.URL, "VAULT_TOKEN="+bao.Token, "BAO_TOKEN="+bao.Token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	for i, want := range []string{stored["secret_id_accessor"], self.Accessor} {
		if out := run(commands[i]); !strings.Contains(out, want) {
			t.Errorf("%s does not show the accessor:\n%s", commands[i], out)
		}
	}
	run(commands[2])
	if _, err := login(); err == nil {
		t.Error("the secret id still logs in")
	}
	run(commands[3])
	if _, err := bao.Request(t.Context(), token, http.MethodGet, "auth/token/lookup-self", nil); err == nil {
		t.Error("the token still works")
	}
	run(commands[4])
	if _, err := bao.Request(t.Context(), bao.Token, http.MethodGet, "auth/approle/role/dbt", nil); err == nil {
		t.Error("the role is still there")
	}
}
