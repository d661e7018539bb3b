package setup

import (
	"encoding/base64"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// An AzuriteServer is Azurite, Microsoft's emulator of Azure Blob Storage, on
// loopback. It has one account, without containers, and keeps blobs in memory.
// Of an access token it checks times, audience and the start of the issuer, but
// neither the signature nor what the application may do.
type AzuriteServer struct {
	URL  string // https://ACCOUNT.localhost:PORT
	Port int
	CA   string // the path of its authority's certificate
}

// Azurite starts Azurite with an account.
func Azurite(t testing.TB, account string) AzuriteServer {
	t.Helper()
	ca, key := Certificate(t, account+".localhost")
	port := startAzurite(t, account, "--cert", key, "--key", key)
	return AzuriteServer{URL: fmt.Sprintf("https://%s.localhost:%d", account, port), Port: port, CA: ca}
}

// AzuriteWithoutTLS starts an Azurite that also wants access tokens, but speaks
// HTTP only.
func AzuriteWithoutTLS(t testing.TB, account string) AzuriteServer {
	t.Helper()
	port := startAzurite(t, account)
	return AzuriteServer{URL: fmt.Sprintf("http://%s.localhost:%d", account, port), Port: port}
}

func startAzurite(t testing.TB, account string, more ...string) (port int) {
	t.Helper()
	program, port := filepath.Join(NPM(t, "e2e/setup/azurite"), ".bin", "azurite-blob"), Port(t)
	cmd := exec.Command(program, append([]string{
		"--blobHost", "127.0.0.1", "--blobPort", fmt.Sprint(port), "--oauth", "basic", "--inMemoryPersistence",
		"--disableTelemetry",
	}, more...)...)
	cmd.Dir = t.TempDir()
	key := base64.StdEncoding.EncodeToString([]byte("unused account key"))
	cmd.Env = append(cmd.Environ(), "AZURITE_ACCOUNTS="+account+":"+key)
	StartCommand(t, cmd, func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return port
}
