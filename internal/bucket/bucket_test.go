package bucket_test

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3/signature"

	"github.com/oidc-dbt/oidc-dbt/internal/bucket"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const (
	secretKey    = "SECRET/access+key"
	sessionToken = "SECRET-session"
)

// A version is one of an object. The server has them as S3 lists them: by name, the newest first.
type version struct{ key, id, text string }

// server is an S3 store of versions that verifies each request's signature.
type server struct {
	*httptest.Server
	versions []version
	pageSize int
	slow     time.Duration // for each object
	// reply, if it is not nil, replies to a request in place of the store.
	reply func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	listed   []string // the prefixes that were asked for, with their markers
	gets     int
	unsigned int
	now      atomic.Int32 // requests for objects that are being answered
	most     atomic.Int32
}

func serve(t *testing.T, versions ...version) *server {
	t.Helper()
	s := &server{versions: versions, pageSize: 2}
	s.Server = httptest.NewServer(http.HandlerFunc(s.handle))
	t.Cleanup(s.Close)
	return s
}

func (s *server) handle(w http.ResponseWriter, r *http.Request) {
	signed := signature.V4SignVerifyWithLookup(r, func(string) (string, bool) { return secretKey, true }) == signature.ErrNone
	q := r.URL.Query()
	s.mu.Lock()
	if !signed || r.Header.Get("X-Amz-Security-Token") != sessionToken {
		s.unsigned++
	}
	if strings.HasSuffix(r.URL.Path, "/acme-audit/") {
		s.listed = append(s.listed, strings.TrimRight(q.Get("prefix")+" "+q.Get("key-marker")+" "+q.Get("version-id-marker"), " "))
	} else {
		s.gets++
	}
	s.mu.Unlock()
	switch {
	case s.reply != nil && s.reply(w, r):
	case strings.HasSuffix(r.URL.Path, "/acme-audit/"):
		io.WriteString(w, s.list(q))
	default:
		for now := s.now.Add(1); ; {
			if most := s.most.Load(); now <= most || s.most.CompareAndSwap(most, now) {
				break
			}
		}
		defer s.now.Add(-1)
		time.Sleep(s.slow)
		for _, v := range s.versions {
			if "/acme-audit/"+v.key == r.URL.Path && v.id == cmp.Or(q.Get("versionId"), "null") {
				io.WriteString(w, v.text)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<Error><Code>NoSuchVersion</Code></Error>")
	}
}

// asked returns how many objects were asked for.
func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

// list is one page, as MinIO and S3 write it.
func (s *server) list(q url.Values) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>`)
	started, n := q.Get("key-marker") == "", 0
	for _, v := range s.versions {
		if strings.HasPrefix(v.key, q.Get("prefix")) && started {
			if n++; n > s.pageSize {
				break
			}
			kind := "Version"
			if v.text == "" {
				kind = "DeleteMarker"
			}
			fmt.Fprintf(&b, "<%s><Key>%s</Key><VersionId>%s</VersionId><Size>%d</Size></%s>", kind, url.QueryEscape(v.key), v.id, len(v.text), kind)
			if n == s.pageSize {
				fmt.Fprintf(&b, "<NextKeyMarker>%s</NextKeyMarker><NextVersionIdMarker>%s</NextVersionIdMarker>", url.QueryEscape(v.key), v.id)
			}
		}
		started = started || v.key == q.Get("key-marker") && v.id == q.Get("version-id-marker")
	}
	fmt.Fprintf(&b, "<IsTruncated>%t</IsTruncated></ListVersionsResult>", n > s.pageSize)
	return b.String()
}

func session(now time.Time) credential.Credential {
	return credential.Credential{Kind: credential.AWSSession, Expiry: now.Add(time.Hour), AWS: &credential.AWS{
		AccessKeyID: secret.New("ASIAEXAMPLEEXAMPLE12"), SecretAccessKey: secret.New(secretKey), SessionToken: secret.New(sessionToken), Region: "us-east-1",
	}}
}

func open(s *server) *bucket.Bucket {
	return bucket.New(bucket.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now},
		policy.Bucket{Target: "audit-read", Kind: "s3", Name: "acme-audit", Prefix: "oidc-dbt/", Endpoint: s.URL},
		func(context.Context) (credential.Credential, error) { return session(time.Now()), nil })
}

// read returns each object as NAME=TEXT, or the error.
func read(t *testing.T, b *bucket.Bucket, s bucket.Select) (got []string) {
	t.Helper()
	for o, err := range b.Objects(t.Context(), s) {
		if err != nil {
			return append(got, err.Error())
		}
		if o.Err != nil {
			got = append(got, o.Name+": "+o.Err.Error())
			continue
		}
		got = append(got, o.Name+"="+string(o.Text))
	}
	return got
}

func day(text string) time.Time {
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return at
}

func TestObjects(t *testing.T) {
	t.Parallel()
	list := []version{
		{"oidc-dbt/.hidden.json", "1", "no"},
		{"oidc-dbt/date=2026-11-01/A-decision.json", "1", "a1"},
		{"oidc-dbt/date=2026-11-01/A-outcome.json", "null", "a2"},
		{"oidc-dbt/date=2026-11-02/B-decision.json", "3", ""}, // deleted
		{"oidc-dbt/date=2026-11-02/B-decision.json", "2", "overwritten"},
		{"oidc-dbt/date=2026-11-02/B-decision.json", "1", "b1"},
		{"oidc-dbt/date=2026-11-03/C +%é\x01.json", "1", "c1"},
		{"oidc-dbt/z.json", "1", "z"},
		{"oidc-dbt2/other.json", "1", "no"},
	}
	visible := func(name string) bool { return !strings.HasPrefix(name, ".") }
	for _, tt := range []struct {
		name   string
		s      bucket.Select
		want   []string
		listed []string
	}{
		{"all", bucket.Select{Wanted: visible}, []string{
			"date=2026-11-01/A-decision.json=a1", "date=2026-11-01/A-outcome.json=a2", "date=2026-11-02/B-decision.json=b1",
			"date=2026-11-03/C +%é\x01.json=c1", "z.json=z",
		}, []string{
			"oidc-dbt/", "oidc-dbt/ oidc-dbt/date=2026-11-01/A-decision.json 1", "oidc-dbt/ oidc-dbt/date=2026-11-02/B-decision.json 3",
			"oidc-dbt/ oidc-dbt/date=2026-11-02/B-decision.json 1",
		}},
		{"two days", bucket.Select{Since: day("2026-11-02").Add(time.Hour), Until: day("2026-11-04")}, []string{
			"date=2026-11-02/B-decision.json=b1", "date=2026-11-03/C +%é\x01.json=c1",
		}, []string{
			"oidc-dbt/date=", "oidc-dbt/date=2026-11-02/", "oidc-dbt/date=2026-11-02/ oidc-dbt/date=2026-11-02/B-decision.json 2", "oidc-dbt/date=2026-11-03/",
		}},
		{"until a day", bucket.Select{Until: day("2026-11-02").Add(time.Second), Wanted: visible}, []string{
			"date=2026-11-01/A-decision.json=a1", "date=2026-11-01/A-outcome.json=a2", "date=2026-11-02/B-decision.json=b1", "z.json=z",
		}, nil},
		{"no such day", bucket.Select{Since: day("2026-12-01"), Until: day("2026-12-02")}, nil, []string{"oidc-dbt/date=", "oidc-dbt/date=2026-12-01/"}},
		{"more days than are listed one by one", bucket.Select{Since: day("2020-01-01"), Until: day("2026-11-02"), Wanted: visible}, []string{
			"date=2026-11-01/A-decision.json=a1", "date=2026-11-01/A-outcome.json=a2", "z.json=z",
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, list...)
			got := read(t, open(s), tt.s)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
			if tt.listed != nil && !slices.Equal(s.listed, tt.listed) {
				t.Errorf("it listed\n%q, want\n%q", s.listed, tt.listed)
			}
			if s.unsigned > 0 || s.gets != len(tt.want) {
				t.Errorf("%d requests had no valid signature, and %d objects were asked for, want 0 and %d", s.unsigned, s.gets, len(tt.want))
			}
		})
	}
}

// TestDaysBelowAnotherPrefix: where the bucket's prefix is not that of the days, they are looked for in the names.
func TestDaysBelowAnotherPrefix(t *testing.T) {
	t.Parallel()
	s := serve(t, version{"oidc-dbt/eu/date=2026-11-01/A.json", "1", "a"}, version{"oidc-dbt/eu/date=2026-11-02/B.json", "1", "b"})
	if got := read(t, open(s), bucket.Select{Since: day("2026-11-02")}); !slices.Equal(got, []string{"eu/date=2026-11-02/B.json=b"}) {
		t.Errorf("got %q", got)
	}
}

const (
	head     = `<ListVersionsResult>`
	one      = `<Version><Key>oidc-dbt/a.json</Key><VersionId>1</VersionId><Size>1</Size></Version>`
	two      = `<Version><Key>oidc-dbt/b.json</Key><VersionId>1</VersionId><Size>1</Size></Version>`
	tail     = `</ListVersionsResult>`
	more     = `<IsTruncated>true</IsTruncated><NextKeyMarker>x</NextKeyMarker>`
	denied   = `<Error><Code>AccessDenied</Code><Message>SECRET-session</Message></Error>`
	proxy    = "another server, such as a proxy, may be answering at this address: check the address"
	notValid = "the bucket's list of objects is not valid: "
)

// TestBadReplies: what the store says to each request, the last one again and again.
func TestBadReplies(t *testing.T) {
	t.Parallel()
	type reply struct {
		status int
		body   string
	}
	for _, tt := range []struct {
		name    string
		replies []reply
		tries   int
		want    string
		class   fault.Class
		hint    string
	}{
		{"busy, then read", []reply{{503, "<Error><Code>SlowDown</Code></Error>"}, {200, head + one + tail}, {500, ""}, {200, "a"}}, 4, "a.json=a", 0, ""},
		{"hangs up, then read", []reply{{0, ""}, {200, head + one + tail}, {0, ""}, {200, "a"}}, 4, "a.json=a", 0, ""},
		{"cut off, then read", []reply{{200, head + one}, {200, head + one + tail}, {200, "a"}}, 3, "a.json=a", 0, ""},
		{"may not list", []reply{{403, denied}}, 1, `the credential of target "audit-read" may not list objects in bucket "acme-audit": status 403: "AccessDenied"`,
			fault.Refused, `target "audit-read" needs s3:ListBucketVersions on the bucket`},
		{"may not read", []reply{{200, head + one + tail}, {403, denied}}, 2,
			`read "oidc-dbt/a.json": the credential of target "audit-read" may not read objects in bucket "acme-audit": status 403: "AccessDenied"`,
			fault.Refused, `target "audit-read" needs s3:GetObject and s3:GetObjectVersion on its objects`},
		{"an expired credential", []reply{{200, head + one + tail}, {400, "<Error><Code>ExpiredToken</Code></Error>"}}, 2,
			`read "oidc-dbt/a.json": the bucket replied with status 400: "ExpiredToken"`, fault.Unreachable, ""},
		{"no bucket", []reply{{404, "<Error><Code>NoSuchBucket</Code></Error>"}}, 1, `there is no bucket "acme-audit": status 404: "NoSuchBucket"`, fault.Usage, ""},
		{"another region", []reply{{301, "<Error><Code>PermanentRedirect</Code></Error>"}}, 1, `the bucket replied with status 301: "PermanentRedirect"`,
			fault.Refused, "the bucket is in another region: the `region` of target \"audit-read\" is the bucket's"},
		{"no objects", []reply{{200, head + tail}}, 1, `there is no object below "oidc-dbt/" in bucket "acme-audit"`, fault.Usage, ""},
		{"a web page", []reply{{200, "<html>SECRET-session</html>"}}, 0, notValid + "want XML with a ListVersionsResult", fault.Unreachable, ""},
		{"a list of objects", []reply{{200, "<ListBucketResult/>"}}, 0, notValid + "want XML with a ListVersionsResult", fault.Unreachable, ""},
		{"another prefix", []reply{{200, head + strings.ReplaceAll(one, "oidc-dbt", "else") + tail}}, 1,
			notValid + `it names "else/a.json", which is not below "oidc-dbt/"`, fault.Unreachable, ""},
		{"a list that goes back", []reply{{200, head + two + more + tail}, {200, head + one + tail}}, 2,
			notValid + `"oidc-dbt/a.json" comes after "oidc-dbt/b.json"`, fault.Unreachable, ""},
		{"a list without an end", []reply{{200, head + more + tail}}, 2, notValid + "its next page is the same page", fault.Unreachable, ""},
		{"a list that is too long", []reply{{200, head + strings.Repeat(" ", 1<<20) + tail}}, 9, "reply is larger than 1048576 bytes", fault.Unreachable, proxy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			var n atomic.Int32
			s.reply = func(w http.ResponseWriter, _ *http.Request) bool {
				r := tt.replies[min(int(n.Add(1)), len(tt.replies))-1]
				if r.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(r.status)
				io.WriteString(w, r.body)
				return true
			}
			ctx, _ := web.WithBudget(t.Context(), 3*time.Second)
			for o, err := range open(s).Objects(ctx, bucket.Select{}) {
				got := o.Name + "=" + string(o.Text)
				if err != nil {
					got = err.Error()
				}
				if got != tt.want || fault.Hint(err) != tt.hint || err != nil && fault.ClassOf(err) != tt.class {
					t.Errorf("got %q of class %s with hint %q, want %q of class %s with %q", got, fault.ClassOf(err), fault.Hint(err), tt.want, tt.class, tt.hint)
				}
			}
			if tries := int(n.Load()); tt.tries > 0 && tries != tt.tries || tt.tries == 0 && tries < 2 {
				t.Errorf("%d requests, want %d", tries, tt.tries)
			}
		})
	}
}

// TestUnreadableObjects: who may write an object can choose its storage class, its key and its encoding. The others
// are read all the same.
func TestUnreadableObjects(t *testing.T) {
	t.Parallel()
	list := []version{{"oidc-dbt/a.json", "1", "a"}, {"oidc-dbt/b.json", "1", "b"}, {"oidc-dbt/c.json", "1", "c"}}
	const refused = `read "oidc-dbt/b.json": the bucket replied with status `
	for _, tt := range []struct {
		name   string
		key    string
		status int
		body   string
		want   []string
	}{
		{"archived", "b", 403, "<Error><Code>InvalidObjectState</Code></Error>", []string{"a.json=a", `b.json: read "oidc-dbt/b.json": ` +
			`the credential of target "audit-read" may not read objects in bucket "acme-audit": status 403: "InvalidObjectState"`, "c.json=c"}},
		{"with a key of its writer", "b", 400, "<Error><Code>InvalidRequest</Code></Error>", []string{"a.json=a", "b.json: " + refused + `400: "InvalidRequest"`, "c.json=c"}},
		{"gone", "b", 404, "<Error><Code>NoSuchVersion</Code></Error>", []string{"a.json=a", "b.json: " + refused + `404: "NoSuchVersion"`, "c.json=c"}},
		{"longer than its size", "b", 200, strings.Repeat(" ", 1<<20+1), []string{"a.json=a", `b.json: read "oidc-dbt/b.json": reply is larger than 1048576 bytes`, "c.json=c"}},
		{"with another key of KMS", "b", 403, denied, []string{"a.json=a", `b.json: read "oidc-dbt/b.json": ` +
			`the credential of target "audit-read" may not read objects in bucket "acme-audit": status 403: "AccessDenied"`, "c.json=c"}},
		{"the first of them", "a", 403, denied, []string{`a.json: read "oidc-dbt/a.json": ` +
			`the credential of target "audit-read" may not read objects in bucket "acme-audit": status 403: "AccessDenied"`, "b.json=b", "c.json=c"}},
		{"encoded, as it says", "b", 200, "\x1f\x8b", []string{"a.json=a", "b.json=\x1f\x8b", "c.json=c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, list...)
			s.reply = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/"+tt.key+".json") {
					return false
				}
				if tt.body == "\x1f\x8b" {
					w.Header().Set("Content-Encoding", "gzip")
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
				return true
			}
			if got := read(t, open(s), bucket.Select{}); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
			if s.unsigned > 0 {
				t.Errorf("%d requests had no valid signature", s.unsigned)
			}
		})
	}
}

// TestDenied: where no object can be read, the credential is at fault, and few are asked for.
func TestDenied(t *testing.T) {
	t.Parallel()
	s := serve(t, many(100)...)
	s.reply = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, ".json") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, denied)
		return true
	}
	want := []string{`read "oidc-dbt/date=2026-11-01/0000.json": the credential of target "audit-read" may not read objects in bucket "acme-audit": ` +
		`status 403: "AccessDenied"`}
	if got := read(t, open(s), bucket.Select{}); !slices.Equal(got, want) || s.asked() > 30 {
		t.Errorf("got %q after %d requests, want %q", got, s.asked(), want)
	}
}

// TestLongNames: a page of names that are as long as they can be is asked for in parts.
func TestLongNames(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for i := range 600 {
		s.versions = append(s.versions, version{fmt.Sprintf("oidc-dbt/%03d-%s.json", i, strings.Repeat("\x01", 1000)), "1", "x"})
	}
	s.reply = func(_ http.ResponseWriter, r *http.Request) bool {
		if most, err := strconv.Atoi(r.URL.Query().Get("max-keys")); err == nil {
			s.pageSize = most
		}
		return false
	}
	n := 0
	for o, err := range open(s).Objects(t.Context(), bucket.Select{Wanted: func(string) bool { n++; return false }}) {
		t.Fatalf("got %s, %v", o.Name, err)
	}
	if want := []int{600, 4}; n != want[0] || len(s.listed) != want[1] {
		t.Errorf("%d names in %d requests, want %d", n, len(s.listed), want)
	}
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.reply = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		return true
	}
	if got := read(t, open(s), bucket.Select{}); !slices.Equal(got, []string{`redirected to host "evil.example", redirects are not followed`}) {
		t.Errorf("got %q", got)
	}
}

// many are objects of a second each, in their order.
func many(n int) (list []version) {
	for i := range n {
		list = append(list, version{fmt.Sprintf("oidc-dbt/date=2026-11-01/%04d.json", i), "1", fmt.Sprint(i)})
	}
	return list
}

// TestAtOnce: a few objects are asked for at once, they come in order, and no more are read than are taken.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, many(100)...)
	s.pageSize = 40
	s.slow = 5 * time.Millisecond
	for i, line := range read(t, open(s), bucket.Select{}) {
		if want := fmt.Sprintf("date=2026-11-01/%04d.json=%d", i, i); line != want {
			t.Fatalf("got %s, want %s", line, want)
		}
	}
	if most := s.most.Load(); most < 2 || most > 9 {
		t.Errorf("%d requests at once", most)
	}
	before := s.asked()
	for range open(s).Objects(t.Context(), bucket.Select{}) {
		break
	}
	if n := s.asked() - before; n > 10 {
		t.Errorf("%d objects were asked for, and one was taken", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range open(s).Objects(ctx, bucket.Select{}) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", last)
	}
}

// TestLargeObjects are named, and not read.
func TestLargeObjects(t *testing.T) {
	t.Parallel()
	s := serve(t, version{"oidc-dbt/a.jsonl", "1", strings.Repeat("x", bucket.MaxObject+1)})
	for o, err := range open(s).Objects(t.Context(), bucket.Select{}) {
		if err != nil || o.Text != nil || o.Size != bucket.MaxObject+1 || o.Name != "a.jsonl" {
			t.Errorf("got %s of %d bytes, %v", o.Name, o.Size, err)
		}
	}
	if s.gets > 0 {
		t.Error("it was read")
	}
}

// TestCredential: it is asked for before each request, and why there is none ends the reading.
func TestCredential(t *testing.T) {
	t.Parallel()
	s := serve(t, many(3)...)
	asked := atomic.Int32{}
	place := policy.Bucket{Target: "audit-read", Kind: "s3", Name: "acme-audit", Prefix: "oidc-dbt/", Endpoint: s.URL}
	env := bucket.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now}
	refused := fault.New(fault.Denied, errors.New("denied by policy"), "a hint")
	b := bucket.New(env, place, func(context.Context) (credential.Credential, error) {
		if asked.Add(1) == 3 {
			return credential.Credential{}, refused
		}
		return session(time.Now()), nil
	})
	got := read(t, b, bucket.Select{})
	if last := got[len(got)-1]; !strings.HasSuffix(last, "denied by policy") {
		t.Errorf("got %q", got)
	}
	b = bucket.New(env, place, func(context.Context) (credential.Credential, error) {
		return credential.Credential{Kind: credential.AccessToken, Token: secret.New("BEARER")}, nil
	})
	if got := read(t, b, bucket.Select{}); !slices.Equal(got, []string{`target "audit-read" gives a credential of kind access_token, which is not one for the bucket`}) {
		t.Errorf("got %q", got)
	}
}

// replies are what a store says, by the path and query of the request.
type replies map[string]string

func (r replies) RoundTrip(req *http.Request) (*http.Response, error) {
	body, ok := r[req.URL.String()]
	status := http.StatusOK
	if !ok || req.Header.Get("Authorization") != "Bearer BEARER" || strings.Contains(req.URL.Host, "windows") && req.Header.Get("x-ms-version") == "" {
		status, body = http.StatusNotFound, req.URL.String()
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}, Request: req}, nil
}

func TestOtherStores(t *testing.T) {
	t.Parallel()
	const (
		google = "https://storage.googleapis.com/storage/v1/b/acme-audit/o?fields=items%28name%2Csize%2Cgeneration%29%2CnextPageToken&maxResults=500"
		azure  = "https://acme.blob.core.windows.net/audit?comp=list"
	)
	for _, tt := range []struct {
		place   policy.Bucket
		replies replies
		want    []string
	}{
		{policy.Bucket{Kind: "gs", Name: "acme-audit", Prefix: "x/"}, replies{
			google + "&prefix=x%2F&versions=true": `{"items":[{"name":"x/a.json","size":"2","generation":"10"},{"name":"x/a.json","size":"1","generation":"9"}],` +
				`"nextPageToken":"T="}`,
			google + "&pageToken=T%3D&prefix=x%2F&versions=true":                 `{"items":[{"name":"x/a.json","size":"1","generation":"11"},{"name":"x/b+.json","size":"1","generation":"7"}]}`,
			"https://storage.googleapis.com/acme-audit/x/a.json?generation=9":    "a",
			"https://storage.googleapis.com/acme-audit/x/b%2B.json?generation=7": "b",
		}, []string{"a.json=a", "b+.json=b"}},
		{policy.Bucket{Kind: "azure", Endpoint: "https://acme.blob.core.windows.net", Name: "audit", Prefix: "x/"}, replies{
			azure + "&maxresults=500&prefix=x%2F&restype=container": xml.Header + `<EnumerationResults><Blobs><Blob><Name>x/a.json</Name><Properties>` +
				`<Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker>M</NextMarker></EnumerationResults>`,
			azure + "&marker=M&maxresults=500&prefix=x%2F&restype=container": xml.Header + `<EnumerationResults><Blobs><Blob>` +
				`<Name Encoded="true">x/b%01.json</Name><Properties><Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker/></EnumerationResults>`,
			"https://acme.blob.core.windows.net/audit/x/a.json":    "a",
			"https://acme.blob.core.windows.net/audit/x/b%01.json": "b",
		}, []string{"a.json=a", "b\x01.json=b"}},
	} {
		b := bucket.New(bucket.Env{HTTP: &http.Client{Transport: tt.replies}, Now: time.Now}, tt.place,
			func(context.Context) (credential.Credential, error) {
				return credential.Credential{Kind: credential.AccessToken, Token: secret.New("BEARER")}, nil
			})
		if got := read(t, b, bucket.Select{}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got\n%q, want\n%q", tt.place.Kind, got, tt.want)
		}
	}
}
