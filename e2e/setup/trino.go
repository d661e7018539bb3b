package setup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A TrinoConfig says whose tokens a Trino server accepts.
type TrinoConfig struct {
	Issuer   string // the tokens' iss
	JWKS     string // the URL of the issuer's keys
	Audience string
	Claim    string // the name of the claim with the principal, such as sub
	// UserPattern is a regular expression for the principal. Its first group is
	// Trino's user.
	UserPattern string
	// Trust is what `trust generate` wrote: etc/config.properties, in the place of
	// all the above, if it is there, and other files by their paths below the server's folder.
	Trust map[string]string
	// Iceberg has the server a catalog iceberg, whose tables and metadata are files.
	Iceberg bool
	// Events is the address that the HTTP event listener posts to, "" for none.
	Events string
}

// A TrinoServer is Trino on loopback, over TLS, with the catalogs blackhole, memory and tpch.
type TrinoServer struct {
	Host string
	Port int
	CA   string // the PEM file of the server's certificate authority

	client *http.Client
}

// Trino starts a Trino server. token returns valid tokens of the user, for the
// check that it is ready.
func Trino(t testing.TB, config TrinoConfig, user string, token func() string) *TrinoServer {
	t.Helper()
	const archive = "trino-server-476"
	home := Maven(t, "io.trino:trino-server:476", "cfd5accde17e8ebd251eeeb78aed1f490e77bb3a164d95a0f454bf8a7c1cbd3f", nil,
		archive+"/lib", archive+"/plugin/blackhole", archive+"/plugin/http-event-listener", archive+"/plugin/memory",
		archive+"/plugin/tpch")
	dir := t.TempDir()
	s := &TrinoServer{Host: "127.0.0.1", Port: Port(t)}
	ca, certificate := Certificate(t)
	s.CA = ca
	s.client = trusting(t, ca)
	properties := map[string]string{
		"http-server.http.port":                               fmt.Sprint(Port(t)), // only for the server itself: it accepts no tokens there
		"http-server.https.enabled":                           "true",
		"http-server.https.port":                              fmt.Sprint(s.Port),
		"http-server.https.keystore.path":                     certificate,
		"internal-communication.shared-secret":                rand.Text(),
		"http-server.authentication.type":                     "JWT",
		"http-server.authentication.jwt.key-file":             config.JWKS,
		"http-server.authentication.jwt.required-issuer":      config.Issuer,
		"http-server.authentication.jwt.required-audience":    config.Audience,
		"http-server.authentication.jwt.principal-field":      config.Claim,
		"http-server.authentication.jwt.user-mapping.pattern": strings.ReplaceAll(config.UserPattern, `\`, `\\`),
		"catalog.config-dir":                                  filepath.Join(dir, "catalog"),
		"plugin.dir":                                          config.plugins(t, dir, home),
		"node.environment":                                    "test",
		"node.id":                                             "trino",
		"node.bind-ip":                                        s.Host,
		"node.internal-address":                               s.Host,
		"node-scheduler.include-coordinator":                  "true",
	}
	cmd := exec.Command(Java(t), "-Xmx1G", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Djdk.attach.allowAttachSelf=true", "-XX:+EnableDynamicAgentLoading",
		"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
		"-Dconfig="+config.write(t, dir, properties),
		"-cp", filepath.Join(home, "lib", "*"), "io.trino.server.TrinoServer")
	cmd.Dir = dir
	// A server that has reported its start may still have no node for a query.
	StartCommand(t, cmd, func() error {
		_, err := s.Query(t.Context(), user, token(), "select count(*) from tpch.tiny.nation")
		return err
	})
	return s
}

// plugins returns the folder of the server's plugins.
func (config TrinoConfig) plugins(t testing.TB, dir, home string) string {
	t.Helper()
	there := filepath.Join(home, "plugin")
	if !config.Iceberg {
		return there
	}
	const name = "trino-iceberg-476"
	further := Cached(t, name, func(dir string) {
		archive := download(t, "io.trino:trino-iceberg:476", "zip", "99edba5b491ed94d599aeb61e0794272d3569d8b563f3bb8569e8a49daa87b6c")
		run(t, exec.Command(Python(t).Program("python"), "-m", "zipfile", "-e", archive, dir))
	})
	plugins := filepath.Join(dir, "plugins")
	entries, err := os.ReadDir(there)
	if err == nil {
		err = os.Mkdir(plugins, 0o755)
	}
	for _, entry := range entries {
		err = errors.Join(err, os.Symlink(filepath.Join(there, entry.Name()), filepath.Join(plugins, entry.Name())))
	}
	if err = errors.Join(err, os.Symlink(filepath.Join(further, name), filepath.Join(plugins, "iceberg"))); err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(dir, "files")
	Write(t, dir, "files/none", "")
	Write(t, dir, "catalog/iceberg.properties", "connector.name=iceberg\niceberg.catalog.type=TESTING_FILE_METASTORE\n"+
		"hive.metastore.catalog.dir=local:///\nfs.native-local.enabled=true\nlocal.location="+files+"\n")
	return plugins
}

// write writes the server's files into its folder, and returns the path of its configuration.
func (config TrinoConfig) write(t testing.TB, dir string, properties map[string]string) (path string) {
	t.Helper()
	if config.Events != "" {
		properties["event-listener.config-files"] = Write(t, dir, "listener.properties", "event-listener.name=http\n"+
			"http-event-listener.log-created=true\nhttp-event-listener.log-completed=true\n"+
			"http-event-listener.connect-ingest-uri="+config.Events+"\n")
	}
	var text strings.Builder
	for name, value := range properties {
		if config.Trust["etc/config.properties"] != "" && strings.HasPrefix(name, "http-server.authentication.") {
			continue
		}
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	for name, file := range config.Trust {
		if Write(t, dir, name, file); name == "etc/config.properties" {
			text.WriteString(file)
		}
	}
	Write(t, dir, "catalog/blackhole.properties", "connector.name=blackhole\n")
	Write(t, dir, "catalog/memory.properties", "connector.name=memory\n")
	Write(t, dir, "catalog/tpch.properties", "connector.name=tpch\n")
	return Write(t, dir, "config.properties", text.String())
}

// trusting returns a client that trusts one certificate authority.
func trusting(t testing.TB, ca string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: time.Minute}
}

// Query runs a query as a user with a token and returns its rows.
// https://trino.io/docs/current/develop/client-protocol.html
func (s *TrinoServer) Query(ctx context.Context, user, token, sql string) (rows [][]any, err error) {
	method, url := http.MethodPost, fmt.Sprintf("https://%s:%d/v1/statement", s.Host, s.Port)
	for url != "" {
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(sql)))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Trino-User", user)
		resp, err := s.client.Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", resp.Status, text)
		}
		var page struct {
			NextURI string  `json:"nextUri"`
			Data    [][]any `json:"data"`
			Error   *struct {
				Name    string `json:"errorName"`
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, err
		}
		if page.Error != nil {
			return nil, errors.New(page.Error.Name + ": " + page.Error.Message)
		}
		rows = append(rows, page.Data...)
		method, url, sql = http.MethodGet, page.NextURI, ""
	}
	return rows, nil
}
