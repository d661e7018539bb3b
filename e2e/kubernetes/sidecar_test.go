//go:build e2e && linux

package kubernetes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	tokenLife   = 8 * time.Second
	sessionLife = 3 * time.Second
)

// A pod has the volumes of the Job, the stand-ins on loopback, and what the images consist of.
type pod struct {
	t       *testing.T
	issuer  *standin.Issuer
	store   *standin.Store
	volumes map[string]string // by name
	port    string            // of health

	mu     sync.Mutex
	tokens int // that the kubelet has written
}

func newPod(t *testing.T) *pod {
	t.Helper()
	issuer, err := standin.StartIssuer(map[string]any{
		"sub":           "system:serviceaccount:dbt:runner",
		"kubernetes.io": map[string]any{"namespace": "dbt", "serviceaccount": map[string]any{"name": "runner", "uid": "a-1"}, "pod": map[string]any{"name": "dbt-1", "uid": "p-1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	issuer.SetLife(tokenLife)
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Life: sessionLife, Roles: map[string]standin.Role{
		setup.Role: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {"system:serviceaccount:dbt:runner"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	sts.SetGrace(standin.Grace)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	p := &pod{t: t, issuer: issuer, store: store, volumes: map[string]string{}, port: fmt.Sprint(setup.Port(t))}
	base, err := os.MkdirTemp("", "pod-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	// An emptyDir is root's, with mode 0777; with fsGroup it passes its group on.
	for name, mode := range map[string]fs.FileMode{
		"credential": 0o777 | fs.ModeSetgid, "work": 0o777 | fs.ModeSetgid, "token": 0o755, "policy": 0o755, "project": 0o755,
	} {
		p.volumes[name] = filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(p.volumes[name], 0o755), os.Chmod(p.volumes[name], mode)); err != nil {
			t.Fatal(err)
		}
	}
	setup.Write(t, p.volumes["policy"], "oidc-dbt.yml", fmt.Sprintf(`version: 1
identities:
  cluster: {issuer: %q, kind: kubernetes, source: {file: /var/run/secrets/oidc-dbt/token}}
targets:
  prod:
    dbt: {type: duckdb, path: /work/shop.duckdb, schema: main, threads: 4, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}
    exchange:
      aws: {role: %q, region: eu-central-1, endpoint: %q}
    allow:
      - {identity: cluster, sub: "system:serviceaccount:dbt:runner", kubernetes.io>serviceaccount>uid: a-1}
`, issuer.URL(), store.Host(), setup.Role, sts.URL()))
	p.project()
	p.kubelet()
	return p
}

// project has chains of models that write to the store and sleep for a session's life.
func (p *pod) project() {
	dir := p.volumes["project"]
	setup.Write(p.t, dir, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	setup.Write(p.t, dir, "seeds/raw_orders.csv", "order_id,customer,amount\n1,ada,12\n2,grace,40\n3,ada,7\n")
	before := "raw_orders"
	for step := range 4 {
		file, wait := fmt.Sprintf("file_%d", step), fmt.Sprintf("wait_%d", step)
		setup.Write(p.t, dir, "models/"+file+".sql", fmt.Sprintf(
			"-- depends_on: {{ ref('%s') }}\n{{ config(materialized='external', location='s3://lake/%s.parquet') }}\nselect * from {{ ref('raw_orders') }}\n", before, file))
		setup.Write(p.t, dir, "models/"+wait+".py", fmt.Sprintf(
			"import time\n\ndef model(dbt, session):\n    dbt.config(materialized='table')\n    dbt.ref('%s')\n    time.sleep(%d)\n    return session.sql('select 1 as one')\n",
			file, sessionLife/time.Second))
		before = wait
	}
}

// kubelet writes the token as a kubelet does: into a new folder, to which a link in the volume is swapped, whose name
// the token's own link goes through. It does so again when half of the token's life is over.
func (p *pod) kubelet() {
	dir := p.volumes["token"]
	write := func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokens++
		stamp := fmt.Sprintf("..2026_11_28_12_00_%02d.1", p.tokens)
		folder, file := filepath.Join(dir, stamp), filepath.Join(dir, stamp, "token")
		err := errors.Join(os.Mkdir(folder, 0o755), os.WriteFile(file, []byte(p.issuer.Sign("", map[string]any{"aud": []string{"sts.amazonaws.com"}})), 0o600))
		if os.Geteuid() == 0 {
			err = errors.Join(err, os.Chown(file, uid, uid))
		}
		before, _ := os.Readlink(filepath.Join(dir, "..data"))
		err = errors.Join(err, os.Symlink(stamp, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if before != "" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, before)))
		}
		return err
	}
	if err := errors.Join(write(), os.Symlink("..data/token", filepath.Join(dir, "token"))); err != nil {
		p.t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	p.t.Cleanup(func() { close(end); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-time.After(tokenLife / 2):
				if err := write(); err != nil {
					p.t.Errorf("the kubelet: %v", err)
				}
			case <-end:
				return
			}
		}
	}()
}

// mounts are a container's volumes by the manifest.
func (p *pod) mounts(c container) (list []bind) {
	for _, m := range c.VolumeMounts {
		list = append(list, bind{p.volumes[m.Name], m.MountPath, m.ReadOnly})
	}
	return list
}

// ours is the image of the sidecar: the binary, and no other file.
func (p *pod) ours() bind { return bind{setup.Binary(p.t), "/oidc-dbt", true} }

// theirs is an image with a system, Python, dbt and the project.
func (p *pod) theirs() []bind {
	list := []bind{{p.volumes["project"], "/project", true}}
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64", "/etc"} {
		if _, err := os.Lstat(dir); err == nil {
			list = append(list, bind{dir, dir, true})
		}
	}
	python, err := filepath.EvalSymlinks(setup.Python(p.t).Program("python")) // may be anywhere
	if err != nil {
		p.t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(setup.Python(p.t).Bin), filepath.Dir(filepath.Dir(python))} {
		if !strings.HasPrefix(dir, "/usr") {
			list = append(list, bind{dir, dir, true})
		}
	}
	return list
}

// withPort puts the test's port in the place of the manifest's.
func (p *pod) withPort(command []string) (list []string) {
	for _, word := range command {
		list = append(list, strings.ReplaceAll(word, "8081", p.port))
	}
	return list
}

// inside returns a command of the process's own container, as an exec probe is one.
func inside(cmd *exec.Cmd, command []string) *exec.Cmd {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	pid, _, _ := strings.Cut(strings.TrimSpace(string(children)), " ")
	args := []string{"--target", pid, "--mount", "--pid", "--root", "--wd"}
	if os.Geteuid() == 0 {
		args = append(args, "--setuid", fmt.Sprint(uid), "--setgid", fmt.Sprint(uid))
	} else {
		args = append(args, "--user", "--preserve-credentials")
	}
	probe := exec.Command("nsenter", append(args, command...)...)
	probe.Env = []string{"PATH=" + os.Getenv("PATH")}
	return probe
}

// TestSidecar runs the containers of the page's Job.
func TestSidecar(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	sidecar, dbt := containersOf(t)
	files := filepath.Join(p.volumes["credential"], "files")

	serve := start(t, uid, append(p.mounts(sidecar), p.ours()), nil, p.withPort(sidecar.Command))
	said := &syncBuffer{}
	serve.Stdout, serve.Stderr = said, said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Process.Kill() }) // nothing, unless the test failed
	probe := p.withPort(sidecar.StartupProbe.Exec.Command)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := inside(serve, probe).CombinedOutput()
		if err == nil && strings.HasPrefix(string(out), "the credential is valid until ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the startup probe: %v, %s\nserve says:\n%s", err, out, said)
		}
	}
	p.checkModes(files)

	env := []string{"PATH=" + setup.Python(t).Bin + ":/usr/sbin:/usr/bin:/bin"}
	for _, e := range dbt.Env {
		if e.Name != "HOME" {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	env = append(env, "HOME="+setup.Python(t).Home, "DBT_USE_COLORS=false") // where the image has DuckDB's extensions
	command := append([]string{"sh", "-c", `cd "$0" && exec "$@"`, dbt.WorkingDir}, dbt.Command...)
	text, err := start(t, uid, slices.Concat(p.theirs(), p.mounts(dbt)), env, command).CombinedOutput()
	out := string(text)
	if err != nil || !strings.Contains(out, "PASS=9 WARN=0 ERROR=0") {
		t.Fatalf("dbt build: %v\n%s\nserve says:\n%s", err, out, said)
	}
	if issued := strings.Count(out, `"outcome":"issued"`); issued < 3 {
		t.Errorf("the container prints %d records of a credential, want three at least:\n%s", issued, out)
	}
	p.mu.Lock()
	tokens := p.tokens
	p.mu.Unlock()
	if p.store.Refused() > 0 || p.store.Used() < 3 || tokens < 3 {
		t.Errorf("%d requests refused, %d sessions, %d tokens; want none, and three at least of both", p.store.Refused(), p.store.Used(), tokens)
	}
	setup.NoSecrets(t, p.issuer, "what the containers print", out+said.String())
	p.checkOtherUsers(dbt)

	// The end of the pod: SIGTERM to the container's first process.
	if out, err := inside(serve, probe).CombinedOutput(); err != nil {
		t.Errorf("the probe: %v, %s", err, out)
	}
	p.terminate(serve)
	if err := serve.Wait(); err != nil {
		t.Errorf("serve ended with %v:\n%s", err, said)
	}
	if _, err := os.Stat(files); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// checkModes: only the pod's user can enter the folder and read its files.
func (p *pod) checkModes(files string) {
	p.t.Helper()
	for name, want := range map[string]fs.FileMode{".": 0o700, "env": 0o600, "profiles.yml": 0o600} {
		info, err := os.Stat(filepath.Join(files, name))
		if err != nil {
			p.t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		if info.Mode().Perm() != want || os.Geteuid() == 0 && owner != uid {
			p.t.Errorf("%s has mode %v and owner %d, want %v and %d", name, info.Mode().Perm(), owner, want, uid)
		}
	}
}

// ask connects to the broker's proxy, and prints what it replies.
const ask = `import re, socket, sys
port = int(re.search(r"127\.0\.0\.1:(\d+)", sys.argv[1]).group(1))
s = socket.create_connection(("127.0.0.1", port), timeout=10)
s.sendall(b"GET /lake/ HTTP/1.1\r\nConnection: close\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
print("reply:", s.makefile().read())
`

// checkOtherUsers: a container of another user in the same pod reads no file of
// the folder, and the broker does not answer it. It needs two users, so root.
func (p *pod) checkOtherUsers(dbt container) {
	p.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	profile, err := os.ReadFile(filepath.Join(p.volumes["credential"], "files", "profiles.yml"))
	if err != nil {
		p.t.Fatal(err)
	}
	env := []string{"PATH=" + setup.Python(p.t).Bin + ":/usr/sbin:/usr/bin:/bin"}
	for _, tt := range []struct {
		user    int
		command []string
		says    string
	}{
		{uid, []string{"cat", "/run/oidc-dbt/files/profiles.yml"}, "shop:"},
		{uid + 1, []string{"cat", "/run/oidc-dbt/files/profiles.yml"}, "Permission denied"},
		{uid, []string{"python", "-c", ask, string(profile)}, "reply: HTTP/1.1 "},
		{uid + 1, []string{"python", "-c", ask, string(profile)}, "connections are for user 65532 only, and this one is from user 65533"},
	} {
		out, _ := start(p.t, tt.user, slices.Concat(p.theirs(), p.mounts(dbt)), env, tt.command).CombinedOutput()
		if !strings.Contains(string(out), tt.says) {
			p.t.Errorf("user %d, %q: %s, want %q", tt.user, tt.command[0], out, tt.says)
		}
	}
}

// terminate sends SIGTERM to the first process of a container.
func (p *pod) terminate(cmd *exec.Cmd) {
	p.t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// A syncBuffer keeps what a process says while others read it.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
