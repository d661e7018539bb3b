package wheel

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files are the names and contents of a wheel, in its order. Its times and modes are the same for all.
func files(t *testing.T, path string) (names []string, texts map[string]string) {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	texts = map[string]string{}
	for _, f := range archive.File {
		if got := f.Modified.UTC().Format("2006-01-02 15:04:05"); got != "1980-01-01 00:00:00" {
			t.Errorf("%s is of %s", f.Name, got)
		}
		want := os.FileMode(0o644)
		if strings.Contains(f.Name, ".data/scripts/") {
			want = 0o755
		}
		if f.Mode() != want {
			t.Errorf("%s has mode %v, want %v", f.Name, f.Mode(), want)
		}
		if f.Flags != 0 || f.Method != zip.Deflate || len(f.Extra) != 0 {
			t.Errorf("%s has flags %x, method %d, %d bytes of extra fields", f.Name, f.Flags, f.Method, len(f.Extra))
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names, texts[f.Name] = append(names, f.Name), string(text)
	}
	return names, texts
}

func pack(t *testing.T, w Wheel) (name, path string) {
	t.Helper()
	path, err := w.Pack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path), path
}

func TestPack(t *testing.T) {
	t.Parallel()
	tests := []struct{ goos, goarch, name, program, tags string }{
		{"linux", "amd64", "manylinux2014_x86_64.manylinux_2_17_x86_64.musllinux_1_1_x86_64", "oidc-dbt",
			"Tag: py3-none-manylinux2014_x86_64\nTag: py3-none-manylinux_2_17_x86_64\nTag: py3-none-musllinux_1_1_x86_64\n"},
		{"linux", "arm64", "manylinux2014_aarch64.manylinux_2_17_aarch64.musllinux_1_1_aarch64", "oidc-dbt",
			"Tag: py3-none-manylinux2014_aarch64\nTag: py3-none-manylinux_2_17_aarch64\nTag: py3-none-musllinux_1_1_aarch64\n"},
		{"darwin", "amd64", "macosx_12_0_x86_64", "oidc-dbt", "Tag: py3-none-macosx_12_0_x86_64\n"},
		{"darwin", "arm64", "macosx_12_0_arm64", "oidc-dbt", "Tag: py3-none-macosx_12_0_arm64\n"},
		{"windows", "amd64", "win_amd64", "oidc-dbt.exe", "Tag: py3-none-win_amd64\n"},
		{"windows", "arm64", "win_arm64", "oidc-dbt.exe", "Tag: py3-none-win_arm64\n"},
	}
	if len(tests) != len(tags) {
		t.Errorf("%d tests, %d platforms", len(tests), len(tags))
	}
	for _, tt := range tests {
		t.Run(tt.goos+" "+tt.goarch, func(t *testing.T) {
			t.Parallel()
			binary := "a binary for " + tt.goos + "\x00\xff\n"
			name, path := pack(t, Wheel{"v1.2.3", tt.goos, tt.goarch, []byte(binary), []byte("a license\n"), []byte("# A page\n")})
			if want := "oidc_dbt-1.2.3-py3-none-" + tt.name + ".whl"; name != want {
				t.Errorf("got %s, want %s", name, want)
			}
			names, texts := files(t, path)
			script := "oidc_dbt-1.2.3.data/scripts/" + tt.program
			const info = "oidc_dbt-1.2.3.dist-info/"
			want := script + " " + info + "licenses/LICENSE " + info + "METADATA " + info + "WHEEL " + info + "RECORD"
			if got := strings.Join(names, " "); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			if texts[script] != binary || texts[info+"licenses/LICENSE"] != "a license\n" {
				t.Errorf("got %q", texts)
			}
			if want := "Wheel-Version: 1.0\nGenerator: oidc-dbt\nRoot-Is-Purelib: false\n" + tt.tags; texts[info+"WHEEL"] != want {
				t.Errorf("got %q, want %q", texts[info+"WHEEL"], want)
			}
		})
	}
}

// TestRecordAndMetadata compares both with texts; the sums are those of sha256sum and base64.
func TestRecordAndMetadata(t *testing.T) {
	t.Parallel()
	_, path := pack(t, Wheel{"v1.2.3-rc.1", "linux", "amd64", []byte("binary\n"), []byte("a license\n"), []byte("# A page\n")})
	_, texts := files(t, path)
	const info = "oidc_dbt-1.2.3rc1.dist-info/"
	metadata := texts[info+"METADATA"]
	if !strings.HasPrefix(metadata, "Metadata-Version: 2.4\nName: oidc-dbt\nVersion: 1.2.3rc1\n") ||
		!strings.Contains(metadata, "\nLicense-Expression: Apache-2.0\nLicense-File: LICENSE\n") ||
		!strings.HasSuffix(metadata, "\nDescription-Content-Type: text/markdown\n\n# A page\n") {
		t.Errorf("got %s", metadata)
	}
	lines := strings.Split(texts[info+"RECORD"], "\n")
	if len(lines) != 6 || lines[5] != "" {
		t.Fatalf("got %q", lines)
	}
	for i, want := range map[int]string{
		0: "oidc_dbt-1.2.3rc1.data/scripts/oidc-dbt,sha256=WOr1p41YD129SdMaW3MwlBabMb_fSQVbdLysKHfY9Yw,7",
		1: info + "licenses/LICENSE,sha256=eCTE1vJC0-x7aSgA3saDLgXzPRYzImndqDO5fRNxGd0,10",
		4: info + "RECORD,,",
	} {
		if lines[i] != want {
			t.Errorf("got %s, want %s", lines[i], want)
		}
	}
	for i, name := range map[int]string{2: "METADATA", 3: "WHEEL"} {
		if !strings.HasPrefix(lines[i], info+name+",sha256=") {
			t.Errorf("got %s", lines[i])
		}
	}
}

// TestDeterministic: a wheel depends on nothing but what is packed.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	binary := bytes.Repeat([]byte("some code of a binary "), 1<<15)
	var before []byte
	for range 3 {
		_, path := pack(t, Wheel{"v1.2.3", "linux", "arm64", binary, []byte("a license\n"), []byte("# A page\n")})
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !bytes.Equal(before, text) {
			t.Fatal("two wheels of the same binary differ")
		}
		before = text
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	const choices = ", want alpha, beta, rc or dev and a number, such as -rc.1"
	tests := map[string]struct{ want, err string }{
		"v1.2.3":             {want: "1.2.3"},
		"v10.0.0":            {want: "10.0.0"},
		"v1.2.3-rc.1":        {want: "1.2.3rc1"},
		"v1.2.3-rc12":        {want: "1.2.3rc12"},
		"v1.2.3-alpha.0":     {want: "1.2.3a0"},
		"v1.2.3-beta":        {want: "1.2.3b0"},
		"v1.2.3-dev.4":       {want: "1.2.3.dev4"},
		"v0.0.0-development": {want: "0.0.0.dev0"},
		"v1.2.3-preview.1":   {err: `version "v1.2.3-preview.1": PyPI has no pre-release "preview.1"` + choices},
		"v1.2.3-rc.1.2":      {err: `version "v1.2.3-rc.1.2": PyPI has no pre-release "rc.1.2"` + choices},
		"v1.2.3-1":           {err: `version "v1.2.3-1": PyPI has no pre-release "1"` + choices},
		"1.2.3":              {err: `version "1.2.3" must be like v1.2.3`},
		"v1.2":               {err: `version "v1.2" must be like v1.2.3`},
		"v1.2.3+build":       {err: `version "v1.2.3+build" must be like v1.2.3`},
	}
	for version, tt := range tests {
		got, err := Version(version)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || text != tt.err {
			t.Errorf("%s: got %q, %q, want %q, %q", version, got, text, tt.want, tt.err)
		}
	}
}

func TestPackFails(t *testing.T) {
	t.Parallel()
	tests := map[string]Wheel{
		"no wheels for plan9/amd64":       {Version: "v1.2.3", GOOS: "plan9", GOARCH: "amd64"},
		`version "x" must be like v1.2.3`: {Version: "x", GOOS: "linux", GOARCH: "amd64"},
	}
	for want, w := range tests {
		dir := t.TempDir()
		if _, err := w.Pack(dir); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left behind: %v %v", entries, err)
		}
	}
}
