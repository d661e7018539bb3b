package broker

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestPlace: the session goes to Amazon's hosts, or to the one endpoint.
func TestPlace(t *testing.T) {
	t.Parallel()
	amazon := route.Upstream{}
	own := route.Upstream{Host: "minio.acme.example", Port: 443}
	ported := route.Upstream{Host: "minio.acme.example", Port: 9443, Buckets: true}
	for _, tt := range []struct {
		name          string
		upstream      route.Upstream
		region, path  string
		host, request string
		err           string
	}{
		{"Amazon", amazon, "eu-central-1", "/lake/a", "s3.eu-central-1.amazonaws.com", "/lake/a", ""},
		{"Amazon in China", amazon, "cn-north-1", "/lake/a", "s3.cn-north-1.amazonaws.com.cn", "/lake/a", ""},
		{"a region that is a host", amazon, "evil-example", "/lake/a", "", "", `region is "evil-example", want one such as eu-central-1`},
		{"a region with a dot", amazon, "evil.example-1", "/lake/a", "", "", "the request is not signed for S3"},
		{"an endpoint", own, "any", "/lake/year%3D1/a", "minio.acme.example", "/lake/year%3D1/a", ""},
		{"buckets in front", ported, "any", "/lake/year%3D1/a", "lake.minio.acme.example:9443", "/year%3D1/a", ""},
		{"only a bucket", ported, "any", "/lake", "lake.minio.acme.example:9443", "/", ""},
		{"a bucket that is a host", ported, "any", "/evil.example%2F/a", "", "", `the bucket is "evil.example%2F", want a name that is valid in a host name`},
		{"no bucket", ported, "any", "/", "", "", `the bucket is "", want a name that is valid in a host name`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, err := newObjectStore(web.Network{}, tt.upstream)
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:1"+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=oidc-dbt/20261125/"+tt.region+"/s3/aws4_request, SignedHeaders=host, Signature=0")
			to, err := store.place(r)
			if err != nil {
				if err.Error() != tt.err {
					t.Errorf("error is %v, want %s", err, tt.err)
				}
				return
			}
			to.lead(r)
			if got, want := r.URL.String(), "https://"+tt.host+tt.request; got != want || r.Host != tt.host || tt.err != "" {
				t.Errorf("it goes to %s at %s, want %s (%s)", got, r.Host, want, tt.err)
			}
		})
	}
}

// FuzzPlace: for all requests of a client, the session is sent only to Amazon's
// hosts, the endpoint, or a bucket's host below it, and the path is unchanged.
func FuzzPlace(f *testing.F) {
	const scope = "AWS4-HMAC-SHA256 Credential=oidc-dbt/20261125/%s/s3/aws4_request, SignedHeaders=host, Signature=0"
	f.Add(fmt.Sprintf(scope, "eu-central-1"), "/lake/year%3D1/a")
	f.Add(fmt.Sprintf(scope, "cn-north-1"), "//lake/../a?list-type=2")
	f.Add(fmt.Sprintf(scope, "evil.example/x"), "/evil.example%2F@/a")
	stores := make([]objectStore, 3)
	for i, u := range []route.Upstream{{}, {Host: "minio.acme.example", Port: 443}, {Host: "minio.acme.example", Port: 9443, Buckets: true}} {
		var err error
		if stores[i], err = newObjectStore(web.Network{}, u); err != nil {
			f.Fatal(err)
		}
	}
	hosts := []*regexp.Regexp{
		regexp.MustCompile(`^s3\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$`),
		regexp.MustCompile(`^minio\.acme\.example$`),
		regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+\.minio\.acme\.example:9443$`),
	}
	f.Fuzz(func(t *testing.T, authorization, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")))
		if err != nil || r.URL.Host != "" || r.URL.Path == "" || r.URL.Path[0] != '/' {
			return // the server or the guard has turned it away
		}
		r.Header.Set("Authorization", authorization)
		for i, store := range stores {
			to, err := store.place(r)
			if err != nil {
				continue
			}
			out := r.Clone(t.Context())
			to.lead(out)
			if !hosts[i].MatchString(out.URL.Host) || out.Host != out.URL.Host || out.URL.Scheme != "https" || out.Header.Get("Authorization") != "" {
				t.Errorf("%q, %q goes to %s at %s", authorization, target, out.URL, out.Host)
			}
			path := out.URL.EscapedPath()
			if bucket, _, ok := strings.Cut(out.Host, ".minio"); ok {
				path = "/" + bucket + path
			}
			if before := r.URL.EscapedPath(); path != before && path != before+"/" {
				t.Errorf("the path %q became %q", before, path)
			}
		}
	})
}
