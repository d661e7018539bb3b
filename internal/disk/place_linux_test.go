package disk_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// TestNamesInProc: a process's folders have names in /proc, too.
func TestNamesInProc(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(base, "repo")
	if err := os.MkdirAll(filepath.Join(repo, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"repo/policy", "repo/sub/policy", "policy"} {
		if err := os.WriteFile(filepath.Join(base, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := exec.Command("sleep", "600")
	there.Dir = filepath.Join(repo, "sub")
	if err := there.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Process.Kill(); _ = there.Wait() })
	cwd := fmt.Sprintf("/proc/%d/cwd", there.Process.Pid)
	open, err := os.Open(filepath.Join(repo, "policy"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	gone, err := os.Create(filepath.Join(base, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if err := os.Remove(gone.Name()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want bool
		err  string
	}{
		{cwd + "/policy", true, ""},
		{cwd + "/../policy", true, ""},
		{cwd + "/../../policy", true, ""}, // through it
		{"/proc/self/root" + repo + "/policy", true, ""},
		{fmt.Sprintf("/proc/%d/root%s/policy", there.Process.Pid, repo), true, ""},
		{"/proc/self/root" + base + "/policy", false, ""},
		{fmt.Sprintf("/proc/self/fd/%d", open.Fd()), true, ""},
		{fmt.Sprintf("/dev/fd/%d", open.Fd()), true, ""},
		{fmt.Sprintf("/proc/self/fd/%d", gone.Fd()), false, fmt.Sprintf("leads to a different file than its links say (%q)", gone.Name()+" (deleted)")},
	} {
		got, err := disk.Supplied(t.Context(), tt.path, repo)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || text != tt.err {
			t.Errorf("Supplied(%s) = %t, %q, want %t, %q", tt.path, got, text, tt.want, tt.err)
		}
	}
}

// TestReadOfProc: a file that says it has no size is read whole, and not
// beyond the limit.
func TestReadOfProc(t *testing.T) {
	t.Parallel()
	text, err := disk.Read("/proc/self/status", 1<<20)
	if err != nil || !strings.HasPrefix(string(text), "Name:") {
		t.Errorf("read %.20q, %v", text, err)
	}
	_, err = disk.Read("/proc/self/status", 20)
	check(t, "Read", "/proc/self/status", err, "is larger than 0 KiB")
}

// mounts names a variable that has this test's binary mount in a namespace of
// its own, below the folder that the variable holds, and print what it finds.
const mounts = "DISK_TEST_MOUNTS"

func TestMain(m *testing.M) {
	base := os.Getenv(mounts)
	if base == "" {
		os.Exit(m.Run())
	}
	for _, pair := range [][2]string{{"repo", "second"}, {"repo/sub", "sub"}, {"repo/policy", "file"}, {"other", "elsewhere"}, {"shared", "repo/shared"}} {
		if err := syscall.Mount(filepath.Join(base, pair[0]), filepath.Join(base, pair[1]), "", syscall.MS_BIND, ""); err != nil {
			fmt.Println("mount:", err)
			os.Exit(0)
		}
	}
	for _, path := range []string{"second/policy", "second/sub/policy", "sub/policy", "sub/deep/policy", "file", "elsewhere/policy", "shared/policy"} {
		within, err := disk.Within(filepath.Join(base, path), filepath.Join(base, "repo"))
		supplied, serr := disk.Supplied(context.Background(), filepath.Join(base, path), filepath.Join(base, "repo"))
		fmt.Println(path, within, err, supplied, serr)
	}
	os.Exit(0)
}

// TestMounts: a second mount of the folder, or of something in it, is no
// other place. It needs a system that lets users have name spaces.
func TestMounts(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"repo/sub/deep", "repo/shared", "second", "sub", "other", "elsewhere", "shared"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"repo/policy", "repo/sub/policy", "repo/sub/deep/policy", "file", "other/policy", "shared/policy"} {
		if err := os.WriteFile(filepath.Join(base, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), mounts+"="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.HasPrefix(string(out), "mount: ") {
		t.Logf("this system lets nobody mount: %v\n%s", err, out)
		return
	}
	const want = `second/policy true <nil> true <nil>
second/sub/policy true <nil> true <nil>
sub/policy false <nil> true <nil>
sub/deep/policy false <nil> true <nil>
file false <nil> true <nil>
elsewhere/policy false <nil> false <nil>
shared/policy false <nil> true <nil>
`
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}
