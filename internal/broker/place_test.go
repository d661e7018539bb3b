package broker

import (
	"net/http"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
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
		{"a bucket alone", ported, "any", "/lake", "lake.minio.acme.example:9443", "/", ""},
		{"a bucket that is a host", ported, "any", "/evil.example%2F/a", "", "", `the bucket is "evil.example%2F", want a name that can stand in front of a host`},
		{"no bucket", ported, "any", "/", "", "", `the bucket is "", want a name that can stand in front of a host`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, err := newObjectStore(tt.upstream)
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
