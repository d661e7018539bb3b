package main

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// step returns the script of a step of a workflow.
func step(t *testing.T, workflow, job, name string) string {
	t.Helper()
	var file struct {
		Jobs map[string]struct{ Steps []struct{ Name, Run string } }
	}
	if err := yaml.Load(read(t, "../.github/workflows/"+workflow), &file); err != nil {
		t.Fatal(err)
	}
	for _, s := range file.Jobs[job].Steps {
		if s.Name == name {
			return s.Run
		}
	}
	t.Fatalf("%s has no step %q in the job %s", workflow, name, job)
	return ""
}

// gh plays GitHub: what is there is in files of $STATE, and what it is asked to change in the file log.
const gh = `#!/bin/bash
args="$*"
case $args in
  *"--method POST"* | *"--method DELETE"* | release*) printf '%s\n' "$args" | sed "s|$RUNNER_TEMP|TEMP|g" >>"$STATE/log" ;;
esac
case $args in
  *matching-refs/tags/v1.2.3*) cat "$STATE/ref" ;;
  *"POST repos/a/b/git/tags"*) echo object; echo "$COMMIT" >"$STATE/tagged" ;;
  *repos/a/b/git/tags/object*) cat "$STATE/tagged" ;;
  *"--paginate repos/a/b/releases"*) cat "$STATE/releases" ;;
  *repos/a/b/releases/tags/v1.2.3*) cat "$STATE/immutable" ;;
esac
`

// TestPublish: a second attempt makes what the first one has not made, and nothing twice.
func TestPublish(t *testing.T) {
	t.Parallel()
	const commit = "1111111111111111111111111111111111111111"
	const made = "api --method POST repos/a/b/git/tags -f tag=v1.2.3 -f message=v1.2.3 -f object=" + commit + " -f type=commit --jq .sha\n" +
		"api --method POST repos/a/b/git/refs -f ref=refs/tags/v1.2.3 -f sha=object --silent\n"
	const published = "release create v1.2.3 --repo a/b --draft --verify-tag --title v1.2.3 --notes-file TEMP/notes.md TEMP/release/assets/file\n" +
		"release edit v1.2.3 --repo a/b --draft=false\n"
	for _, tt := range []struct{ name, ref, tagged, releases, immutable, log, out string }{
		{name: "first attempt", immutable: "true", log: made + published},
		{name: "tagged", ref: "object", tagged: commit, immutable: "true", log: published},
		{name: "half a draft", ref: "object", tagged: commit, releases: "true 7\ntrue 8", immutable: "true",
			log: "api --method DELETE repos/a/b/releases/7 --silent\napi --method DELETE repos/a/b/releases/8 --silent\n" + published},
		{name: "published", ref: "object", tagged: commit, releases: "false 7", immutable: "true"},
		{name: "a tag of another commit", ref: "object", tagged: "other", out: "::error::the tag is there, and names other\n"},
		{name: "not immutable", immutable: "false", log: made + published,
			out: "::error::the release can be changed: turn on immutable releases in the settings, delete it, and release the next version\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{"ref": tt.ref, "tagged": tt.tagged, "releases": tt.releases, "immutable": tt.immutable,
				"bin/gh": gh, "bin/go": "#!/bin/bash\necho notes\n", "images": "image\n", "release/assets/file": ""} {
				write(t, filepath.Join(dir, name), text)
			}
			for _, program := range []string{"gh", "go"} {
				if err := os.Chmod(filepath.Join(dir, "bin", program), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			out, err := bash(t, dir, step(t, "release.yml", "publish", "tag, draft, publish"), "PATH="+dir+"/bin:"+os.Getenv("PATH"),
				"STATE="+dir, "RUNNER_TEMP="+dir, "GITHUB_REPOSITORY=a/b", "VERSION=v1.2.3", "COMMIT="+commit)
			if (err != nil) != (tt.out != "") || out != tt.out {
				t.Errorf("%v, want %q:\n%s", err, tt.out, out)
			}
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			if string(log) != tt.log {
				t.Errorf("it asks for\n%s\nwant\n%s", log, tt.log)
			}
		})
	}
}

// bash runs a script as a step of a workflow does.
func bash(t *testing.T, dir, script string, environ ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestCompare: an artifact is published only if it has what the release commit says, and nothing else.
func TestCompare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		alter func(t *testing.T, out string)
		fails bool
	}{
		{name: "as it was built", alter: func(*testing.T, string) {}},
		{name: "another asset", fails: true, alter: func(t *testing.T, out string) { write(t, filepath.Join(out, "assets", "install.sh"), "") }},
		{name: "no asset", fails: true, alter: func(t *testing.T, out string) {
			if err := os.Remove(filepath.Join(out, "assets", "oidc-dbt-linux-amd64")); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "other sums", fails: true, alter: func(t *testing.T, out string) { write(t, filepath.Join(out, "assets", sumsFile), "") }},
		{name: "another schema", fails: true, alter: func(t *testing.T, out string) { write(t, filepath.Join(out, "assets", "policy.schema.json"), "") }},
		{name: "another binary", fails: true, alter: func(t *testing.T, out string) { write(t, filepath.Join(out, "assets", "oidc-dbt-linux-amd64"), "") }},
		{name: "another binary in a wheel", fails: true, alter: func(t *testing.T, out string) {
			rezip(t, wheelOf(t, out), func(name string, text []byte) []byte {
				if strings.Contains(name, "/scripts/") {
					return append(text, 0)
				}
				return text
			}, "")
		}},
		{name: "another file in a wheel", fails: true, alter: func(t *testing.T, out string) {
			rezip(t, wheelOf(t, out), func(_ string, text []byte) []byte { return text }, "oidc_dbt-1.2.3.data/purelib/x.pth")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			repo, r, temp := newRepository(t), theRelease(t), t.TempDir()
			sha := releaseCommit(t, repo, r)
			tt.alter(t, r.out)
			if err := os.Symlink(r.out, filepath.Join(temp, "release")); err != nil {
				t.Fatal(err)
			}
			server, name := filepath.Split(repo.dir)
			out, err := bash(t, repo.dir, step(t, "release.yml", "publish", "compare the artifact with the release commit"),
				"GITHUB_WORKSPACE="+repo.dir, "RUNNER_TEMP="+temp, "GITHUB_SERVER_URL="+filepath.Clean(server), "GITHUB_REPOSITORY="+name, "COMMIT="+sha)
			if (err != nil) != tt.fails {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

func wheelOf(t *testing.T, out string) string {
	t.Helper()
	wheels, err := filepath.Glob(filepath.Join(out, "wheels", "*win_amd64.whl"))
	if err != nil || len(wheels) != 1 {
		t.Fatalf("wheels for Windows: %q, %v", wheels, err)
	}
	return wheels[0]
}

// rezip writes a wheel again with other contents, and with another file if it has a name.
func rezip(t *testing.T, wheel string, edit func(name string, text []byte) []byte, other string) {
	t.Helper()
	old := read(t, wheel)
	r, err := zip.NewReader(bytes.NewReader(old), int64(len(old)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	add := func(name string, text []byte) {
		part, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range r.File {
		part, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(part); err != nil {
			t.Fatal(err)
		}
		add(f.Name, edit(f.Name, text.Bytes()))
	}
	if other != "" {
		add(other, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, wheel, out.String())
}
