package setup

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CollectorProgram builds OpenTelemetry's own collector, which is a module of its own, and returns its path.
func CollectorProgram(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "otelcol")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Dir = filepath.Join(Repository(t), "e2e", "collector", "otelcol")
	run(t, build)
	return path
}

// Collector starts a collector with the configuration of docs/audit.md. Keys of its
// receiver's `tls` may be added. The file is where it writes requests to.
func Collector(t testing.TB, program, certificate, more string) (endpoint, file string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(Repository(t), "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, config, found := strings.Cut(string(page), "```yaml\nreceivers:\n")
	config, _, _ = strings.Cut(config, "```")
	if !found {
		t.Fatal("docs/audit.md has no collector's configuration")
	}
	file = filepath.Join(t.TempDir(), "records.json")
	address := fmt.Sprintf("127.0.0.1:%d", Port(t))
	for old, text := range map[string]string{
		"0.0.0.0:4318": address, "/var/log/oidc-dbt/records.json": file,
		"/etc/otelcol/server.pem": certificate, "/etc/otelcol/server.key}": certificate + more + "}", // one file has both
	} {
		if strings.Count(config, old) != 1 {
			t.Fatalf("docs/audit.md: the collector's configuration does not have %s once:\n%s", old, config)
		}
		config = strings.Replace(config, old, text, 1)
	}
	path := Write(t, t.TempDir(), "otelcol.yml", "receivers:\n"+config)
	StartCommand(t, exec.Command(program, path), func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return "https://" + address, file
}
