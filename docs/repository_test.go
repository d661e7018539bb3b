package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// ecosystems are Dependabot's names, by the file that says what is used.
var ecosystems = map[string]string{
	"Dockerfile": "docker", "go.mod": "gomod", "package.json": "npm", "requirements.txt": "pip",
}

// madeUp are manifests that only tests read: the module that the shim builds
// in its tests, and a user's project.
var madeUp = []string{"e2e/shim/testdata/fake/go.mod", "e2e/act/testdata/project/requirements.txt"}

// TestDependabotKnowsEachManifest: a folder that is not listed is never updated.
func TestDependabotKnowsEachManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Updates []struct {
			Ecosystem   string   `yaml:"package-ecosystem"`
			Directory   string   `yaml:"directory"`
			Directories []string `yaml:"directories"`
			Cooldown    struct {
				Days int `yaml:"default-days"`
			} `yaml:"cooldown"`
		} `yaml:"updates"`
	}
	if err := yaml.Load(text, &config); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, u := range config.Updates {
		if u.Directory != "" {
			u.Directories = append(u.Directories, u.Directory)
		}
		got[u.Ecosystem] = append(got[u.Ecosystem], u.Directories...)
		if u.Cooldown.Days < 7 {
			t.Errorf("%s: versions are proposed after %d days, want at least 7", u.Ecosystem, u.Cooldown.Days)
		}
	}
	want := map[string][]string{"github-actions": {"/"}}
	for _, file := range files(t) {
		if ecosystem := ecosystems[path.Base(file)]; ecosystem != "" && !slices.Contains(madeUp, file) {
			want[ecosystem] = append(want[ecosystem], path.Join("/", path.Dir(file)))
		}
	}
	for _, list := range got {
		slices.Sort(list)
	}
	for _, list := range want {
		slices.Sort(list)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dependabot.yml (-manifests, +listed):\n%s", diff)
	}
}

// files returns every file's path from the root.
func files(t *testing.T) (list []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "dist", "node_modules"}, d.Name()):
			return fs.SkipDir
		case !d.IsDir():
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// eachMatch visits what an expression finds in the files below some folders, of
// which there must be at least so many.
func eachMatch(t *testing.T, expr string, least int, folders []string, visit func(file string, m []string)) {
	t.Helper()
	re, count := regexp.MustCompile(expr), 0
	for _, file := range files(t) {
		if !slices.ContainsFunc(folders, func(folder string) bool { return strings.HasPrefix(file, folder) }) {
			continue
		}
		text, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range re.FindAllStringSubmatch(string(text), -1) {
			count++
			visit(file, m)
		}
	}
	if count < least {
		t.Errorf("found %q %d times in %q, want at least %d", expr, count, folders, least)
	}
}

// TestToolsHaveOneVersion: what several files run, they run in the same version.
func TestToolsHaveOneVersion(t *testing.T) {
	t.Parallel()
	versions := map[string]string{}
	eachMatch(t, `(?:go run |uses: )([\w./-]+)@(\S+)`, 8, []string{".ci/", ".github/"}, func(file string, m []string) {
		if have := versions[m[1]]; have != "" && have != m[2] {
			t.Errorf("%s has %s@%s, another file %s", file, m[1], m[2], have)
		}
		versions[m[1]] = m[2]
	})
}

// TestActionsArePinned: by commit, with the version in a comment.
func TestActionsArePinned(t *testing.T) {
	t.Parallel()
	pin := regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	eachMatch(t, `(?m)^ *(?:- )?uses: *(.*)$`, 8, []string{".github/"}, func(file string, m []string) {
		own := strings.HasPrefix(m[1], "./") || strings.HasPrefix(m[1], "$/")
		if !own && !pin.MatchString(m[1]) {
			t.Errorf("%s: uses: %s, want NAME@COMMIT # v1.2.3", file, m[1])
		}
	})
}

// TestEnvironmentsAreForOneBranch: any branch's workflows can name an environment, so a page says that it is for main.
func TestEnvironmentsAreForOneBranch(t *testing.T) {
	t.Parallel()
	var pages strings.Builder
	for _, page := range []string{"../CONTRIBUTING.md", "live-check.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		pages.Write(text)
	}
	eachMatch(t, `(?m)^ *environment: ([a-z][\w-]*)`, 4, []string{".github/workflows/"}, func(file string, m []string) {
		said := regexp.MustCompile("environment `" + m[1] + "`[^.;\n]* (for `main` only|for the branch `main` only)")
		if !said.MatchString(pages.String()) {
			t.Errorf("%s uses the environment %s: say in CONTRIBUTING.md that it is for `main` only", file, m[1])
		}
	})
}

// TestVerifyingComparesTheBranch: an attestation of another branch's build is not one of a release.
func TestVerifyingComparesTheBranch(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("verify.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := strings.Split(strings.ReplaceAll(string(text), "\\\n", ""), "\n")
	count := 0
	for _, line := range commands {
		if strings.Contains(line, "gh attestation verify ") && strings.Contains(line, "--signer-workflow") {
			count++
			if !strings.Contains(line, "--source-ref refs/heads/main") || !strings.Contains(line, "--source-digest") {
				t.Errorf("verify.md accepts what any branch has built: %s", line)
			}
		}
	}
	if count < 2 {
		t.Errorf("found %d commands, want at least 2", count)
	}
	if got := strings.Count(string(text), `git merge-base --is-ancestor "$PIN^" origin/main`); got != 2 {
		t.Errorf("verify.md compares the source with main %d times, want 2", got)
	}
}
