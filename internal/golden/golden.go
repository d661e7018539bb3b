// Package golden compares what tests get with files of the repository, and rewrites those where tests run with -update.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the files that tests compare with; read the diff before you commit it")

// Update reports whether the files are rewritten.
func Update() bool { return *update }

// Compare compares got with a file. Where got is "" there must be none.
func Compare(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		write(t, path, got)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil && (got != "" || !os.IsNotExist(err)) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it\n%s", path, diff)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if text == "" {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Case compares got with the parts of a case, an archive read from path, that
// are called `want` or `want/…`. A part that is empty is left out.
func Case(t testing.TB, path string, a *txtar.Archive, got ...txtar.File) {
	t.Helper()
	given := txtar.Archive{Comment: a.Comment}
	want := map[string]string{}
	for _, f := range a.Files {
		if f.Name == "want" || strings.HasPrefix(f.Name, "want/") {
			want[f.Name] = string(f.Data)
		} else {
			given.Files = append(given.Files, f)
		}
	}
	for _, f := range got {
		if !*update {
			if diff := cmp.Diff(want[f.Name], string(f.Data)); diff != "" {
				t.Errorf("%s, %s differs (-want +got); -update rewrites it\n%s", path, f.Name, diff)
			}
		}
		if len(f.Data) > 0 {
			given.Files = append(given.Files, f)
		}
		delete(want, f.Name)
	}
	for name := range want {
		t.Errorf("%s has a part %q, which no test compares", path, name)
	}
	if *update {
		write(t, path, string(txtar.Format(&given)))
	}
}

// pages is held while a page is rewritten: parallel tests own parts of one.
var pages sync.Mutex

// Table compares the part of a page between the comments `NAME:start` and
// `NAME:end` with what the code says.
func Table(t testing.TB, path, name, want string) {
	t.Helper()
	pages.Lock()
	defer pages.Unlock()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := Splice(t, string(page), name, want); *update {
		write(t, path, got)
	} else if diff := cmp.Diff(got, string(page)); diff != "" {
		t.Errorf("%s, the table %q is not as the code is (-want +got); -update rewrites it\n%s", path, name, diff)
	}
}

// Splice puts a table into a page, between the comments `NAME:start` and `NAME:end`.
func Splice(t testing.TB, page, name, table string) string {
	t.Helper()
	start, end := "<!-- "+name+":start -->\n", "<!-- "+name+":end -->"
	before, rest, _ := strings.Cut(page, start)
	_, after, closed := strings.Cut(rest, end)
	if !closed {
		t.Fatalf("the page has no %q … %q", strings.TrimSpace(start), end)
	}
	return before + start + table + end + after
}
