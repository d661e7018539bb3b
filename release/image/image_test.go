package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/ulikunitz/xz"
)

// contents are small ones. version differs where an image must.
func contents(t *testing.T, version string) Contents {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return Contents{
		Version: version,
		Binary:  func(goarch string) string { return write("oidc-dbt-linux-"+goarch, "binary for "+goarch) },
		License: write("LICENSE", "licence"),
		Shell: func(goarch string) ([]byte, error) {
			return deb(t, map[string]string{program: "busybox for " + goarch, copyright: "GPL"}), nil
		},
	}
}

// deb is a package with these files, as Debian's are laid out.
func deb(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, name := range []string{program, copyright, "usr/share/doc/busybox-static/examples/mdev.conf"} {
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	archive := []byte("!<arch>\n")
	for name, data := range map[string]string{"data.tar.xz": packed.String()} {
		archive = append(archive, ar("debian-binary", "2.0\n")+ar("control.tar.xz", "odd")+ar(name, data)...)
	}
	return archive
}

func ar(name, data string) string {
	text := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", name, 0, 0, 0, "100644", len(data), data)
	if len(data)%2 == 1 {
		text += "\n"
	}
	return text
}

func write(t *testing.T, c Contents) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "image")
	if err := Write(dir, c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree returns the checksum of every file.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		sums[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// TestWriteIsDeterministic: two builds, in two folders, are the same to the last byte; another version is another image.
func TestWriteIsDeterministic(t *testing.T) {
	t.Parallel()
	first, second := write(t, contents(t, "v1.2.3")), write(t, contents(t, "v1.2.3"))
	if diff := cmp.Diff(tree(t, first), tree(t, second)); diff != "" {
		t.Errorf("two builds differ (-first, +second):\n%s", diff)
	}
	digests := map[string]string{}
	for dir, tags := range map[string][]string{first: {"v1.2.3", "v1.2.3-busybox"}, write(t, contents(t, "v1.2.4")): {"v1.2.4", "v1.2.4-busybox"}} {
		for _, tag := range tags {
			digest, err := Digest(dir, tag)
			if err != nil {
				t.Fatal(err)
			}
			if other := digests[digest]; other != "" || !strings.HasPrefix(digest, "sha256:") {
				t.Errorf("%s is %s, as is %q", tag, digest, other)
			}
			digests[digest] = tag
		}
	}
	_, err := Digest(first, "v1.2.4")
	if want := first + " has no image v1.2.4"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestContents lists every file of both images for each architecture, as a runtime unpacks them.
func TestContents(t *testing.T) {
	t.Parallel()
	plain := []string{
		"-rw-r--r-- LICENSE", "drwxr-xr-x etc", "drwxr-xr-x etc/ssl", "drwxr-xr-x etc/ssl/certs",
		"-rw-r--r-- etc/ssl/certs/ca-certificates.crt", "-rwxr-xr-x oidc-dbt", "oidc-dbt-post -> oidc-dbt", "dtrwxrwxrwx tmp",
		"drwxr-xr-x usr", "drwxr-xr-x usr/local", "drwxr-xr-x usr/local/bin", "usr/local/bin/oidc-dbt -> /oidc-dbt",
	}
	shell := slices.Concat(plain, []string{
		"drwxr-xr-x bin", "-rwxr-xr-x bin/busybox", "drwxr-xr-x usr/bin", "usr/bin/env -> /bin/busybox", "drwxr-xr-x usr/share",
		"drwxr-xr-x usr/share/doc", "drwxr-xr-x usr/share/doc/busybox-static", "-rw-r--r-- " + copyright,
	})
	for _, name := range applets {
		shell = append(shell, "bin/"+name+" -> busybox")
	}
	slices.Sort(plain)
	slices.Sort(shell)
	path, images, err := tagged(write(t, contents(t, "v1.2.3")))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string][]string{"v1.2.3": plain, "v1.2.3-busybox": shell} {
		index, err := layout.ImageIndex(images[tag].Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var arches []string
		for _, m := range manifest.Manifests {
			arches = append(arches, m.Platform.String())
			img, err := index.Image(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			names, files := list(t, img)
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("%s for %s (-want +got):\n%s", tag, m.Platform, diff)
			}
			if got, want := files["oidc-dbt"], "binary for "+m.Platform.Architecture; got != want {
				t.Errorf("%s for %s has the binary %q, want %q", tag, m.Platform, got, want)
			}
			if got, want := files["bin/busybox"], "busybox for "+m.Platform.Architecture; tag != "v1.2.3" && got != want {
				t.Errorf("%s for %s has the BusyBox %q, want %q", tag, m.Platform, got, want)
			}
			checkConfig(t, img, m.Platform.Architecture)
		}
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, arches); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tag, diff)
		}
	}
}

// list returns the files of an image with their modes, and their texts.
func list(t *testing.T, img v1.Image) (names []string, files map[string]string) {
	t.Helper()
	files = map[string]string{}
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s belongs to %d:%d (%s:%s) and is of %s", h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime)
		}
		if h.Typeflag == tar.TypeSymlink {
			names = append(names, h.Name+" -> "+h.Linkname)
			continue
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names, files[h.Name] = append(names, h.FileInfo().Mode().String()+" "+h.Name), string(data)
	}
}

func checkConfig(t *testing.T, img v1.Image, goarch string) {
	t.Helper()
	got, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got.OS != "linux" || got.Architecture != goarch || got.Created.Unix() != 0 {
		t.Errorf("the image is for %s/%s and of %s", got.OS, got.Architecture, got.Created)
	}
	want := v1.Config{
		Entrypoint: []string{"/oidc-dbt"}, User: "0:0",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title": "oidc-dbt", "org.opencontainers.image.source": "https://github.com/oidc-dbt/oidc-dbt",
			"org.opencontainers.image.version": "v1.2.3", "org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("the image's configuration (-want +got):\n%s", diff)
	}
}

// TestRoots: the bundle is what Go's own reader of such files accepts, whole.
func TestRoots(t *testing.T) {
	t.Parallel()
	count := 0
	for rest := roots(); len(rest) > 0; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("after %d certificates: no PEM", count)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Error(err)
		}
	}
	if count < 100 || !x509.NewCertPool().AppendCertsFromPEM(roots()) {
		t.Errorf("%d certificates, want at least 100", count)
	}
}

// TestWriteFails: what is missing is named.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Contents)
		err    string
	}{
		{"no binary", func(c *Contents) { c.Binary = func(string) string { return "/none" } },
			"image v1.2.3: linux/amd64: open /none: no such file or directory"},
		{"no licence", func(c *Contents) { c.License = "/none" }, "image v1.2.3: linux/amd64: open /none: no such file or directory"},
		{"no package", func(c *Contents) { c.Shell = func(string) ([]byte, error) { return nil, errors.New("no network") } },
			"image v1.2.3-busybox: linux/amd64: no network"},
		{"no archive", func(c *Contents) { c.Shell = func(string) ([]byte, error) { return []byte("<html>"), nil } },
			"image v1.2.3-busybox: linux/amd64: unpack busybox: not an ar archive"},
		{"an archive that is cut off", func(c *Contents) {
			c.Shell = func(string) ([]byte, error) { return []byte("!<arch>\n" + ar("data.tar.xz", "text")[:62]), nil }
		}, "image v1.2.3-busybox: linux/amd64: unpack busybox: the ar archive is cut off"},
		{"another package", func(c *Contents) {
			c.Shell = func(string) ([]byte, error) { return []byte("!<arch>\n" + ar("data.tar.zst", "text")), nil }
		}, "image v1.2.3-busybox: linux/amd64: unpack busybox: the package has no data.tar.xz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := contents(t, "v1.2.3")
			tt.change(&c)
			if err := Write(filepath.Join(t.TempDir(), "image"), c); err == nil || err.Error() != tt.err {
				t.Errorf("error is %v, want %s", err, tt.err)
			}
		})
	}
}

// TestBusyboxOfAMirror: what comes from a mirror is the pinned package or an error, and the next mirror is asked.
func TestBusyboxOfAMirror(t *testing.T) {
	t.Parallel()
	p := pkg{"busybox-static_1_amd64.deb", fmt.Sprintf("%x", sha256.Sum256([]byte("the package")))}
	mux := http.NewServeMux()
	const path = "/pool/main/b/busybox/busybox-static_1_amd64.deb"
	mux.HandleFunc("/good"+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the package") })
	mux.HandleFunc("/other"+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "another package") })
	mux.HandleFunc("/large"+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxPackage+1)) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	other := fmt.Sprintf("%x", sha256.Sum256([]byte("another package")))
	for _, tt := range []struct {
		mirrors []string
		err     string
	}{
		{[]string{"good"}, ""},
		{[]string{"none", "other", "good"}, ""},
		{[]string{"none"}, "download busybox-static_1_amd64.deb from $S/none: status is 404, want 200"},
		{[]string{"other"}, "download busybox-static_1_amd64.deb from $S/other: its SHA-256 is " + other + ", want " + p.sha256},
		{[]string{"large"}, "download busybox-static_1_amd64.deb from $S/large: it has more than 8388608 bytes"},
		{[]string{"none", "other"}, "download busybox-static_1_amd64.deb from $S/none: status is 404, want 200\n" +
			"download busybox-static_1_amd64.deb from $S/other: its SHA-256 is " + other + ", want " + p.sha256},
	} {
		d := Debian{Client: server.Client()}
		for _, m := range tt.mirrors {
			d.Mirrors = append(d.Mirrors, server.URL+"/"+m)
		}
		data, err := d.find(t.Context(), p)
		if got := text(err); got != strings.ReplaceAll(tt.err, "$S", server.URL) || (tt.err == "") != (string(data) == "the package") {
			t.Errorf("%q: %q and the error %s, want %s", tt.mirrors, data, got, tt.err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestBusyboxOfAFolder: a downloaded package may have any name.
func TestBusyboxOfAFolder(t *testing.T) {
	t.Parallel()
	p := pkg{"busybox-static_1_amd64.deb", fmt.Sprintf("%x", sha256.Sum256([]byte("the package")))}
	d := Debian{Folder: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.Folder, "a.deb"), []byte("another package"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := d.find(t.Context(), p)
	if want := fmt.Sprintf("%s has no package with the SHA-256 %s: put busybox-static_1_amd64.deb there", d.Folder, p.sha256); text(err) != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if err := os.WriteFile(filepath.Join(d.Folder, "busybox-static_1%3a1_amd64.deb"), []byte("the package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := d.find(t.Context(), p); err != nil || string(data) != "the package" {
		t.Errorf("got %q and %v", data, err)
	}
}

// TestPush pushes twice, which changes nothing, and refuses to move a tag.
func TestPush(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/acme/oidc-dbt"
	dir := write(t, contents(t, "v1.2.3"))
	want := ""
	for _, tag := range []string{"v1.2.3", "v1.2.3-busybox"} {
		digest, err := Digest(dir, tag)
		if err != nil {
			t.Fatal(err)
		}
		want += repository + ":" + tag + "@" + digest + "\n"
	}
	for range 2 {
		said := ""
		if err := Push(t.Context(), dir, repository, func(text string) { said += text + "\n" }); err != nil || said != want {
			t.Errorf("error is %v, said\n%swant\n%s", err, said, want)
		}
	}
	other := contents(t, "v1.2.3")
	other.License = other.Binary("amd64")
	moved := write(t, other)
	have, _ := Digest(dir, "v1.2.3")
	new, _ := Digest(moved, "v1.2.3")
	err := Push(t.Context(), moved, repository, func(string) {})
	if want := fmt.Sprintf("push %s:v1.2.3: the tag is there with %s, want %s: a release's tag does not move", repository, have, new); text(err) != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestPushFails(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(refusing.Close)
	host := strings.TrimPrefix(refusing.URL, "http://")
	dir := write(t, contents(t, "v1.2.3"))
	empty := filepath.Join(t.TempDir(), "image")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(empty, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, repository, err string }{
		{empty, "localhost/x", "read " + empty + ": no images in it: build a release first, with --out"},
		{"/none", "localhost/x", "read /none: stat /none/index.json: no such file or directory"},
		{dir, "Not A Repository", `repository "Not A Repository": repository can only contain the characters ` +
			"`abcdefghijklmnopqrstuvwxyz0123456789_-./`: Not A Repository"},
		{dir, host + "/acme/oidc-dbt", "look for " + host + "/acme/oidc-dbt:v1.2.3: HEAD " + refusing.URL +
			"/v2/acme/oidc-dbt/manifests/v1.2.3: unexpected status code 403 Forbidden (HEAD responses have no body, use GET for details)"},
	} {
		if err := Push(t.Context(), tt.dir, tt.repository, func(string) {}); text(err) != tt.err {
			t.Errorf("%s: error is %v, want %s", tt.repository, err, tt.err)
		}
	}
}
