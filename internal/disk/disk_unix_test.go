//go:build unix

package disk_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// places makes one of each kind of file, and links to them.
func places(t *testing.T) (at func(name string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "disk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at = func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	err = errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.Mkdir(at("folder"), 0o700),
		os.WriteFile(at("file"), []byte("0123456789"), 0o600), os.WriteFile(at("unreadable"), nil, 0o000))
	for name, to := range map[string]string{
		"to-pipe": "pipe", "to-folder": "folder", "to-file": "file", "to-socket": "socket", "to-null": "/dev/null", "to-zero": "/dev/zero",
		"to-nothing": "nothing", "to-itself": "to-itself", "twice": "to-pipe",
	} {
		err = errors.Join(err, os.Symlink(to, at(name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}

const (
	pipe   = "is a named pipe, want a regular file"
	folder = "is a directory, want a regular file"
	device = "is a device, want a regular file"
	socket = "is a socket, want a regular file"
	link   = "is a symbolic link, want a regular file"
)

// TestNothingButRegularFiles: none of these calls waits, and none reads
// without end.
func TestNothingButRegularFiles(t *testing.T) {
	t.Parallel()
	at := places(t)
	for _, tt := range []struct{ name, err, own string }{
		{"file", "", ""},
		{"to-file", "", link},
		{"pipe", pipe, pipe},
		{"to-pipe", pipe, link},
		{"twice", pipe, link},
		{"folder", folder, folder},
		{"to-folder", folder, link},
		{"socket", socket, socket},
		{"to-socket", socket, link},
		{"/dev/null", device, device},
		{"/dev/zero", device, device},
		{"/dev/tty", device, device},
		{"to-null", device, link},
		{"to-zero", device, link},
		{"nothing", "no such file or directory", "no such file or directory"},
		{"to-nothing", "no such file or directory", link},
		{"to-itself", "too many levels of symbolic links", link},
		{"file/in-it", "not a directory", "not a directory"},
	} {
		path := tt.name
		if !filepath.IsAbs(path) {
			path = at(path)
		}
		_, err := disk.Read(path, 10)
		check(t, "Read", path, err, tt.err)
		_, err = disk.ReadOwn(path, 10)
		check(t, "ReadOwn", path, err, tt.own)
		if tt.name == "to-nothing" {
			continue // it would be made
		}
		for _, flag := range []int{os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND} {
			f, err := disk.Open(path, flag, 0)
			check(t, "Open", path, err, tt.err)
			f.Close()
		}
	}
	f, err := disk.Open(at("to-nothing"), os.O_RDWR|os.O_CREATE, 0o600)
	check(t, "Open", "to-nothing", err, "")
	f.Close()
	if err := disk.Check(at("pipe")); !errors.As(err, new(disk.NotRegular)) {
		t.Errorf("Check of a pipe: %v, want a NotRegular", err)
	}
}

// check compares an error's words without the operation and the path.
func check(t *testing.T, call, path string, err error, want string) {
	t.Helper()
	got := ""
	var perr *os.PathError
	switch {
	case errors.As(err, &perr):
		got = perr.Err.Error()
	case err != nil:
		got = "no PathError: " + err.Error()
	}
	if got != want {
		t.Errorf("%s(%s): %q, want %q", call, path, got, want)
	}
}

func TestReadLimit(t *testing.T) {
	t.Parallel()
	at := places(t)
	for limit, want := range map[int64]string{10: "", 11: "", 9: "is larger than 0 KiB"} {
		text, err := disk.Read(at("file"), limit)
		check(t, "Read", fmt.Sprint(limit), err, want)
		if err == nil && string(text) != "0123456789" {
			t.Errorf("read %q", text)
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	at := places(t)
	want := "permission denied"
	if os.Geteuid() == 0 {
		want = "" // root reads all
	}
	_, err := disk.Read(at("unreadable"), 10)
	check(t, "Read", "unreadable", err, want)
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(base, name) }
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{
		{"open", 0o777}, {"open/mine", 0o700}, {"sticky", 0o777 | os.ModeSticky}, {"sticky/mine", 0o700},
		{"group", 0o700}, {"entered", 0o710}, {"deep", 0o755}, {"deep/open", 0o777}, {"deep/open/a", 0o755}, {"deep/open/a/mine", 0o700},
	} {
		if err := errors.Join(os.Mkdir(at(d.name), 0o700), os.Chmod(at(d.name), d.mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.Symlink("group", at("link"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, err string }{
		{"group", ""},
		{"sticky/mine", ""},
		{"open/mine", fmt.Sprintf("%q above it is writable by everyone (drwxrwxrwx)", at("open"))},
		{"deep/open/a/mine", fmt.Sprintf("%q above it is writable by everyone (drwxrwxrwx)", at("deep/open"))},
		{"entered", "is accessible to other users (-rwx--x---)"},
		{"file", "not a folder"},
		{"link", "not a folder"},
		{"none", "no such file or directory"},
	} {
		check(t, "Private", tt.name, disk.Private(at(tt.name)), tt.err)
	}
	for name, want := range map[string]string{
		"open/mine":        "",
		"entered":          "is accessible to other users (-rwx--x---)",
		"deep/open/a/mine": fmt.Sprintf("%q above it is writable by everyone (drwxrwxrwx)", at("deep/open")),
	} {
		check(t, "PrivateInVolume", name, disk.PrivateInVolume(at(name)), want)
	}
	if os.Geteuid() != 0 {
		check(t, "Private", "/", disk.Private("/"), fmt.Sprintf("is owned by user 0, want %d, the user running this program", os.Geteuid()))
		return
	}
	// Root can make what is another's.
	if err := errors.Join(os.Chown(at("group"), 12345, -1), os.Chown(at("file"), 12345, -1), os.Chown(at("deep"), -1, 12345), os.Chmod(at("deep"), 0o775), os.Chmod(at("deep/open"), 0o755)); err != nil {
		t.Fatal(err)
	}
	check(t, "Private", "group", disk.Private(at("group")), "is owned by user 12345, want 0, the user running this program")
	check(t, "Private", "deep", disk.Private(at("deep/open/a/mine")), fmt.Sprintf("%q above it is writable by group 12345 (drwxrwxr-x)", at("deep")))
	_, err = disk.ReadOwn(at("file"), 10)
	check(t, "ReadOwn", "file", err, "is owned by user 12345, want 0, the user running this program")
}

func TestWhereAPathLeads(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return base + "/" + name // not Join: ".." stays
	}
	for _, dir := range []string{"work/repo/sub", "work/repo-two", "out/deep"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"work/repo/policy", "work/repo/sub/policy", "work/repo-two/policy", "out/policy", "out/deep/policy", "work/repo/second-name"} {
		if err := os.WriteFile(at(file), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(at("work/repo/second-name"), at("out/hard-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(at("out/policy"), at("out/deep/hard-link")); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"out/to-repo": at("work/repo"), "out/to-sub": "../work/repo/sub", "out/to-file": at("work/repo/policy"), "out/twice": "to-file",
		"work/repo/outward": at("out"), "work/repo/outward-file": at("out/policy"), "out/through": at("work/repo/outward"), "out/through-file": at("work/repo/outward-file"),
		"workspace": at("work/repo"), "out/to-out": at("out/deep"), "out/later": at("work/repo/later"), "out/loop": "loop",
	} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	const yes, no = true, false
	for _, tt := range []struct {
		path             string
		within, supplied bool
	}{
		{"out/policy", no, no},
		{"out/deep/policy", no, no},
		{"out/deep/hard-link", no, no}, // its other name is not in the workspace either
		{"out/to-out/policy", no, no},
		{"work/repo-two/policy", no, no},
		{"out/none/none", no, no},
		{"work/repo/policy", yes, yes},
		{"work/repo/sub/policy", yes, yes},
		{"work/repo/none", yes, yes},
		{"work/repo", yes, yes},
		{"work/repo/sub/../policy", yes, yes},
		{"work/repo-two/../repo/policy", yes, yes},
		{"work/repo/../repo-two/policy", no, yes}, // the folder that it goes through decides
		{"out/to-repo/policy", yes, yes},
		{"out/to-sub/policy", yes, yes},
		{"out/to-sub/../policy", yes, yes}, // of where the link leads
		{"out/to-file", yes, yes},
		{"out/twice", yes, yes},
		{"out/later", yes, yes},
		{"work/repo/outward/policy", no, yes},
		{"work/repo/outward-file", no, yes},
		{"out/through/policy", no, yes},
		{"out/through-file", no, yes},
		{"out/hard-link", no, yes},
	} {
		for _, dir := range []string{"work/repo", "workspace", "work/repo/sub/.."} {
			if got, err := disk.Within(at(tt.path), at(dir)); err != nil || got != tt.within {
				t.Errorf("Within(%s, %s) = %t, %v, want %t", tt.path, dir, got, err, tt.within)
			}
			if got, err := disk.Supplied(t.Context(), at(tt.path), at(dir)); err != nil || got != tt.supplied {
				t.Errorf("Supplied(%s, %s) = %t, %v, want %t", tt.path, dir, got, err, tt.supplied)
			}
		}
		if got, err := disk.Supplied(t.Context(), at(tt.path), at("work/none")); err != nil || got {
			t.Errorf("Supplied(%s) of a folder that is not there = %t, %v", tt.path, got, err)
		}
	}
	_, err = disk.Supplied(t.Context(), at("out/loop"), at("work/repo"))
	check(t, "Supplied", "out/loop", err, "too many symbolic links")
	_, err = disk.Supplied(t.Context(), at("out/policy/x"), at("work/repo"))
	check(t, "Supplied", "out/policy/x", err, "not a directory")
}
