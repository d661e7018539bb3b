package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// TestLasting: a renewal goes on where room is made, and says no at once where
// the log will never be written.
func TestLasting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err   error
		lasts bool
	}{
		{fs.ErrPermission, true}, {syscall.EACCES, true}, {syscall.EPERM, true}, {syscall.EROFS, true}, {syscall.ENOTDIR, true}, {syscall.ENAMETOOLONG, true},
		{syscall.ENOSPC, false}, {syscall.EIO, false}, {syscall.EMFILE, false}, {syscall.ENFILE, false}, {syscall.EINTR, false}, {io.ErrShortWrite, false}, {errors.New("other"), false},
	} {
		words := fault.New(fault.Internal, errors.New("append audit record"), fullHint)
		got := marked(fmt.Errorf("twice: %w", &fs.PathError{Op: "write", Path: "audit.jsonl", Err: tt.err}), words)
		if fault.Lasts(got) != tt.lasts || fault.ClassOf(got) != fault.Internal || fault.Hint(got) != fullHint || got.Error() != words.Error() {
			t.Errorf("%v: lasts %v, class %s, %q (hint %q)", tt.err, fault.Lasts(got), fault.ClassOf(got), got, fault.Hint(got))
		}
	}
}

// TestOpenLasts asks the system itself.
func TestOpenLasts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(file, "below", "audit.jsonl"), dir} {
		if l, err := Open(path); err == nil || !fault.Lasts(err) {
			t.Errorf("%q: %v, %v", path, l, err)
		}
	}
	log, err := Open(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := log.Append(Record{}); err == nil || fault.Lasts(err) {
		t.Errorf("a closed file: %v", err)
	}
}
