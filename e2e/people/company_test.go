//go:build e2e && linux && amd64

package people

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A company has a Keycloak, which the commands of the page have set up, and a browser for everyone.
type company struct {
	realm    setup.Realm
	debian   string // the folder of Debian's packages
	library  string // the variable of their libraries
	chromium context.Context
}

// Clients of the realm, next to that of the page.
const (
	usual   = "dbt-cli"
	asks    = "dbt-asks"  // has people agree
	hurries = "dbt-hurry" // has device codes that live for a few seconds
)

// found starts a company.
func found(t *testing.T) *company {
	t.Helper()
	c := &company{}
	packages := []string{"gnome-keyring", "dbus-bin", "dbus-daemon", "xdg-utils"}
	chrome, err := exec.LookPath("google-chrome") // GitHub's runners have it: Ubuntu's Chromium is no package
	if err != nil {
		packages = append(packages, "chromium")
	}
	if c.debian, c.library = setup.Debian(t, packages...); err != nil {
		chrome = c.program("usr", "lib", "chromium", "chromium")
	}
	realm, admin := setup.EmptyKeycloak(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", block(t, "sh", "kcadm.sh create clients"))
	script.Env = admin
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.realm = realm
	c.realm.Administer(t, http.MethodPost, "partialImport", c.people(t), nil)
	c.chromium = c.open(t, chrome)
	return c
}

const password = "correct-horse-battery"

// people is what is imported: groups, people, and more clients.
func (c *company) people(t *testing.T) map[string]any {
	t.Helper()
	client := map[string]any{}
	_, text, _ := strings.Cut(block(t, "sh", "kcadm.sh create clients"), "<<'JSON'\n")
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&client); err != nil {
		t.Fatal(err)
	}
	with := func(id string, change, attributes map[string]any) map[string]any {
		another, all := maps.Clone(client), maps.Clone(client["attributes"].(map[string]any))
		maps.Copy(another, change)
		maps.Copy(all, attributes)
		another["clientId"], another["attributes"] = id, all
		return another
	}
	group := func(name string) map[string]any { return map[string]any{"name": name, "path": "/" + name} }
	groups := []map[string]any{group("analysts"), group("interns")}
	var many []string // more than one entry of a keyring holds
	for i := range 200 {
		name := fmt.Sprintf("team-%03d-of-the-company", i)
		groups, many = append(groups, group(name)), append(many, "/"+name)
	}
	person := func(name string, groups ...string) map[string]any {
		return map[string]any{
			"username": name, "enabled": true, "emailVerified": true, "email": name + "@acme.example", "firstName": name, "lastName": "Doe",
			"credentials": []map[string]any{{"type": "password", "value": password}}, "groups": groups, "realmRoles": []string{"default-roles-acme"},
		}
	}
	return map[string]any{
		"ifResourceExists": "FAIL", "groups": groups,
		"clients": []any{
			with(asks, map[string]any{"consentRequired": true}, nil),
			with(hurries, nil, map[string]any{"oauth2.device.code.lifespan": "4", "oauth2.device.polling.interval": "2"}),
		},
		"users": []any{person("ann", "/analysts"), person("eve"), person("joe", "/interns"), person("max", append(many, "/analysts")...)},
	}
}

// program returns one of Debian's programs.
func (c *company) program(path ...string) string {
	return filepath.Join(append([]string{c.debian}, path...)...)
}
