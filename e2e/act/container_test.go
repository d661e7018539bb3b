//go:build e2e && linux && amd64

package act

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// emptyImage is the image of container.yml. It is empty: this machine's programs are
// mounted into it.
const emptyImage = "oidc-dbt-e2e"

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

// TestKeepFreshInAContainer is TestKeepFresh in a container job: the background
// process and the steps that use it run in the container.
func TestKeepFreshInAContainer(t *testing.T) {
	client, host := docker(t)
	r := newRunner(t, 4*time.Second, standin.Grace)
	dockerfile := "FROM scratch\n"
	for _, kv := range r.env {
		if name, value, _ := strings.Cut(kv, "="); slices.Contains([]string{"PATH", "HOME", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB"}, name) {
			dockerfile += fmt.Sprintf("ENV %s=%q\n", name, value)
		}
	}
	build := exec.Command(client, "--host", host, "build", "--quiet", "--tag", emptyImage, "-")
	build.Stdin = strings.NewReader(dockerfile)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	r.env = append(r.env, "DOCKER_HOST="+host)
	r.args = []string{"--bind", "--container-daemon-socket", "-", "--container-options", fmt.Sprintf("--user %d:%d", os.Getuid(), os.Getgid())}
	log, err := r.run("container.yml", "KEEP_FRESH=true")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "Catalog written to", "Job succeeded")
	for line, n := range map[string]int{"PASS=6 WARN=0 ERROR=0": 3, "oidc-dbt keep-fresh ": 2, "✅  Success - Post ./": 2, "clean up: ": 0} {
		if got := strings.Count(log, line); got != n {
			t.Errorf("act printed %q %d times, want %d:\n%s", line, got, n, log)
		}
	}
	for _, m := range regexp.MustCompile(`oidc-dbt keep-fresh (/\S+)`).FindAllStringSubmatch(log, -1) {
		if _, err := os.Stat(m[1]); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", m[1], err)
		}
	}
	if n := r.store.Refused(); n > 0 {
		t.Errorf("the store refused %d requests", n)
	}
}
