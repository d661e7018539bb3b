//go:build e2e && unix

package shim

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// A platform is one that a release has a binary for.
type platform struct {
	system, arch string // as node calls them
	name         string // in dist
	asset        string // of the release
	base         string // what it is packed as a difference to, in dist
}

var platforms = []platform{
	{"linux", "x64", "oidc-dbt-linux-x64", "oidc-dbt-linux-amd64", ""},
	{"linux", "arm64", "oidc-dbt-linux-arm64", "oidc-dbt-linux-arm64", ""},
	{"darwin", "x64", "oidc-dbt-macos-x64", "oidc-dbt-darwin-amd64", "oidc-dbt-linux-x64"},
	{"darwin", "arm64", "oidc-dbt-macos-arm64", "oidc-dbt-darwin-arm64", "oidc-dbt-linux-arm64"},
	{"win32", "x64", "oidc-dbt-windows-x64.exe", "oidc-dbt-windows-amd64.exe", "oidc-dbt-linux-x64"},
	{"win32", "arm64", "oidc-dbt-windows-arm64.exe", "oidc-dbt-windows-arm64.exe", "oidc-dbt-linux-arm64"},
}

func (p platform) String() string { return p.system + " " + p.arch }

// text is what the platform's binary has at its end, in which it differs from the others.
func (p platform) text() string { return "\nbuilt for " + p.String() }

// packed returns a folder with every binary of a release, packed and not, and SHA256SUMS.
var packed = sync.OnceValues(func() (string, error) {
	file, err := fake()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(file), "packed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	var sums []string
	for _, p := range platforms {
		data := append(slices.Clone(program), p.text()...)
		if err := os.WriteFile(filepath.Join(dir, p.name), data, 0o755); err != nil {
			return "", err
		}
		sums = append(sums, fmt.Sprintf("%x  %s\n", sha256.Sum256(data), p.asset))
	}
	slices.Sort(sums)
	return dir, os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644)
})

// pack packs the binaries of the folder once.
func pack(t *testing.T) (dir string) {
	t.Helper()
	dir, err := packed()
	if err != nil {
		t.Fatal(err)
	}
	packing.Do(func() {
		for _, p := range platforms {
			base := ""
			if p.base != "" {
				base = filepath.Join(dir, p.base)
			}
			packFile(t, filepath.Join(dir, p.name), base, filepath.Join(dir, p.name+".zst"))
		}
	})
	return dir
}

// packFile packs as a release does.
func packFile(t *testing.T, file, base, out string) {
	t.Helper()
	requirements, err := os.ReadFile(root + "release/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	python, err := pyenv.Ensure(t.Context(), "release", requirements, "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python.Program("python"), root+"release/pack.py", file, base, out, "3")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pack %s: %v\n%s", file, err, text)
	}
}

var packing sync.Once

// packedRelease adds the binaries to the action as a release's commit has them: only linux-x64 is not packed.
func (j *job) packedRelease() {
	j.t.Helper()
	dir := pack(j.t)
	for _, p := range platforms {
		if p.name == "oidc-dbt-linux-x64" {
			j.copy(filepath.Join(dir, p.name), j.dist(p.name), 0o755)
		} else {
			j.copy(filepath.Join(dir, p.name+".zst"), j.dist(p.name+".zst"), 0o644)
		}
	}
	j.copy(filepath.Join(dir, "SHA256SUMS"), j.dist("SHA256SUMS"), 0o644)
}

// packedX64 packs the binary of linux-x64 too.
func (j *job) packedX64() {
	j.t.Helper()
	j.remove("oidc-dbt-linux-x64")
	j.copy(filepath.Join(pack(j.t), "oidc-dbt-linux-x64.zst"), j.dist("oidc-dbt-linux-x64.zst"), 0o644)
}

func (j *job) dist(name string) string { return filepath.Join(j.action, "dist", name) }

func (j *job) remove(name string) {
	j.t.Helper()
	if err := os.Remove(j.dist(name)); err != nil {
		j.t.Fatal(err)
	}
}

// pretend has node 24 claim what is in the JSON object.
func (j *job) pretend(what string) {
	j.t.Helper()
	j.node = append(node24(j.t), "--require", absolute(j.t, "testdata/pretend.js"))
	j.env["PRETEND"] = what
}

func (j *job) pretendPlatform(p platform) {
	j.t.Helper()
	j.pretend(fmt.Sprintf(`{"platform": %q, "arch": %q}`, p.system, p.arch))
}

// unpacked checks a step that starts the platform's binary from a folder of its own in RUNNER_TEMP.
func (j *job) unpacked(p platform) (executable string) {
	j.t.Helper()
	r := j.run("main.js")
	s := j.started(r)
	if r.status != 0 || r.stderr != "to stderr\n" {
		j.t.Errorf("got %+v", r)
	}
	want := map[bool]string{false: "oidc-dbt", true: "oidc-dbt.exe"}[p.system == "win32"]
	if filepath.Base(s.Executable) != want || filepath.Dir(filepath.Dir(s.Executable)) != j.temp {
		j.t.Errorf("started as %s, want %s in a folder of its own in %s", s.Executable, want, j.temp)
	}
	if !strings.HasSuffix(j.read(s.Executable), p.text()) {
		j.t.Errorf("%s is not the binary of %s", s.Executable, p)
	}
	if mode := j.stat(s.Executable).Mode(); mode.Perm() != 0o755 {
		j.t.Errorf("%s has mode %v, want 0755", s.Executable, mode)
	}
	if entries, err := os.ReadDir(filepath.Dir(s.Executable)); err != nil || len(entries) != 1 {
		j.t.Errorf("next to the binary: %v %v, want nothing", entries, err)
	}
	return s.Executable
}

// TestUnpack starts every platform's binary from what a release packs.
func TestUnpack(t *testing.T) {
	t.Parallel()
	releases := map[string]func(*job){"linux-x64 raw": (*job).packedRelease, "all packed": func(j *job) {
		j.packedRelease()
		j.packedX64()
	}}
	for name, release := range releases {
		for _, p := range platforms {
			t.Run(name+", "+p.String(), func(t *testing.T) {
				t.Parallel()
				j := newJob(t)
				release(j)
				j.pretendPlatform(p)
				executable := j.unpacked(p)
				if got, want := strings.TrimRight(j.read(j.state), "\r\n"), "binary="+executable; got != want {
					t.Errorf("state %q, want %q", got, want)
				}
				if s := j.started(j.post()); s.Executable != executable || !slices.Equal(s.Args, []string{"post"}) {
					t.Errorf("post: %+v", s)
				}
			})
		}
	}
}

// TestUnpackOnce: a later step of a job reads neither the packed file nor its base, and writes nothing.
func TestUnpackOnce(t *testing.T) {
	t.Parallel()
	p := platforms[2]
	j := newJob(t)
	j.packedRelease()
	j.pretendPlatform(p)
	first := j.unpacked(p)
	before := j.stat(first)
	j.write(j.dist(p.name+".zst"), "damaged", 0o644)
	j.remove(p.base)
	if second := j.unpacked(p); second != first {
		t.Errorf("%s, then %s", first, second)
	}
	if after := j.stat(first); !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the second step made %s again", first)
	}
}

// TestUnpackPlaces: where the action's folder and the runner's are, and what they are like.
func TestUnpackPlaces(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"read-only action", "spaces", "RUNNER_TEMP on another file system"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := platforms[3]
			j := newJob(t)
			j.packedRelease()
			places[name](t, j)
			j.pretendPlatform(p)
			j.unpacked(p)
		})
	}
}

// TestUnpackLocal: a release that a job has checked out is not built.
func TestUnpackLocal(t *testing.T) {
	t.Parallel()
	p := platforms[1]
	j := newJob(t)
	j.local()
	j.packedRelease()
	j.pretendPlatform(p)
	j.unpacked(p)
}

// TestUnpackTwoVersions: steps of one job may pin two versions.
func TestUnpackTwoVersions(t *testing.T) {
	t.Parallel()
	p := platforms[1]
	j := newJob(t)
	j.packedRelease()
	j.pretendPlatform(p)
	first := j.unpacked(p)
	j.action += "-other"
	j.copyAction(j.action)
	j.packedRelease()
	other := platforms[3] // its binary is what the other version has for p
	j.copy(filepath.Join(pack(t), other.name), j.dist(p.name), 0o755)
	j.remove(p.name + ".zst")
	packFile(t, j.dist(p.name), "", j.dist(p.name+".zst"))
	j.remove(p.name)
	j.write(j.dist("SHA256SUMS"), sumOf(t, other)+"  "+p.asset+"\n", 0o644)
	if second := j.unpacked(other); filepath.Dir(second) == filepath.Dir(first) {
		t.Errorf("both are in %s", filepath.Dir(first))
	}
	if !strings.HasSuffix(j.read(first), p.text()) {
		t.Errorf("%s is no longer the first version", first)
	}
}

// TestUnpackAtOnce: of several steps that start at the same time, each starts a complete binary.
func TestUnpackAtOnce(t *testing.T) {
	t.Parallel()
	p := platforms[3]
	j := newJob(t)
	j.packedRelease()
	j.pretendPlatform(p)
	var wait sync.WaitGroup
	results := make([]result, 6)
	for i := range results {
		wait.Go(func() { results[i] = j.run("main.js") })
	}
	wait.Wait()
	var executables []string
	for _, r := range results {
		if r.status != 0 {
			t.Errorf("got %+v", r)
		}
		// A step may have started a file that another has replaced by the same.
		executables = append(executables, strings.TrimSuffix(j.started(r).Executable, " (deleted)"))
	}
	if want := j.unpacked(p); len(slices.Compact(executables)) != 1 || executables[0] != want {
		t.Errorf("started %q, want %q", executables, want)
	}
}

// sumOf returns the SHA-256 of the platform's unpacked binary.
func sumOf(t *testing.T, p platform) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(pack(t), p.name))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func TestUnpackFails(t *testing.T) {
	t.Parallel()
	const again = ": the download is damaged, run the job again\n"
	mac, arm := platforms[2], platforms[1]
	tests := map[string]struct {
		platform platform
		change   func(*job)
		status   int
		want     string // with GOT for what the binary's SHA-256 is
	}{
		"no SHA256SUMS": {mac, func(j *job) { j.remove("SHA256SUMS") }, 1, "::error::read dist/SHA256SUMS: ENOENT" + again},
		"no line in SHA256SUMS": {mac, func(j *job) {
			j.write(j.dist("SHA256SUMS"), sumOf(j.t, arm)+"  "+arm.asset+"\n"+sumOf(j.t, mac)+"  x"+mac.asset+"\n"+mac.asset+"\n", 0o644)
		}, 1, "::error::unpack dist/oidc-dbt-macos-x64.zst: dist/SHA256SUMS has no line for oidc-dbt-darwin-amd64" + again},
		"other sum": {arm, func(j *job) {
			j.write(j.dist("SHA256SUMS"), strings.Repeat("0", 64)+"  "+arm.asset+"\n", 0o644)
		}, 1, "::error::unpack dist/oidc-dbt-linux-arm64.zst: its SHA-256 is GOT, dist/SHA256SUMS has " + strings.Repeat("0", 64) + again},
		"truncated": {arm, func(j *job) { j.truncate(arm.name + ".zst") }, 1,
			"::error::unpack dist/oidc-dbt-linux-arm64.zst: its SHA-256 is GOT, dist/SHA256SUMS has " + sumOf(t, arm) + again},
		"empty": {arm, func(j *job) { j.write(j.dist(arm.name+".zst"), "", 0o644) }, 1,
			"::error::unpack dist/oidc-dbt-linux-arm64.zst: its SHA-256 is GOT, dist/SHA256SUMS has " + sumOf(t, arm) + again},
		"page": {arm, func(j *job) { j.write(j.dist(arm.name+".zst"), "<html>\n</html>\n", 0o644) }, 1,
			"::error::unpack dist/oidc-dbt-linux-arm64.zst: ZSTD_error_prefix_unknown" + again},
		"truncated patch": {mac, func(j *job) { j.truncate(mac.name + ".zst") }, 1,
			"::error::unpack dist/oidc-dbt-macos-x64.zst: its SHA-256 is GOT, dist/SHA256SUMS has " + sumOf(t, mac) + again},
		"other base": {mac, func(j *job) { j.copy(j.dist("SHA256SUMS"), j.dist(mac.base), 0o755) }, 1,
			"::error::unpack dist/oidc-dbt-macos-x64.zst: ZSTD_error_corruption_detected" + again},
		"no base": {mac, func(j *job) { j.remove(mac.base) }, 1, "::error::read dist/oidc-dbt-linux-x64.zst: ENOENT" + again},
		"platform is missing": {mac, func(j *job) { j.remove(mac.name + ".zst") }, 1,
			"::error::read dist/oidc-dbt-macos-x64.zst: ENOENT" + again},
		"node without dictionaries": {mac, func(j *job) {
			j.pretend(`{"platform": "darwin", "arch": "x64", "node": "24.5.0"}`)
		}, 2, "::error::unpack dist/oidc-dbt-macos-x64.zst: node 24.5.0 is too old, want 24.6 or later: update the runner to 2.329.0 or later\n"},
		"node without zstd": {arm, func(j *job) {
			j.pretend(`{"platform": "linux", "arch": "arm64", "node": "22.14.0", "zstd": false}`)
		}, 2, "::error::unpack dist/oidc-dbt-linux-arm64.zst: node 22.14.0 is too old, want 24.6 or later: update the runner to 2.329.0 or later\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.packedRelease()
			j.pretendPlatform(tt.platform)
			tt.change(j)
			r := j.run("main.js")
			r.stdout = regexp.MustCompile(`SHA-256 is [0-9a-f]{64}`).ReplaceAllString(r.stdout, "SHA-256 is GOT")
			r.want(t, tt.status, tt.want)
			if left, err := filepath.Glob(filepath.Join(j.temp, "oidc-dbt-bin-*", "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
			j.post().want(t, 0, "")
		})
	}
}

// truncate leaves half of a file in dist.
func (j *job) truncate(name string) {
	j.t.Helper()
	if err := os.Truncate(j.dist(name), j.stat(j.dist(name)).Size()/2); err != nil {
		j.t.Fatal(err)
	}
}

// TestUnpackOldNode: a node that has zstd but no dictionaries serves Linux, and one that has none serves linux-x64.
func TestUnpackOldNode(t *testing.T) {
	t.Parallel()
	tests := map[string]platform{
		`{"platform": "linux", "arch": "arm64", "node": "24.4.0"}`:                platforms[1],
		`{"platform": "linux", "arch": "x64", "node": "20.0.0", "zstd": false}`:   platforms[0],
		`{"platform": "darwin", "arch": "arm64", "node": "24.6.0", "zstd": true}`: platforms[3],
		`{"platform": "win32", "arch": "arm64", "node": "26.1.0", "zstd": true}`:  platforms[5],
	}
	for _, what := range slices.Sorted(maps.Keys(tests)) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.packedRelease()
			j.pretend(what)
			j.unpacked(tests[what])
		})
	}
}

// TestStaticBinary: on Alpine and others with musl, node says linux, and gets a binary that needs no libc.
func TestStaticBinary(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // other systems have one libc
	}
	file, err := elf.Open(setup.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a segment %v: it needs a dynamic linker", p.Type)
		}
	}
}
