package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A Realm is a realm of Keycloak on loopback: a company's authorization server
// that trusts the CI system's issuer. Its client dbt-prod authenticates with the
// ID token, and its user transformer is linked to the token's subject; both are
// Subject.
type Realm struct {
	URL      string // the realm's issuer, and the audience that it wants
	TokenURL string
	JWKS     string
}

// Keycloak starts a Keycloak with one realm, which issues access tokens for audience.
func Keycloak(t testing.TB, issuer *standin.Issuer, audience string) Realm {
	t.Helper()
	realm, err := os.ReadFile(filepath.Join(Repository(t), "e2e", "setup", "keycloak", "realm.json"))
	if err != nil {
		t.Fatal(err)
	}
	started, _ := startKeycloak(t, strings.NewReplacer("$ISSUER", issuer.URL(), "$SUBJECT", Subject, "$AUDIENCE",
		audience).Replace(string(realm)))
	return started
}

// EmptyKeycloak starts a Keycloak with a realm that has no clients of its own.
// env are the variables of a process with Keycloak's kcadm.sh on its path, which
// is logged in as the administrator.
func EmptyKeycloak(t testing.TB) (realm Realm, env []string) {
	t.Helper()
	realm, dist := startKeycloak(t, `{"realm": "acme", "enabled": true, "sslRequired": "none", "eventsEnabled": true}`)
	home := t.TempDir() // of the login's file, which other tests' would replace; Java does not look at HOME
	env = append(os.Environ(), "HOME="+home, "JAVA="+Java(t), "KC_OPTS=-Duser.home="+home+" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
		"PATH="+filepath.Join(dist, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	server, _, _ := strings.Cut(realm.URL, "/realms/")
	login := exec.Command(filepath.Join(dist, "bin", "kcadm.sh"), "config", "credentials", "--server", server, "--realm", "master",
		"--user", keycloakAdmin, "--password", keycloakAdmin)
	login.Env = env
	run(t, login)
	return realm, env
}

// Administer sends a request to a path of the realm's admin API as the administrator; it must succeed. It starts no
// Java, as kcadm.sh does. reply may be nil.
func (r Realm) Administer(t testing.TB, method, path string, body, reply any) {
	t.Helper()
	server, _, _ := strings.Cut(r.URL, "/realms/")
	resp, err := http.PostForm(server+"/realms/master/protocol/openid-connect/token", url.Values{
		"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {keycloakAdmin}, "password": {keycloakAdmin},
	})
	var login struct {
		Token string `json:"access_token"`
	}
	decode(t, resp, err, &login)
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	api := strings.Replace(r.URL, "/realms/", "/admin/realms/", 1)
	req, err := http.NewRequestWithContext(t.Context(), method, api+"/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+login.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err = http.DefaultClient.Do(req)
	decode(t, resp, err, reply)
}

// decode reads a reply of Keycloak, which must not be a refusal.
func decode(t testing.TB, resp *http.Response, err error, reply any) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = errors.New(resp.Status)
	}
	if err == nil && reply != nil {
		err = json.Unmarshal(text, reply)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", resp.Request.URL, err, text)
	}
}

const keycloakAdmin = "admin" // its name and its password

// startKeycloak starts a Keycloak with the realm acme, and returns where it is installed.
func startKeycloak(t testing.TB, realm string) (started Realm, dist string) {
	t.Helper()
	const database = "--db=dev-mem"
	dist = Maven(t, "org.keycloak:keycloak-quarkus-dist:26.7.3",
		"77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47", func(dir string) {
			run(t, keycloak(t, dir, "build", database, "--features=jwt-authorization-grant,client-auth-federated")) // takes longer than the start
		})
	// The server writes into its home, which must therefore not be in the cache.
	home := t.TempDir()
	for _, name := range []string{"lib", "conf", "providers", "themes"} {
		if err := os.Symlink(filepath.Join(dist, name), filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	Write(t, home, "data/import/realm.json", realm)

	port := Port(t)
	at := fmt.Sprintf("http://127.0.0.1:%d/realms/acme", port)
	cmd := keycloak(t, home, "start", "--optimized", "--http-enabled=true", "--hostname-strict=false",
		"--http-host=127.0.0.1", fmt.Sprintf("--http-port=%d", port),
		fmt.Sprintf("--http-management-port=%d", Port(t)), "--cache=local", "--import-realm")
	cmd.Env = append(os.Environ(), "KC_BOOTSTRAP_ADMIN_USERNAME="+keycloakAdmin, "KC_BOOTSTRAP_ADMIN_PASSWORD="+keycloakAdmin)
	StartCommand(t, cmd, func() error {
		resp, err := http.Get(at + "/.well-known/openid-configuration")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the realm's discovery document: %s", resp.Status)
		}
		return nil
	})
	return Realm{URL: at, TokenURL: at + "/protocol/openid-connect/token", JWKS: at + "/protocol/openid-connect/certs"}, dist
}

// keycloak returns a command of Keycloak in a home directory. If its own script
// were killed, the server would go on running.
func keycloak(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command(Java(t), append([]string{
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dkc.home.dir=" + home,
		"-Djboss.server.config.dir=" + filepath.Join(home, "conf"),
		"-Djava.util.logging.manager=org.jboss.logmanager.LogManager", "-Dpicocli.disable.closures=true",
		"-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
		"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
		"--add-opens=java.base/java.security=ALL-UNNAMED",
		"--add-opens=java.base/java.lang=ALL-UNNAMED", "--enable-native-access=ALL-UNNAMED",
		"-cp", filepath.Join(home, "lib", "quarkus-run.jar"), "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
	}, args...)...)
}
