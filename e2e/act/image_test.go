//go:build e2e && linux && amd64

package act

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/action"
	"github.com/oidc-dbt/oidc-dbt/release/image"
)

// images builds the images, pushes them to a registry of the test's, and returns how they are named by digest.
func images(t *testing.T) (plain, busybox string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	err := image.Write(dir, image.Contents{
		Version: "v1.2.3", Binary: func(string) string { return setup.Binary(t) }, // only this machine's is run
		License: filepath.Join(setup.Repository(t), "LICENSE"),
		Shell:   func(goarch string) ([]byte, error) { return setup.Busybox(t, goarch), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/acme/oidc-dbt"
	if err := image.Push(t.Context(), dir, repository, func(string) {}); err != nil {
		t.Fatal(err)
	}
	named := func(tag string) string {
		digest, err := image.Digest(dir, tag)
		if err != nil {
			t.Fatal(err)
		}
		return repository + "@" + digest
	}
	return named("v1.2.3"), named("v1.2.3-busybox")
}

// TestContainerAction is container/action.yml with a release's image: under act, as GitHub's runner starts it, and the
// image with a shell as a runner in Kubernetes mode starts it.
func TestContainerAction(t *testing.T) {
	client, host := docker(t)
	plain, busybox := images(t)
	t.Run("act", func(t *testing.T) { underAct(t, host, plain) })
	t.Run("runner", func(t *testing.T) { asRunner(t, client, host, plain, busybox) })
	t.Run("kubernetes", func(t *testing.T) { inKubernetes(t, client, host, busybox) })
}

func underAct(t *testing.T, host, image string) {
	r := newRunner(t, 0, 0)
	setup.Write(t, r.dir, "container/action.yml", string(action.ContainerYAML("docker://"+image)))
	tmp := t.TempDir()
	r.audit = filepath.Join(tmp, "oidc-dbt", "audit.jsonl")
	r.env = append(r.env, "DOCKER_HOST="+host)
	cache := filepath.Join(r.home, "cache", "act") // with the files by which a step talks to the runner
	r.args = []string{"--container-daemon-socket", "-", "--container-options", fmt.Sprintf("--network host -v %[1]s:%[1]s -v %[2]s:/tmp", cache, tmp)}
	log, err := r.run("action-container.yml", "KEEP_FRESH=false", "CONTAINER_TMP="+tmp)
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "allowed: target prod by rule 1", "PASS=6 WARN=0 ERROR=0", "✅  Success - Main ./container", "✅  Success - Post ./container", "Job succeeded")
	if got, want := r.decisions(), "Preauth Success, Logon Success"; got != want {
		t.Errorf("the audit log says %s, want %s", got, want)
	}
	log, err = r.run("action-container.yml", "KEEP_FRESH=true", "CONTAINER_TMP="+tmp)
	if err == nil {
		t.Fatalf("keep-fresh passed:\n%s", log)
	}
	want(t, log, "input keep-fresh: cannot be used in the container action, whose processes end with the step: "+
		"use oidc-dbt/oidc-dbt in place of oidc-dbt/oidc-dbt/container", "❌  Failure - Main ./container", "Job failed")
}

// A machine is what GitHub's runner (ContainerActionHandler of 2.336) gives to a container, on a machine whose user is
// not root.
type machine struct {
	t            *testing.T
	client, host string
	root         string // of the runner
	env          map[string]string
}

const runnerUser = 1000

// mounts are the folders of the runner, by their places in a container.
var mounts = map[string]string{
	"_temp/_github_home": "/github/home", "_temp/_github_workflow": "/github/workflow", "_temp/_runner_file_commands": "/github/file_commands",
	"workspace": "/github/workspace", "_temp": "/github/runner_temp",
}

func newMachine(t *testing.T, client, host string, r *runner) *machine {
	root, err := os.MkdirTemp("/var/tmp", "runner-*") // other users cannot read what is below t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	m := &machine{t: t, client: client, host: host, root: root, env: map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_WORKSPACE": "/github/workspace", "RUNNER_TEMP": "/github/runner_temp", "HOME": "/github/home",
	}}
	for dir := range mounts {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".github/oidc-dbt.yml", "dbt/dbt_project.yml"} {
		text, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		setup.Write(t, filepath.Join(root, "workspace"), name, string(text))
	}
	for name, value := range r.issuer.RunnerEnv() {
		m.env[name] = value
	}
	for _, name := range []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"} {
		setup.Write(t, root, "_temp/_runner_file_commands/"+name, "")
		m.env["GITHUB_"+name] = "/github/file_commands/" + name
	}
	m.own()
	return m
}

// own gives everything to the runner's user, with the modes of a checkout.
func (m *machine) own() {
	m.t.Helper()
	for _, args := range [][]string{{"chown", "-R", fmt.Sprintf("%d:%d", runnerUser, runnerUser), m.root}, {"chmod", "-R", "go+rX", m.root}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			m.t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
}

// run starts a container as the runner does, and returns its exit status.
func (m *machine) run(image, entrypoint string, args ...string) (status int, out string) {
	m.t.Helper()
	docker := []string{"--host", m.host, "run", "--rm", "--network", "host", "--workdir", "/github/workspace"}
	for name, value := range m.env {
		docker = append(docker, "-e", name+"="+value)
	}
	for dir, place := range mounts {
		docker = append(docker, "-v", filepath.Join(m.root, dir)+":"+place)
	}
	if entrypoint != "" {
		docker = append(docker, "--entrypoint", entrypoint)
	}
	cmd := exec.CommandContext(m.t.Context(), m.client, append(append(docker, image), args...)...)
	text, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// command returns a file by which the step talked to the runner, as names and values.
func (m *machine) command(name string) map[string]string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, "_temp/_runner_file_commands", name))
	if err != nil {
		m.t.Fatal(err)
	}
	values := map[string]string{}
	for _, match := range regexp.MustCompile(`(?s)([\w-]+)<<(_\w+_)\n(.*?)\n_GitHubActionsFileCommandDelimeter_`).FindAllStringSubmatch(string(text), -1) {
		values[match[1]] = match[3]
	}
	return values
}

func asRunner(t *testing.T, client, host, plain, busybox string) {
	r := newRunner(t, 0, 0)
	m := newMachine(t, client, host, r)
	temp := filepath.Join(m.root, "_temp")
	m.env["INPUT_TARGET"], m.env["INPUT_PROJECT-DIR"] = "prod", "dbt"
	args := []string{"container", temp} // of container/action.yml, evaluated

	if status, out := m.run(plain, "", args...); status != 0 || !strings.Contains(out, "allowed: target prod by rule 1") {
		t.Fatalf("status %d:\n%s", status, out)
	}
	outputs := m.command("OUTPUT")
	for name, want := range map[string]string{"profile": "shop", "decision": "allowed", "audit-log": temp + "/oidc-dbt/audit.jsonl",
		"aws-credentials-file": temp + "/oidc-dbt/aws/credentials"} {
		if outputs[name] != want {
			t.Errorf("output %s is %q, want %q", name, outputs[name], want)
		}
	}
	if path := m.command("PATH"); len(path) > 0 {
		t.Errorf("the container's folders are in the PATH of later steps: %q", path)
	}
	folder := outputs["profiles-dir"]
	if policy := m.command("ENV")["OIDC_DBT_POLICY"]; filepath.Dir(folder) != temp || policy != folder+"/policy.yml" {
		t.Errorf("later steps get the folder %q and the policy %q", folder, policy)
	}
	// The next step reads the profile, as the runner's user.
	read := exec.Command("cat", filepath.Join(folder, "profiles.yml"), outputs["aws-credentials-file"], outputs["audit-log"])
	read.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: runnerUser, Gid: runnerUser}}
	if out, err := read.CombinedOutput(); err != nil || !strings.Contains(string(out), "shop:") {
		t.Errorf("read the profile: %v\n%s", err, out)
	}

	m.env["STATE_folder"] = m.command("STATE")["folder"]
	if status, out := m.run(plain, "/oidc-dbt-post", args...); status != 0 || out != "" {
		t.Errorf("post ends with status %d:\n%s", status, out)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", folder, err)
	}
	stepsByImage(t, m, plain, busybox)
}

// stepsByImage are steps that name an image (docker://…) and not the action.
func stepsByImage(t *testing.T, m *machine, plain, busybox string) {
	m.env["INPUT_KEEP-FRESH"] = "true"
	const want = "::error::input keep-fresh: cannot be used in the container action, whose processes end with the step: " +
		"use oidc-dbt/oidc-dbt in place of oidc-dbt/oidc-dbt/container\n"
	if status, out := m.run(plain, ""); status != 2 || out != want {
		t.Errorf("status %d:\n%swant\n%s", status, out, want)
	}
	delete(m.env, "INPUT_KEEP-FRESH")
	// A whole run in one container: the image with a shell for one that has dbt. AWS's session is in the command's
	// environment, or a route to it.
	status, out := m.run(busybox, "/usr/local/bin/oidc-dbt", "exec", "--target", "prod", "--project-dir", "dbt", "--", "sh", "-c", "env | cut -d= -f1")
	for _, name := range []string{"DBT_PROFILES_DIR", "AWS_REGION"} {
		if !slices.Contains(strings.Fields(out), name) {
			t.Errorf("status %d, and the command has no %s:\n%s", status, name, out)
		}
	}
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	status, out = m.run(plain, "", "lint", "--fail-on", "error")
	if status != 0 || !lintEnds.MatchString(out) {
		t.Errorf("lint: status %d:\n%s", status, out)
	}
}

// lintEnds is how lint's output ends. The image has no git, which standard error
// says: the two streams come in any order.
var lintEnds = regexp.MustCompile(`\n1 warning, 5 notes in 2 files\n(oidc-dbt: git cannot list the files of .*\n)?$`)

// inKubernetes starts the image as a runner in Kubernetes mode (runner-container-hooks 0.8) starts that of a job: with
// an entry point of its own, and each step as a script in it. The action needs no node there: the binary is started
// as a container step starts it.
func inKubernetes(t *testing.T, client, host, busybox string) {
	r := newRunner(t, 0, 0)
	m := newMachine(t, client, host, r)
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), client, append([]string{"--host", host}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	docker("pull", "--quiet", busybox)
	job := docker("run", "--detach", "--network", "host", "--volume", m.root+":/__w", "--entrypoint", "tail", busybox, "-f", "/dev/null")
	t.Cleanup(func() { _ = exec.Command(client, "--host", host, "rm", "--force", job).Run() })
	m.env["GITHUB_WORKSPACE"], m.env["RUNNER_TEMP"] = "/__w/workspace", "/__w/_temp"
	m.env["INPUT_TARGET"], m.env["INPUT_PROJECT-DIR"] = "prod", "dbt"
	prefix := "env"
	for name, value := range m.env {
		prefix += fmt.Sprintf(" %q", name+"="+strings.Replace(value, "/github/file_commands", "/__w/_temp/_runner_file_commands", 1))
	}
	setup.Write(t, m.root, "_temp/step.sh", "#!/bin/sh -l\nexport PATH=/__w/tools:$PATH\ncd /__w/workspace && \\\nexec "+prefix+"  /oidc-dbt \n")
	if out := docker("exec", job, "sh", "-e", "/__w/_temp/step.sh"); !strings.Contains(out, "allowed: target prod by rule 1") {
		t.Errorf("the step printed:\n%s", out)
	}
	if outputs := m.command("OUTPUT"); outputs["decision"] != "allowed" || filepath.Dir(outputs["profiles-dir"]) != "/__w/_temp" {
		t.Errorf("the step's outputs are %q", outputs)
	}
}
