// Package auditlog reads audit records as a stream: files, folders, buckets and standard input of
// any size, one line, or a few objects, in memory at a time.
package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/bucket"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// MaxLine is the longest line that is read: a record is cut to less than
// 256 KiB, and a file without line ends must not fill the memory.
const MaxLine = 1 << 20

// StandardInput is its path.
const StandardInput = "-"

// Options say what is read.
type Options struct {
	Dir   string    // which relative paths start at, "" for the process's own
	Stdin io.Reader // what StandardInput reads
	// Buckets are those of the paths that are URLs: see IsBucket.
	Buckets map[string]*bucket.Bucket
	// Since and Until, if they are not zero, bound the records' time: Since
	// included, Until not.
	Since, Until time.Time
	// Repository, Target and Package, if they are not "", are what a record
	// must be about: see Record.Repository and Record.Has. Only a decision
	// names packages: with Package, the later records of its run belong to it.
	Repository, Target, Package string
	// Statements has Read also return the records of statements: a run may have
	// thousands.
	Statements bool
}

// An Entry is a record and its place.
type Entry struct {
	File   string // the path as it was given, with the name below it
	Line   int    // from 1
	Record Record
	Text   []byte // the line itself, valid until the next Entry
}

// A Fault is a line that is no audit record.
type Fault struct {
	File string
	Line int
	Err  error
}

// Error implements error.
func (f *Fault) Error() string { return fmt.Sprintf("%s:%d: %v", f.File, f.Line, f.Err) }

// Unwrap returns the reason.
func (f *Fault) Unwrap() error { return f.Err }

// IsBucket reports whether a path is the URL of a bucket.
func IsBucket(path string) bool { return strings.Contains(path, "://") }

// Read returns the records of the paths in their order: of files, of standard
// input, and of folders and buckets everything below them whose name ends in
// .jsonl or .json, in the order of names. Hidden names and symbolic links are
// left out. Of a bucket, what Options do not want is not read as far as names tell
// (a day, records of statements). After an error that is a *Fault, reading goes on
// with the next line. Any other error (a file that cannot be read, the end of ctx)
// is the last.
func Read(ctx context.Context, paths []string, o Options) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := &reader{options: o, yield: yield, runs: map[string]bool{}}
		for _, p := range paths {
			err := r.path(ctx, p)
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// errStopped is that the caller wants no more.
var errStopped = errors.New("stopped")

// A reader is one call of Read.
type reader struct {
	options Options
	yield   func(Entry, error) bool
	runs    map[string]bool // that have Options.Package
}

func (r *reader) path(ctx context.Context, name string) error {
	if name == StandardInput {
		return named(name, r.lines(ctx, "standard input", r.options.Stdin))
	}
	if b := r.options.Buckets[name]; b != nil {
		return r.bucket(ctx, name, b)
	}
	full := name
	if !filepath.IsAbs(full) && full != "" {
		full = filepath.Join(r.options.Dir, name)
	}
	info, err := os.Stat(full)
	if err != nil {
		return named(name, err)
	}
	if info.IsDir() {
		return r.folder(ctx, name, full)
	}
	f, err := disk.Open(full, os.O_RDONLY, 0)
	if err != nil {
		return named(name, err)
	}
	defer f.Close()
	return named(name, r.lines(ctx, name, f))
}

// folder reads what is below a folder, and nothing outside it.
func (r *reader) folder(ctx context.Context, name, full string) error {
	root, err := os.OpenRoot(full)
	if err != nil {
		return named(name, err)
	}
	defer root.Close()
	any := false
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		at := filepath.Join(name, filepath.FromSlash(p))
		hidden := p != "." && isHidden(d.Name())
		switch {
		case err != nil:
			return named(at, err)
		case d.IsDir() && hidden:
			return fs.SkipDir
		case !d.Type().IsRegular() || hidden || !hasRecords(p):
			return nil
		}
		any = true
		f, err := root.Open(filepath.FromSlash(p))
		if err != nil {
			return named(at, err)
		}
		defer f.Close()
		return named(at, r.lines(ctx, at, f))
	})
	if err == nil && !any { // as of a bucket: the path is wrong, and nothing must not pass for records without a fault
		return fault.New(fault.Usage, fmt.Errorf("read audit records: there is no file below %q whose name ends in .jsonl or .json", name),
			"decompress a file with `gunzip -c`, and read it as - (standard input)")
	}
	return err
}

func isHidden(name string) bool { return strings.HasPrefix(name, ".") }

// hasRecords reports whether a file or an object may have records.
func hasRecords(name string) bool { return path.Ext(name) == ".jsonl" || path.Ext(name) == ".json" }

// bucket reads what is below a bucket's prefix.
func (r *reader) bucket(ctx context.Context, name string, b *bucket.Bucket) error {
	wanted := func(object string) bool {
		statements := ObjectOf(object) > 0
		return hasRecords(object) && (!statements || r.options.Statements) &&
			!slices.ContainsFunc(strings.Split(object, "/"), isHidden)
	}
	for o, err := range b.Objects(ctx, bucket.Select{Since: r.options.Since, Until: r.options.Until, Wanted: wanted}) {
		at := strings.TrimSuffix(name, "/") + "/" + o.Name
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fault.New(fault.Unreachable, fmt.Errorf("read audit records %q: %w", name, err), "")
		case o.Err != nil || o.Size > bucket.MaxObject:
			if err = o.Err; err == nil {
				err = fmt.Errorf("is an object of %d bytes, want at most %d: copy it, and read the file", o.Size, bucket.MaxObject)
			}
			if !r.yield(Entry{}, &Fault{at, 1, err}) {
				return errStopped
			}
			continue
		}
		if err := r.lines(ctx, at, bytes.NewReader(o.Text)); err != nil {
			return err
		}
	}
	return nil
}

// named returns an error of reading with the path as the user knows it.
func named(name string, err error) error {
	switch {
	case err == nil, errors.Is(err, errStopped), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Usage, fmt.Errorf("read audit records: there is no file or folder %q", name), "")
	}
	return fault.New(fault.Usage, fmt.Errorf("read audit records %q: %w", name, disk.Cause(err)), "")
}

// lines reads one file.
func (r *reader) lines(ctx context.Context, name string, from io.Reader) error {
	in := bufio.NewReaderSize(from, 64<<10)
	var line []byte
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var long bool
		var err error
		line, long, err = next(in, line[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !r.line(name, number, line, long) {
			return errStopped
		}
		if err != nil {
			return nil
		}
	}
}

// next appends the next line to buf. long is whether it has more than MaxLine
// bytes: the rest of it is read and dropped.
func next(in *bufio.Reader, buf []byte) (line []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if room := MaxLine + 1 - len(buf); len(part) > room {
			part, long = part[:room], true
		}
		buf = append(buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, long, err
		}
	}
}

// line hands one line on, and reports whether the caller wants more.
func (r *reader) line(name string, number int, text []byte, long bool) bool {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return true
	}
	e := Entry{File: name, Line: number, Text: text}
	var err error
	if long {
		err = fmt.Errorf("is longer than %d KiB: no audit record is", MaxLine>>10)
	} else {
		err = decode(text, &e.Record)
	}
	if err != nil {
		return r.yield(Entry{}, &Fault{name, number, err})
	}
	return !r.wants(&e.Record) || r.yield(e, nil)
}

// classUID is OCSF's Authentication, statementClassUID its Datastore Activity.
const classUID, statementClassUID = 3002, 6005

func decode(text []byte, to *Record) error {
	if err := json.Unmarshal(text, to); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return fmt.Errorf("is no audit record: %q is a JSON %s", kind.Field, kind.Value)
		}
		return fmt.Errorf("is no audit record, or a part of one: %w", err)
	}
	if to.ClassUID != classUID && to.ClassUID != statementClassUID {
		return fmt.Errorf("is no audit record: class_uid is %d, want %d", to.ClassUID, classUID)
	}
	if to.Metadata.CorrelationUID == "" {
		return errors.New("is no audit record: metadata.correlation_uid is missing")
	}
	return nil
}

func (r *reader) wants(e *Record) bool {
	o := r.options
	at := e.At()
	switch {
	case e.IsStatement() && !o.Statements:
		return false
	case !o.Since.IsZero() && at.Before(o.Since), !o.Until.IsZero() && !at.Before(o.Until):
		return false
	case o.Target != "" && e.Unmapped.Target != o.Target, o.Repository != "" && !e.in(o.Repository):
		return false
	case o.Package == "":
		return true
	case e.Has(o.Package):
		r.runs[e.Metadata.CorrelationUID] = true
	}
	return r.runs[e.Metadata.CorrelationUID]
}
