//go:build unix

package installed

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	packages  = "venv/lib/python3.12/site-packages/"
	snowflake = packages + "dbt_snowflake-1.8.3.dist-info/"
	loads     = "# -*- coding: utf-8 -*-\nimport sys\nfrom dbt.cli.main import cli\nif __name__ == \"__main__\":\n"
)

// files are texts by path. "DIR" in one is the test's folder, "-> " is before
// what a link leads to, and "none" is no file.
type files map[string]string

// venv is a virtual environment with dbt, as uv makes it.
var venv = files{
	"venv/pyvenv.cfg":       "home = /usr/bin\n",
	"venv/bin/python":       "-> DIR/python/bin/python3.12",
	"venv/bin/dbt":          "#!DIR/venv/bin/python\n" + loads,
	snowflake + "METADATA":  "",
	"python/bin/python3.12": "",
}

// write writes files into a new folder; later ones replace earlier ones.
func write(t testing.TB, all ...files) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	merged := files{}
	for _, f := range all {
		maps.Copy(merged, f)
	}
	for name, text := range merged {
		if text == "none" {
			continue
		}
		path, text := filepath.Join(dir, name), strings.ReplaceAll(text, "DIR", dir)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, isLink := strings.CutPrefix(text, "-> "); isLink && err == nil {
			err = os.Symlink(to, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	t.Parallel()
	const python, dbt, metadata = "venv/bin/python", "venv/bin/dbt", snowflake + "METADATA"
	const shebang = "#!DIR/venv/bin/python\n"
	const long = "#!/bin/sh\n'''exec' %[1]sDIR/venv/bin/python%[1]s \"$0\" \"$@\"\n' '''\n"
	// outside is a Python of its own: of a runner's tool cache, an image, conda.
	outside := func(more string) files {
		return files{"venv/pyvenv.cfg": "none", python: "-> python3.12", "venv/bin/python3.12": "", more: ""}
	}
	for name, tt := range map[string]struct {
		changes files
		set     string // a variable
		want    string // version; "" for none
	}{
		"a virtual environment": {nil, "", "1.8.3"},
		"a loop of links":       {files{dbt: "-> dbt"}, "", ""},
		"no program":            {files{dbt: "none"}, "", ""},
		"a folder":              {files{dbt: "none", dbt + "/x": ""}, "", ""},
		"pip's script":          {files{dbt: shebang + "import re\nimport sys\n\nfrom dbt.cli.main import cli\n"}, "", "1.8.3"},
		"a long path, by pip":   {files{dbt: fmt.Sprintf(long, `"`) + loads}, "", "1.8.3"},
		"a long path, by uv":    {files{dbt: fmt.Sprintf(long, `'`) + loads}, "", "1.8.3"},
		"a shim of pyenv":       {files{dbt: "#!/usr/bin/env bash\nexec pyenv exec dbt\n"}, "", ""},
		"a zipapp":              {files{dbt: shebang + "PK\x03\x04"}, "", ""},
		"a wrapper":             {files{dbt: shebang + "import sys\nsys.path.insert(0, 'x')\nfrom dbt.cli.main import cli\n"}, "", ""},
		"the second engine":     {files{dbt: "\x7fELF"}, "", ""},
		"an endless line":       {files{dbt: "#!" + strings.Repeat("x", 1<<20)}, "", ""},
		"an empty file":         {files{dbt: ""}, "", ""},

		"another's interpreter": {files{dbt: "#!DIR/python/bin/python3.12\n" + loads}, "", ""},
		"no interpreter":        {files{python: "none"}, "", ""},
		"a copied interpreter":  {files{python: ""}, "", ""},
		"PyPy":                  {files{python: "-> DIR/python/bin/pypy3.11", "python/bin/pypy3.11": ""}, "", ""},
		"made anew, by 3.13":    {files{python: "-> DIR/python/bin/python3.13", "python/bin/python3.13": ""}, "", ""},

		"no such package":      {files{metadata: "none", packages + "dbt_core-1.8.3.dist-info/METADATA": ""}, "", ""},
		"a longer name":        {files{packages + "dbt_snowflake_x-0.1.0.dist-info/METADATA": ""}, "", "1.8.3"},
		"a release candidate":  {files{metadata: "none", packages + "dbt_snowflake-1.12.0rc1.dist-info/METADATA": ""}, "", ""},
		"a local version":      {files{metadata: "none", packages + "dbt_snowflake-1.8.0+acme.dist-info/METADATA": ""}, "", ""},
		"half an upgrade":      {files{packages + "dbt_snowflake-1.12.0.dist-info/METADATA": ""}, "", ""},
		"what an upgrade left": {files{metadata: "none", snowflake + "RECORD": ""}, "", ""},
		"another installer's":  {files{packages + "dbt_snowflake-1.12.0-py3.12.egg-info": ""}, "", ""},
		"a fork, or editable":  {files{snowflake + "direct_url.json": "{}"}, "", ""},
		"setuptools' develop":  {files{packages + "easy-install.pth": "/src\n"}, "", ""},

		"PYTHONPATH":              {nil, "PYTHONPATH", ""},
		"PYTHONHOME":              {nil, "PYTHONHOME", ""},
		"the user's packages":     {files{"home/.local/lib/python3.12/site-packages/x": ""}, "", "1.8.3"},
		"outside":                 {outside("x"), "", "1.8.3"},
		"outside, PYTHONUSERBASE": {outside("x"), "PYTHONUSERBASE", ""},
		"outside, no home":        {outside("x"), "HOME", ""},
		"outside, the user's":     {outside("home/.local/lib/python3.12/site-packages/x"), "", ""},
		"outside, of another":     {outside("home/.local/lib/python3.11/site-packages/x"), "", "1.8.3"},
		"outside, on macOS":       {outside("home/Library/Python/3.12/lib/python/site-packages/x"), "", ""},
		"a link to one outside":   {files{"venv/pyvenv.cfg": "none"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// pipx and uv link the program into a folder of PATH.
			dir := write(t, venv, files{"bin/dbt": "-> ../venv/bin/dbt"}, tt.changes)
			env := map[string]string{"HOME": filepath.Join(dir, "home"), tt.set: "x"}
			if tt.set == "HOME" {
				delete(env, "HOME")
			}
			p, ok := Find(func(name string) string { return env[name] }, filepath.Join(dir, "bin", "dbt"), "dbt-snowflake")
			if want := (Package{tt.want, filepath.Join(dir, packages)}); ok != (tt.want != "") || ok && p != want {
				t.Errorf("found %v %v, want %v", p, ok, want)
			}
		})
	}
}

func TestOlder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1.8.3", "1.9.0", true}, {"1.9.0", "1.8.3", false}, {"1.9", "1.9.0", false}, {"1.9.0", "1.9", false}, {"1.9", "1.9.1", true},
		{"1.9.2", "1.10.0", true}, {"2", "1.12.0", false}, {"0.20.2.1", "0.20.2.2", true},
	} {
		if got := Older(tt.a, tt.b); got != tt.want {
			t.Errorf("Older(%q, %q) is %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// FuzzFind: whatever a script begins with, only its own environment is looked at.
func FuzzFind(f *testing.F) {
	f.Add("#!DIR/venv/bin/python\n" + loads)
	f.Add("#!/bin/sh\n'''exec' DIR/venv/bin/python \"$0\" \"$@\"\n' '''\n" + loads)
	f.Add("#!../bin/python\n" + loads)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "-> ") {
			return
		}
		dir := write(t, venv, files{"venv/bin/dbt": text})
		p, ok := Find(func(string) string { return "" }, filepath.Join(dir, "venv", "bin", "dbt"), "dbt-snowflake")
		if ok && (p.Version != "1.8.3" || !strings.HasPrefix(text, "#!") || !strings.Contains(text, "/venv/bin/python")) {
			t.Errorf("found %v by %q", p, text)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	many := files{}
	for i := range 500 {
		many[fmt.Sprintf("%spackage%d/x", packages, i)] = ""
	}
	dbt := filepath.Join(write(b, venv, many), "venv", "bin", "dbt")
	for b.Loop() {
		if _, ok := Find(func(string) string { return "" }, dbt, "dbt-snowflake"); !ok {
			b.Fatal("not found")
		}
	}
}
