package bucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// DayPrefix begins the part of a name that says the day of what is in the
// object, in UTC: date=2026-11-02.
const DayPrefix = "date="

// A Select says which objects are read.
type Select struct {
	// Since and Until, if they are not zero, bound the days of the objects'
	// names, Since included, Until not. Names without a day are read.
	Since, Until time.Time
	// Wanted reports whether an object is read, by its name after the bucket's prefix.
	Wanted func(name string) bool
}

// An Object is one that was read.
type Object struct {
	Key  string // with the bucket's prefix
	Name string // without it
	Size int64
	Text []byte // nil where it is larger than MaxObject, or Err says why
	// Err is why this object cannot be read, where others can: the writer of an
	// object chooses its storage class and its key.
	Err error
}

// MaxObject is the largest object that is read: the client's bound of a reply.
const MaxObject = web.MaxBody

// atOnce is how many objects are on their way, or wait for the reader. Each is
// a request, whose time is that of the way.
const atOnce = 8

// Objects returns the objects below the bucket's prefix in the order of their
// names, of each the oldest version that the store still has: what was written
// over it, and a delete marker, do not count. At Azure it is the current one.
// An error is the last. Where nothing bounds the days, that there is no object
// is an error: the prefix is wrong.
func (b *Bucket) Objects(ctx context.Context, s Select) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		order := make(chan chan fetched, atOnce-1)
		running.Go(func() {
			defer close(order)
			b.fetchAll(ctx, s, order, &running)
		})
		denied := make([]Object, 0, maxDenied) // before the first that was read; nil after it
		for next := range order {
			f := <-next
			switch {
			case f.err != nil:
				yield(Object{}, f.err)
				return
			case f.denied && denied != nil:
				if denied = append(denied, f.Object); len(denied) == cap(denied) {
					yield(Object{}, denied[0].Err)
					return
				}
				continue
			case f.Text != nil: // it may read objects
				for _, o := range denied {
					if !yield(o, nil) {
						return
					}
				}
				denied = nil
			}
			if !yield(f.Object, nil) {
				return
			}
		}
		switch err := ctx.Err(); {
		case err != nil:
			yield(Object{}, err)
		case len(denied) > 0:
			yield(Object{}, denied[0].Err)
		}
	}
}

// maxDenied is how many objects are asked for, none of which the credential may
// read, until that is a fault of the credential.
const maxDenied = 20

// fetched is an object, or why there is none.
type fetched struct {
	Object
	denied bool // the object's Err is that the credential may not read it
	err    error
}

// fetchAll starts to read objects, as many at once as order holds.
func (b *Bucket) fetchAll(ctx context.Context, s Select, order chan<- chan fetched, running *sync.WaitGroup) {
	put := func(next chan fetched) bool {
		select {
		case order <- next:
			return true
		case <-ctx.Done():
			return false
		}
	}
	any := false
	for e, err := range b.entries(ctx, s) {
		next := make(chan fetched, 1)
		if err != nil {
			next <- fetched{err: err}
			put(next)
			return
		}
		any = true
		name := strings.TrimPrefix(e.key, b.place.Prefix)
		if !s.days(name) || s.Wanted != nil && !s.Wanted(name) {
			continue
		}
		if !put(next) {
			return
		}
		running.Go(func() {
			f := b.get(ctx, e)
			f.Name = name
			next <- f
		})
	}
	if !any && s.Since.IsZero() && s.Until.IsZero() && ctx.Err() == nil {
		next := make(chan fetched, 1)
		next <- fetched{err: fault.New(fault.Usage,
			fmt.Errorf("there is no object below %q in bucket %q", b.place.Prefix, b.place.Name), "")}
		put(next)
	}
}

// get reads one object.
func (b *Bucket) get(ctx context.Context, e entry) (f fetched) {
	f.Object = Object{Key: e.key, Size: e.size}
	if e.size > MaxObject {
		return f
	}
	c, err := b.held(ctx)
	if err != nil {
		f.err = err
		return f
	}
	address := b.object(c, e.key)
	if e.version != "" && e.version != "null" { // which S3 calls the one from before there were versions
		address += "?" + dialects[b.place.Kind].version + "=" + url.QueryEscape(e.version)
	}
	header := http.Header{}
	if b.place.Kind == "gs" { // or it decodes what is stored, as far as the writer of the object says that it can
		header.Set("Accept-Encoding", "gzip")
	}
	var last reply
	f.Text, err = web.Retry(ctx, func(ctx context.Context) ([]byte, error) {
		r, err := b.send(ctx, c, http.MethodGet, address, header.Clone(), nil)
		last = r
		switch {
		case err != nil:
			return nil, err
		case r.status != http.StatusOK:
			return nil, b.refusal(r, "read objects", dialects[b.place.Kind].read)
		}
		return r.body, nil
	})
	if err == nil {
		return f
	}
	err = fmt.Errorf("read %q: %w", e.key, err)
	f.denied = last.status == http.StatusForbidden && last.code != archived
	if f.denied || last.ofObject() || web.IsTooLarge(err) {
		f.Err = err
	} else {
		f.err = err
	}
	return f
}

// archived is S3's word for an object that was moved to, or written into, an archive.
const archived = "InvalidObjectState"

// ofObject reports whether a refusal is about the object, and not about the
// bucket, the credential or the network: it is archived, encrypted with a key of
// its writer, or gone.
func (r reply) ofObject() bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusPreconditionFailed:
		return !strings.Contains(r.code, "Token") // ExpiredToken and InvalidToken are of status 400
	}
	return r.code == archived
}

// entries are the objects, each by its oldest version.
func (b *Bucket) entries(ctx context.Context, s Select) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		prefixes, err := b.prefixes(ctx, s)
		if err != nil {
			yield(entry{}, err)
			return
		}
		for _, prefix := range prefixes {
			var oldest entry
			for e, err := range b.versions(ctx, prefix) {
				switch {
				case err != nil:
					yield(entry{}, err)
					return
				case oldest.key == "" || oldest.key == e.key:
					oldest = b.older(oldest, e)
				case !yield(oldest, nil):
					return
				default:
					oldest = e
				}
			}
			if oldest.key != "" && !yield(oldest, nil) {
				return
			}
		}
	}
}

// older returns the older one of two versions of an object, the second of which
// is further on in the list: S3 lists the newest first. Generations of Google
// are numbers that grow.
func (b *Bucket) older(first, second entry) entry {
	x, y := first.version, second.version
	if b.place.Kind == "gs" && first.key != "" && (len(x) < len(y) || len(x) == len(y) && x < y) {
		return first
	}
	return second
}

// versions lists what is below a prefix, page after page.
func (b *Bucket) versions(ctx context.Context, prefix string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		last, next, size := "", url.Values(nil), pageSize
		for {
			p, err := b.page(ctx, prefix, next, size)
			if err == nil {
				err = checkPage(p, prefix, last, next)
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			for _, e := range p.entries {
				if !yield(e, nil) {
					return
				}
				last = e.key
			}
			size = p.size
			if next = p.next; next == nil {
				return
			}
		}
	}
}

// checkPage returns an error where a list has names that were not asked for, is
// not in their order, or would not end.
func checkPage(p page, prefix, last string, asked url.Values) error {
	fail := func(format string, args ...any) error {
		return fault.New(fault.Unreachable,
			errors.New("the bucket's list of objects is not valid: "+fmt.Sprintf(format, args...)), "")
	}
	for _, e := range p.entries {
		switch {
		case !strings.HasPrefix(e.key, prefix):
			return fail("it names %q, which is not below %q", e.key, prefix)
		case e.key < last:
			return fail("%q comes after %q", e.key, last)
		}
		last = e.key
	}
	if p.next != nil && p.next.Encode() == asked.Encode() {
		return fail("its next page is the same page")
	}
	return nil
}

// maxDays is how many days are listed one by one, each by a request or more.
const maxDays = 400

// prefixes are what is listed: the prefixes of the days, where there are such
// below the bucket's own.
func (b *Bucket) prefixes(ctx context.Context, s Select) (list []string, err error) {
	all := []string{b.place.Prefix}
	if s.Since.IsZero() || strings.Contains("/"+b.place.Prefix, "/"+DayPrefix) {
		return all, nil
	}
	until := s.Until
	if until.IsZero() {
		until = b.env.Now().AddDate(0, 0, 1) // clocks differ
	}
	for day := dayOf(s.Since); day.Before(until); day = day.AddDate(0, 0, 1) {
		if list = append(list, b.place.Prefix+DayPrefix+day.Format(time.DateOnly)+"/"); len(list) > maxDays {
			return all, nil
		}
	}
	for _, err := range b.versions(ctx, b.place.Prefix+DayPrefix) {
		return list, err // one is enough to know that there are days
	}
	return all, nil
}

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// days reports whether a name may be of the days.
func (s Select) days(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		text, ok := strings.CutPrefix(part, DayPrefix)
		if day, err := time.Parse(time.DateOnly, text); ok && err == nil {
			return (s.Since.IsZero() || !day.Before(dayOf(s.Since))) && (s.Until.IsZero() || day.Before(s.Until))
		}
	}
	return true
}
