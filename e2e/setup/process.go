package setup

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Start starts a server process and waits until its port answers. The process is
// stopped at the end of the test.
func Start(t testing.TB, port int, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = env
	StartCommand(t, cmd, func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// StartCommand starts a server process and waits until ready returns no error.
// The process is stopped at the end of the test; if the test fails, the end of
// its log is shown. It returns the log's path.
func StartCommand(t testing.TB, cmd *exec.Cmd, ready func() error) (path string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // PostgreSQL leaves shared memory behind when it is killed
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the log of %s ends:\n%s", cmd.Path, text[max(0, len(text)-10_000):])
		}
	})
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ready()
		if err == nil {
			return log.Name()
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended at once: %v", cmd.Path, err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not become ready: %v", cmd.Path, err)
		}
	}
}
