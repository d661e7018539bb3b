//go:build e2e && linux && amd64

package act

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// docker returns the address of a Docker daemon: the machine's, or one that is
// started for the test.
func docker(t *testing.T) (client, host string) {
	t.Helper()
	if path, err := exec.LookPath("docker"); err == nil && exec.Command(path, "version").Run() == nil {
		if host = os.Getenv("DOCKER_HOST"); host == "" {
			host = "unix:///var/run/docker.sock"
		}
		return path, host
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"apt-get", "download", "docker.io", "containerd", "runc"}, {"sh", "-c", "for f in *.deb; do dpkg -x $f . && rm $f; done"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	// Not below /tmp, which is mounted into the container: it would contain itself.
	run, err := os.MkdirTemp("/var/tmp", "docker-*")
	if err != nil {
		t.Fatal(err)
	}
	host = "unix://" + filepath.Join(run, "socket")
	client = filepath.Join(dir, "usr/bin/docker")
	path := "PATH=" + filepath.Join(dir, "usr/bin") + ":" + filepath.Join(dir, "usr/sbin") + ":" + os.Getenv("PATH")
	daemon := exec.Command(filepath.Join(dir, "usr/sbin/dockerd"), "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
		"--data-root="+filepath.Join(run, "data"), "--exec-root="+filepath.Join(run, "exec"), "--pidfile="+filepath.Join(run, "pid"), "--host="+host)
	daemon.Env = append(os.Environ(), path)
	t.Cleanup(func() { // runs after the daemon has ended
		_ = syscall.Unmount(filepath.Join(run, "exec/netns/default"), 0) // left by the daemon
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
	})
	setup.StartCommand(t, daemon, func() error { return exec.Command(client, "--host", host, "version").Run() })
	return client, host
}
