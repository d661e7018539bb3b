package command_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestTrustGenerate(t *testing.T) {
	t.Parallel()
	offlineCases(t, "trust generate")
}

func TestTrustCheck(t *testing.T) {
	t.Parallel()
	offlineCases(t, "trust check")
}

func TestTrustRotate(t *testing.T) {
	t.Parallel()
	offlineCases(t, "trust rotate")
}

func TestTrustRevoke(t *testing.T) {
	t.Parallel()
	offlineCases(t, "trust revoke")
}

// TestTrustGenerateOut: the files are the documents of --format json; one that
// has another text stays, and then nothing is written.
func TestTrustGenerateOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, err := os.ReadFile("testdata/trust-generate/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, ".github/oidc-dbt.yml", policy)
	_, stdout, _ := offline(t, dir, "", nil, "trust", "generate", "--format", "json")
	var out struct {
		Targets []struct {
			Documents []struct{ File, Text string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, target := range out.Targets {
		for _, d := range target.Documents {
			want[d.File] = d.Text
		}
	}
	if len(out.Targets) != 3 || len(want) < 9 {
		t.Fatalf("%d logins with %d documents", len(out.Targets), len(want))
	}
	write := func(what string, status int, more ...string) {
		t.Helper()
		args := append([]string{"trust", "generate", "--out", "trust"}, more...)
		if got, _, stderr := offline(t, dir, "", nil, args...); got != status {
			t.Errorf("%s: status %d, want %d: %s", what, got, status, stderr)
		}
	}
	compare := func(what string) {
		t.Helper()
		files, err := os.ReadDir(filepath.Join(dir, "trust"))
		if err != nil || len(files) != len(want) {
			t.Fatalf("%s: %v, %d files, want %d", what, err, len(files), len(want))
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, "trust", f.Name()))
			if err != nil || string(text) != want[f.Name()] {
				t.Errorf("%s: %v, %s is not the document", what, err, f.Name())
			}
		}
	}
	write("the first time", 0)
	compare("the first time")
	write("again", 0)
	compare("again")
	generated := want["prod.sh"]
	put(t, dir, "trust/prod.sh", []byte("mine\n"))
	if err := os.Remove(filepath.Join(dir, "trust", "prod.tf")); err != nil {
		t.Fatal(err)
	}
	terraform := want["prod.tf"]
	want["prod.sh"] = "mine\n"
	delete(want, "prod.tf")
	write("with another text", 2)
	compare("with another text")
	want["prod.sh"], want["prod.tf"] = generated, terraform
	write("with --overwrite", 0, "--overwrite")
	compare("with --overwrite")
}

// TestTrustSchemas: the published schemas accept what is printed, and no other
// key.
func TestTrustSchemas(t *testing.T) {
	t.Parallel()
	for name, tests := range map[string][][2]string{
		"generate": {{`"provider"`, `"name": 1, "provider"`}, {`"version": 1`, `"version": 2`}, {`"snowflake"`, `"oracle"`}, {`"claim"`, `"key"`}},
		"check":    {{`"provider"`, `"name": 1, "provider"`}, {`"version": 1`, `"version": 2`}, {`"line"`, `"at"`}, {`"verdict": "`, `"verdict": "un`}},
	} {
		schema, err := jsonschema.NewCompiler().Compile("../../docs/trust-" + name + ".schema.json")
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob("testdata/trust-" + name + "/*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		checked, refused := 0, map[[2]string]bool{}
		for _, file := range files {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range archive.Files {
				if f.Name != "want/stdout" || !bytes.HasPrefix(f.Data, []byte("{")) {
					continue
				}
				checked++
				if err := validate(t, schema, string(f.Data)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				for _, tt := range tests {
					if text := strings.Replace(string(f.Data), tt[0], tt[1], 1); text != string(f.Data) {
						refused[tt] = true
						if validate(t, schema, text) == nil {
							t.Errorf("%s: the schema allows %s", file, tt[1])
						}
					}
				}
			}
		}
		if checked < 2 || len(refused) != len(tests) {
			t.Errorf("trust %s: %d documents, %d of %d changes", name, checked, len(refused), len(tests))
		}
	}
}

func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}
