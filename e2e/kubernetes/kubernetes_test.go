//go:build e2e && linux

// Package kubernetes holds docs/kubernetes.md to Kubernetes' own checks, and runs the containers of its Job as the
// processes that containers are: namespaces, roots and mounts of their own, one uid, and a real dbt.
package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// manifests returns every manifest of a page.
func manifests(t *testing.T, page string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(block[1], "apiVersion: ") {
			list = append(list, block[1])
		}
	}
	return list
}

// apiserver builds the checks of Kubernetes' API server, which are a module of their own.
func apiserver(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(setup.Repository(t), "e2e", "kubernetes", "apiserver")
	path := filepath.Join(t.TempDir(), "apiserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Dir = folder
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build Kubernetes' checks: %v\n%s", err, out)
	}
	return path
}

// TestManifests: the API server would accept every manifest of the pages, and refuses what a typing error or a missing
// restriction makes of them.
func TestManifests(t *testing.T) {
	t.Parallel()
	program := apiserver(t)
	check := func(manifest string) (out string, err error) {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Stdin = strings.NewReader(manifest)
		text, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(text)), err
	}
	var kinds []string
	for _, page := range []string{"kubernetes.md", "other-ci.md"} {
		for _, m := range manifests(t, page) {
			kind, err := check(m)
			if err != nil {
				t.Errorf("%s: %s", page, kind)
			}
			kinds = append(kinds, kind)
		}
	}
	if got, want := strings.Join(kinds, " "), "ServiceAccount ConfigMap CronJob Job CronJob"; got != want {
		t.Errorf("the manifests are %q, want %q", got, want)
	}
	if t.Failed() {
		return
	}
	all := manifests(t, "kubernetes.md")
	for _, tt := range []struct{ old, with, says string }{
		{"restartPolicy: Always", "restartpolicy: Always", `unknown field "spec.template.spec.initContainers[0].restartpolicy"`},
		{"restartPolicy: Always", "restartPolicy: OnFailure", "startupProbe: Forbidden: may not be set for init containers without restartPolicy=Always"},
		{"expirationSeconds: 600", "expirationSeconds: 599", "may not specify a duration less than 10 minutes"},
		{"{name: policy, configMap: {name: oidc-dbt-policy}}", "{name: other, configMap: {name: oidc-dbt-policy}}", `volumeMounts[1].name: Not found: "policy"`},
		{"restartPolicy: Always\n", "\n", "may not be set for init containers without restartPolicy=Always"},
		{"capabilities: {drop: [ALL]}", "capabilities: {}", "not restricted: unrestricted capabilities"},
	} {
		out, err := check(strings.Replace(all[3], tt.old, tt.with, 1))
		if err == nil || !strings.Contains(out, tt.says) {
			t.Errorf("with %q: %v, %s; want %q", tt.with, err, out, tt.says)
		}
	}
}

// TestPolicyOfTheConfigMap: the policy is one, without a warning.
func TestPolicyOfTheConfigMap(t *testing.T) {
	t.Parallel()
	var config struct {
		Data map[string]string `yaml:"data"`
	}
	if err := yaml.Unmarshal([]byte(manifests(t, "kubernetes.md")[1]), &config); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("oidc-dbt.yml", []byte(config.Data["oidc-dbt.yml"]), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}

// A container is what the tests read of a manifest's.
type container struct {
	Command      []string `yaml:"command"`
	WorkingDir   string   `yaml:"workingDir"`
	Env          []struct{ Name, Value string }
	StartupProbe struct {
		Exec struct{ Command []string }
	} `yaml:"startupProbe"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

// containersOf returns the sidecar and dbt's container of the page's Job.
func containersOf(t *testing.T) (sidecar, dbt container) {
	t.Helper()
	var manifest struct {
		Spec struct {
			Template struct {
				Spec struct {
					InitContainers []container `yaml:"initContainers"`
					Containers     []container `yaml:"containers"`
				} `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(manifests(t, "kubernetes.md")[3]), &manifest); err != nil {
		t.Fatal(err)
	}
	spec := manifest.Spec.Template.Spec
	return spec.InitContainers[0], spec.Containers[0]
}

// A bind is a folder or file of this machine at a place in a container.
type bind struct {
	from, to string
	readOnly bool
}

// uid is whose processes a pod's are, as in the manifests.
const uid = 65532

// enter makes a root for a container, and starts a program there. Its arguments are the root, the uid or "" for the
// caller's, a list of binds (FROM:TO:ro|rw), "--", and the program.
const enter = `set -eu
mount --make-rprivate /
root=$1; uid=$2; shift 2
mount -t tmpfs -o mode=0755 tmpfs "$root"
mkdir -p "$root/proc" "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
while [ "$1" != -- ]; do
  IFS=: read -r from to mode <<< "$1"; shift
  if [ -L "$from" ]; then ln -s "$(readlink "$from")" "$root$to"; continue; fi
  if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$(dirname "$root$to")"; : > "$root$to"; fi
  mount --bind "$from" "$root$to"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root$to"; fi
done
shift
mount -o remount,ro "$root"
user=(); if [ -n "$uid" ]; then user=(--userspec="$uid:$uid" --groups=); fi
exec setpriv --no-new-privs chroot "${user[@]}" "$root" "$@"
`

// start prepares a container's process, with nothing in its environment but env.
func start(t *testing.T, user int, binds []bind, env, command []string) *exec.Cmd {
	t.Helper()
	namespaces := []string{"--mount", "--pid", "--fork", "--kill-child=SIGTERM"}
	who := fmt.Sprint(user)
	if os.Geteuid() != 0 { // then it is root of a user namespace: the same user of this machine in all containers
		namespaces, who = append(namespaces, "--user", "--map-root-user"), ""
	}
	args := append(namespaces, "bash", "-c", enter, "enter", t.TempDir(), who)
	for _, b := range binds {
		mode := "rw"
		if b.readOnly {
			mode = "ro"
		}
		args = append(args, b.from+":"+b.to+":"+mode)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(append(args, "--"), command...)...)
	cmd.Env = env
	if !strings.Contains(strings.Join(env, "\n"), "PATH=") {
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	}
	return cmd
}
