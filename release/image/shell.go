package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
)

// A pkg is a package of Debian's, pinned.
type pkg struct{ name, sha256 string }

// busybox are Debian 13's packages of the statically linked BusyBox. To update them: `apt-get update`, then
// `apt-get download --print-uris busybox-static:amd64 busybox-static:arm64`.
var busybox = map[string]pkg{
	"amd64": {"busybox-static_1.37.0-6+b9_amd64.deb", "598a3fd92bdafc34cd81196b2952ad36e910e47a4ecf162f8ce5e8e262598e53"},
	"arm64": {"busybox-static_1.37.0-6+b9_arm64.deb", "c833be48abfa16bc19c4966ec93e289ff1ce5d2f1476cad3a57bd105378cd15c"},
}

// applets are the programs of BusyBox that the image has by their names: what runners in Kubernetes mode and CI
// systems start (sh, env, tail), copy with (tar), and what their scripts call. There is none that reaches a network.
var applets = strings.Fields("[ ash awk base64 basename cat chmod chown cp cut date dirname echo env expr false find grep gunzip " +
	"gzip head hostname id kill ln ls md5sum mkdir mktemp mv nproc printf ps pwd readlink realpath rm rmdir sed seq sh " +
	"sha256sum sleep sort stat stty tail tar tee test timeout touch tr true tty uname uniq wc which whoami xargs")

// A Debian is where packages come from: a folder with downloaded ones (their names do not matter), or a mirror.
type Debian struct {
	Folder  string   // "" for none
	Mirrors []string // tried in their order
	Client  *http.Client
}

// Mirrors are Debian's: today's packages, and all that there ever were.
func Mirrors() []string {
	return []string{"https://deb.debian.org/debian", "https://snapshot.debian.org/archive/debian/20261128T000000Z"}
}

// maxPackage bounds what is downloaded: the packages have under 1 MiB.
const maxPackage = 8 << 20

// Busybox returns the package for an architecture, whose checksum is right.
func (d Debian) Busybox(ctx context.Context, goarch string) ([]byte, error) {
	return d.find(ctx, busybox[goarch])
}

func (d Debian) find(ctx context.Context, p pkg) ([]byte, error) {
	if d.Folder != "" {
		files, err := filepath.Glob(filepath.Join(d.Folder, "*.deb"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if data, err := os.ReadFile(f); err == nil && p.check(data) == nil {
				return data, nil
			}
		}
		return nil, fmt.Errorf("%s has no package with the SHA-256 %s: put %s there", d.Folder, p.sha256, p.name)
	}
	var errs []error
	for _, mirror := range d.Mirrors {
		data, err := d.download(ctx, mirror+"/pool/main/b/busybox/"+p.name)
		if err == nil {
			err = p.check(data)
		}
		if err == nil {
			return data, nil
		}
		errs = append(errs, fmt.Errorf("download %s from %s: %w", p.name, mirror, err))
	}
	return nil, errors.Join(errs...)
}

func (p pkg) check(data []byte) error {
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != p.sha256 {
		return fmt.Errorf("its SHA-256 is %s, want %s", got, p.sha256)
	}
	return nil
}

func (d Debian) download(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := d.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status is %d, want 200", res.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxPackage+1))
	if err == nil && len(data) > maxPackage {
		err = fmt.Errorf("it has more than %d bytes", maxPackage)
	}
	return data, err
}

const (
	program   = "usr/bin/busybox"
	copyright = "usr/share/doc/busybox-static/copyright"
)

// shellFiles are the files of the layer with a shell: BusyBox, links to it, and its licence.
func shellFiles(deb []byte) ([]file, error) {
	found, err := unpack(deb, program, copyright)
	if err != nil {
		return nil, fmt.Errorf("unpack busybox: %w", err)
	}
	files := []file{
		{name: "bin/", mode: 0o755},
		{name: "bin/busybox", mode: 0o755, data: found[program]},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/env", link: "/bin/busybox"}, // where the first line of a script looks for it
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/doc/", mode: 0o755},
		{name: "usr/share/doc/busybox-static/", mode: 0o755},
		{name: copyright, mode: 0o644, data: found[copyright]},
	}
	for _, name := range applets {
		files = append(files, file{name: "bin/" + name, link: "busybox"})
	}
	return files, nil
}

// unpack returns files of a package of Debian's: an ar archive with data.tar.xz.
func unpack(deb []byte, names ...string) (map[string][]byte, error) {
	data, err := member(deb, "data.tar.xz")
	if err != nil {
		return nil, err
	}
	z, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if h.Typeflag == tar.TypeReg && strings.TrimPrefix(h.Name, "./") == name {
				if found[name], err = io.ReadAll(r); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, name := range names {
		if found[name] == nil {
			return nil, fmt.Errorf("the package has no %s", name)
		}
	}
	return found, nil
}

// member returns a member of an ar archive.
func member(archive []byte, name string) ([]byte, error) {
	const magic, header = "!<arch>\n", 60
	rest, ok := bytes.CutPrefix(archive, []byte(magic))
	if !ok {
		return nil, errors.New("not an ar archive")
	}
	for len(rest) >= header {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size < 0 || size > len(rest)-header {
			return nil, errors.New("the ar archive is cut off")
		}
		if strings.TrimRight(string(rest[:16]), "/ ") == name {
			return rest[header : header+size], nil
		}
		rest = rest[min(header+size+size%2, len(rest)):]
	}
	return nil, fmt.Errorf("the package has no %s", name)
}
