package auditlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// golden returns a record of internal/audit's tests as one line.
func golden(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("../audit/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read returns what is read of standard input: a record's correlation id, or
// the fault.
func read(t testing.TB, text string, o auditlog.Options) (got []string) {
	t.Helper()
	o.Stdin = strings.NewReader(text)
	for e, err := range auditlog.Read(t.Context(), []string{"-"}, o) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Record.Metadata.UID))
	}
	return got
}

func TestGoldens(t *testing.T) {
	t.Parallel()
	var allowed, issued auditlog.Record
	for name, to := range map[string]*auditlog.Record{"allowed": &allowed, "issued": &issued} {
		for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(golden(t, name))}) {
			if err != nil {
				t.Fatal(err)
			}
			*to = e.Record
		}
	}
	if allowed.Unmapped.Rule == nil || *allowed.Unmapped.Rule != (auditlog.Rule{Index: 1, Number: 2, Line: 17}) ||
		allowed.Repository() != "acme/analytics" || !allowed.Has("dbt-labs/dbt_utils@1.3.0") || allowed.At() != time.UnixMilli(1793620800000).UTC() {
		t.Errorf("the decision is %+v", allowed)
	}
	if u := issued.Unmapped; u.Outcome != "issued" || u.WarehouseKey["access_key_id"] != "ASIAEXAMPLE" || u.CredentialKind != "aws_session" ||
		issued.Session.Expires() != time.UnixMilli(1793624400000).UTC() || issued.Service.Name != "aws" {
		t.Errorf("the outcome is %+v", issued)
	}
}

// TestFields: every field that is read has a name that records have.
func TestFields(t *testing.T) {
	t.Parallel()
	var text []byte
	for _, file := range []string{"record.go", "statement.go"} {
		part, err := os.ReadFile("../audit/" + file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			name := f.Tag.Get("json")
			if !bytes.Contains(text, []byte("`json:\""+name+"\"")) && !bytes.Contains(text, []byte("`json:\""+name+",omitempty\"")) &&
				!strings.Contains("rule number claim got want", name) {
				t.Errorf("%s.%s: no record has %q", of.Name(), f.Name, name)
			}
			kind := f.Type
			for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice {
				kind = kind.Elem()
			}
			if kind.Kind() == reflect.Struct {
				walk(kind)
			}
		}
	}
	walk(reflect.TypeFor[auditlog.Record]())
}

func TestFaults(t *testing.T) {
	t.Parallel()
	good := golden(t, "denied")
	for _, tt := range []struct{ name, line, want string }{
		{"torn", good[:len(good)/2], "is no audit record, or a part of one: unexpected end of JSON input"},
		{"torn in a key", `{"class_uid`, "is no audit record, or a part of one: unexpected end of JSON input"},
		{"the end of a torn line", good[len(good)/2:], `is no audit record, or a part of one: invalid character 'v' looking for beginning of value`},
		{"two in a line", good + good, "is no audit record, or a part of one: invalid character '{' after top-level value"},
		{"zeros of a crash", "\x00\x00\x00", `is no audit record, or a part of one: invalid character '\x00' looking for beginning of value`},
		{"no object", "7", `is no audit record, or a part of one: json: cannot unmarshal number into Go value of type auditlog.Record`},
		{"another type", `{"class_uid":3002,"unmapped":{"target":["x"]}}`, `is no audit record: "unmapped.target" is a JSON array`},
		{"another event", `{"class_uid":2004}`, "is no audit record: class_uid is 2004, want 3002"},
		{"no id", `{"class_uid":3002}`, "is no audit record: metadata.correlation_uid is missing"},
		{"too long", `{"x":"` + strings.Repeat("x", 3<<20) + `"}`, "is longer than 1024 KiB: no audit record is"},
		{"a terminal's command", "\x1b]0;x\a", `is no audit record, or a part of one: invalid character '\x1b' looking for beginning of value`},
	} {
		got := read(t, good+"\n\n"+tt.line+"\r\n \n"+good, auditlog.Options{})
		want := []string{"standard input:1: RUN1-preauth", "standard input:3: " + tt.want, "standard input:5: RUN1-preauth"}
		if tt.name == "the end of a torn line" { // wherever the middle is
			got[1], want[1], _ = strings.Cut(got[1]+"\n"+got[1], "\n")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%q, want\n%q", tt.name, got, want)
		}
	}
	longest := `{"class_uid":3002,"metadata":{"correlation_uid":"x","uid":"y"},"message":"`
	longest += strings.Repeat("x", auditlog.MaxLine-len(longest)-2) + `"}`
	if got := read(t, longest+"\n"+longest, auditlog.Options{}); !slices.Equal(got, []string{"standard input:1: y", "standard input:2: y"}) {
		t.Errorf("got %q", got)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	lines := ""
	for i, tt := range []struct{ run, target, claims, packages string }{
		{"A", "prod", `{"repository":"acme/analytics"}`, `["dbt-labs/dbt_utils@1.3.0","https://github.com/acme/macros@4a57#sub"]`},
		{"A", "prod", `{"repository":"acme/analytics"}`, `[]`},
		{"B", "dev", `{"project_path":"acme/data/marts"}`, `["dbt-labs/dbt_utils@1.1.1","local:../x"]`},
		{"C", "dev", `{"organization_slug":"acme","pipeline_slug":"dbt"}`, `["other/dbt_utils@1.3.0","git.example.com:acme/x.git@main"]`},
		{"D", "dev", `{"pipeline_slug":"dbt","oidc.circleci.com/vcs-origin":"github.com/acme/x"}`, `null`},
		{"E", "dev", `{"ref":"refs/heads/main"}`, `null`},
	} {
		lines += fmt.Sprintf(`{"class_uid":3002,"time":%d,"metadata":{"correlation_uid":%q,"uid":%q},"unmapped":{"target":%q,"claims":%s,"dbt":[{"packages":%s}]}}`,
			i*1000, tt.run, tt.run, tt.target, tt.claims, tt.packages) + "\n"
	}
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	for _, tt := range []struct {
		name string
		o    auditlog.Options
		want string
	}{
		{"all", auditlog.Options{}, "A A B C D E"},
		{"since", auditlog.Options{Since: at(3)}, "C D E"},
		{"until", auditlog.Options{Until: at(3)}, "A A B"},
		{"target", auditlog.Options{Target: "prod"}, "A A"},
		{"repository", auditlog.Options{Repository: "acme/analytics"}, "A A"},
		{"a project of GitLab's", auditlog.Options{Repository: "acme/data/marts"}, "B"},
		{"a pipeline of Buildkite's", auditlog.Options{Repository: "acme/dbt"}, "C"},
		{"a project of CircleCI's", auditlog.Options{Repository: "github.com/acme/x"}, "D"},
		{"an owner's", auditlog.Options{Repository: "acme/*"}, "A A B C"},
		{"a part of a name", auditlog.Options{Repository: "acme/ana*"}, ""},
		{"another owner's", auditlog.Options{Repository: "acm/*"}, ""},
		{"a package", auditlog.Options{Package: "dbt-labs/dbt_utils"}, "A A B"},
		{"a package's version", auditlog.Options{Package: "dbt-labs/dbt_utils@1.3.0"}, "A A"},
		{"a git repository", auditlog.Options{Package: "https://github.com/acme/macros"}, "A A"},
		{"its commit", auditlog.Options{Package: "https://github.com/acme/macros@4a57"}, "A A"},
		{"an address like scp's", auditlog.Options{Package: "git.example.com:acme/x.git"}, "C"},
		{"a folder", auditlog.Options{Package: "local:../x"}, "B"},
		{"a part of a package", auditlog.Options{Package: "dbt_utils"}, ""},
		{"all of them", auditlog.Options{Package: "dbt-labs/dbt_utils", Target: "dev", Since: at(2), Repository: "acme/data/*"}, "B"},
	} {
		var got []string
		for _, line := range read(t, lines, tt.o) {
			got = append(got, line[len(line)-1:])
		}
		if have := strings.Join(got, " "); have != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, have, tt.want)
		}
	}
}

// put writes files below a folder.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func record(uid string) string {
	return fmt.Sprintf(`{"class_uid":3002,"metadata":{"correlation_uid":%q,"uid":%q}}`, uid, uid)
}

func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{
		"log/date=2026-11-02/B-decision.json": record("3") + "\n", "log/date=2026-11-02/B-outcome.json": record("4"),
		"log/date=2026-11-01/audit.jsonl": record("1") + "\n" + record("2") + "\n", "log/z.jsonl": record("5"), "log/notes.txt": "no", "log/.hidden.jsonl": "no",
		"log/.git/x.json": "no", "log/empty.jsonl": "", "packed/audit.jsonl.gz": "no", "other.jsonl": record("6"), ".typed": record("7"),
	})
	if err := errors.Join(os.Symlink(filepath.Join(dir, "other.jsonl"), filepath.Join(dir, "log", "link.jsonl")),
		os.Symlink(dir, filepath.Join(dir, "log", "up")), os.Symlink("log", filepath.Join(dir, "linked"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		paths []string
		want  string
	}{
		{[]string{"log"}, "1 2 3 4 5"},
		{[]string{filepath.Join(dir, "log", "date=2026-11-02"), "-", "other.jsonl"}, "3 4 0 6"},
		{[]string{"linked", "linked/link.jsonl", ".typed"}, "1 2 3 4 5 6 7"},
		{[]string{"log/z.jsonl", "missing", "other.jsonl"}, `5 read audit records: there is no file or folder "missing"`},
		{[]string{"log/z.jsonl", "packed"}, `5 read audit records: there is no file below "packed" whose name ends in .jsonl or .json`},
		{nil, ""},
	} {
		var got []string
		for e, err := range auditlog.Read(t.Context(), tt.paths, auditlog.Options{Dir: dir, Stdin: strings.NewReader(record("0"))}) {
			if err != nil {
				got = append(got, err.Error())
				if fault.ClassOf(err) != fault.Usage {
					t.Errorf("%v is of class %s", err, fault.ClassOf(err))
				}
				continue
			}
			got = append(got, e.Record.Metadata.UID)
		}
		if have := strings.Join(got, " "); have != tt.want {
			t.Errorf("%q: got %q, want %q", tt.paths, have, tt.want)
		}
	}
	for e, err := range auditlog.Read(t.Context(), []string{"log"}, auditlog.Options{Dir: dir}) {
		if want := filepath.Join("log", "date=2026-11-01", "audit.jsonl"); err != nil || e.File != want || e.Line != 1 {
			t.Errorf("got %s:%d, %v, want %s:1", e.File, e.Line, err, want)
		}
		break
	}
}

// TestEnds: who wants no more gets no more, and an end of the context or a
// fault of the disk is the last that is said.
func TestEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := 0
	for _, err := range auditlog.Read(ctx, []string{"-", "-"}, auditlog.Options{Stdin: strings.NewReader(strings.Repeat("x\n", 10))}) {
		if count++; count == 3 {
			cancel()
		}
		if want := "context canceled"; count == 4 && (err == nil || err.Error() != want) || count > 4 {
			t.Errorf("error %d is %v, want %s", count, err, want)
		}
	}
	broken := io.MultiReader(strings.NewReader(record("1")+"\n{"), failing{})
	got := []string{}
	for e, err := range auditlog.Read(t.Context(), []string{"-", "-"}, auditlog.Options{Stdin: broken}) {
		got = append(got, fmt.Sprint(e.Record.Metadata.UID, err))
	}
	if want := []string{"1<nil>", `read audit records "-": disk is gone`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk is gone") }

// simple reads a text as a whole, with nothing of the reader's.
func simple(text string) (got []string) {
	for i, line := range strings.Split(text, "\n") {
		var r struct {
			ClassUID int `json:"class_uid"`
			Metadata struct {
				CorrelationUID string `json:"correlation_uid"`
				UID            string `json:"uid"`
			} `json:"metadata"`
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if len(line) > auditlog.MaxLine || json.Unmarshal([]byte(line), &r) != nil || r.ClassUID != 3002 || r.Metadata.CorrelationUID == "" {
			got = append(got, fmt.Sprintf("%d: fault", i+1))
			continue
		}
		got = append(got, fmt.Sprintf("%d: %s", i+1, r.Metadata.UID))
	}
	return got
}

// same compares both readers.
func same(t testing.TB, text string) {
	t.Helper()
	got := []string{}
	for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(text)}) {
		var f *auditlog.Fault
		switch {
		case errors.As(err, &f):
			got = append(got, fmt.Sprintf("%d: fault", f.Line))
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, fmt.Sprintf("%d: %s", e.Line, e.Record.Metadata.UID))
		}
	}
	if want := simple(text); !slices.Equal(got, want) {
		t.Errorf("%.300q: got\n%.300q, want\n%.300q", text, got, want)
	}
}

// TestSameAsInMemory: damaged logs mean the same to the simplest reader.
func TestSameAsInMemory(t *testing.T) {
	t.Parallel()
	const seed = 20261128
	random := rand.New(rand.NewPCG(seed, 1))
	pieces := []string{"\n", "\r\n", "\n\n", " ", "{", "}", "\x00", `"`, "\ufeff", strings.Repeat("x", 70<<10), strings.Repeat(" ", 70<<10), record("A"), record("B") + "\n", golden(t, "denied") + "\n"}
	for range 2000 / sampling.Share {
		var b strings.Builder
		for range random.IntN(12) {
			piece := pieces[random.IntN(len(pieces))]
			if random.IntN(4) == 0 {
				piece = piece[:random.IntN(len(piece)+1)]
			}
			b.WriteString(piece)
		}
		same(t, b.String())
	}
}

func FuzzRead(f *testing.F) {
	f.Add(golden(f, "denied") + "\n" + golden(f, "issued"))
	f.Add(record("A") + "\n{\n\n\x00" + record("B"))
	f.Fuzz(func(t *testing.T, text string) {
		lines := 0
		for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(text)}) {
			lines++
			var f *auditlog.Fault
			if err != nil && !errors.As(err, &f) || err == nil && (e.Line < 1 || e.Record.Metadata.CorrelationUID == "") {
				t.Fatalf("%q: %v, %v", text, e, err)
			}
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Fatalf("%q: %q would reach a terminal", text, err)
			}
		}
		if most := strings.Count(text, "\n") + 1; lines > most {
			t.Fatalf("%q: %d lines of %d", text, lines, most)
		}
	})
}

// endless makes lines until it has made so many bytes.
type endless struct {
	line []byte
	left int
	rest []byte
}

func (e *endless) Read(to []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if len(e.rest) == 0 {
		e.rest = e.line
	}
	n := copy(to, e.rest)
	e.rest, e.left = e.rest[n:], e.left-n
	return n, nil
}

// TestMemory: what is live after 200 MB of records is less than a few lines,
// whether they are records or one line without an end.
func TestMemory(t *testing.T) { // not parallel: it measures the heap of the process
	for name, in := range map[string]*endless{
		"records": {line: []byte(golden(t, "issued") + "\n"), left: (200 << 20) / sampling.Share}, "one line": {line: []byte("x"), left: 100 << 20},
	} {
		if name == "one line" {
			in.line = bytes.Repeat([]byte("x"), 1<<20)
		}
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		most, lines := uint64(0), 0
		measure := func() {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc-min(before.HeapAlloc, now.HeapAlloc))
		}
		for range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: in}) {
			if lines++; lines%5000 == 0 {
				measure()
			}
		}
		measure()
		if most > 8<<20 || lines == 0 {
			t.Errorf("%s: %d lines, %d KiB live", name, lines, most>>10)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	text := strings.Repeat(golden(b, "allowed")+"\n"+golden(b, "issued")+"\n", 500)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		for _, err := range auditlog.Read(b.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(text)}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestLargeFile reads a file of more bytes than a 32-bit number counts, whose
// middle a crash has filled with zeros.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	const size = int64(5<<30) / sampling.Share
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	first, last := record("first")+"\n", "\n"+record("last")+"\n"
	_, err = f.WriteString(first)
	_, aerr := f.WriteAt([]byte(last), size) // what is between takes no space
	if err := errors.Join(err, aerr, f.Close()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range auditlog.Read(t.Context(), []string{path}, auditlog.Options{}) {
		got = append(got, fmt.Sprint(e.Record.Metadata.UID, strings.TrimPrefix(fmt.Sprint(err), path)))
	}
	if want := []string{"first<nil>", ":2: is longer than 1024 KiB: no audit record is", "last<nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
