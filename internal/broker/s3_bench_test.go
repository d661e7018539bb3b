package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// BenchmarkAWSContainer is what an SDK waits for each time it asks.
func BenchmarkAWSContainer(b *testing.B) {
	proxy := start(b, awsContainer, gives(session("1", time.Now().Add(time.Hour))))
	for b.Loop() {
		if status, body := ask(b, proxy, "GET", "/credentials", proxy.Address().Secret.Reveal()); status != http.StatusOK {
			b.Fatal(status, body)
		}
	}
}

// ranged is the method by which BenchmarkS3 reads a part of an object.
const ranged = "GET of 1 MiB"

// BenchmarkS3 compares the proxy with a direct connection with TLS: a request for
// nothing much, and an object of 64 MiB read and written.
func BenchmarkS3(b *testing.B) {
	block := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Error(err)
		}
		if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, block)
		} else if r.Method == http.MethodGet {
			for range objectSize / len(block) {
				_, _ = io.WriteString(w, block)
			}
		}
	}))
	b.Cleanup(server.Close)
	c := session("1", time.Now().Add(time.Hour))
	proxy := start(b, route.Route{Kind: route.S3, Upstream: upstreamOf(b, server)}, gives(c), func(c *broker.Config) { c.Dir = b.TempDir() })
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true, MaxIdleConnsPerHost: 8}}
	send := func(b *testing.B, method, base string, body io.Reader) {
		b.Helper()
		sendS3(b, client, proxy.Address().Secret, method, base, body)
	}
	ranges := func(base string) func(b *testing.B) {
		return func(b *testing.B) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 16 {
						send(b, ranged, base, nil)
					}
				})
			}
			all.Wait()
		}
	}
	compare(b, "8 at once read ranges of 1 MiB", ranges(server.URL), ranges("http://"+address(proxy)))
	for _, way := range []struct{ name, base string }{{"direct", server.URL}, {"proxy", "http://" + address(proxy)}} {
		b.Run("round trip/"+way.name, func(b *testing.B) {
			for b.Loop() {
				send(b, http.MethodHead, way.base, nil)
			}
		})
		b.Run("read/"+way.name, func(b *testing.B) {
			b.SetBytes(objectSize)
			for b.Loop() {
				send(b, http.MethodGet, way.base, nil)
			}
		})
		b.Run("write/"+way.name, func(b *testing.B) {
			b.SetBytes(objectSize)
			for b.Loop() {
				send(b, http.MethodPut, way.base, io.LimitReader(repeating(block), objectSize))
			}
		})
	}
}

// objectSize is that of what is read and written as a whole.
const objectSize = 64 << 20

// sendS3 sends a request, and reads the reply to its end.
func sendS3(b *testing.B, client *http.Client, own secret.Value, method, base string, body io.Reader) {
	b.Helper()
	part := method == ranged
	if part {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(b.Context(), method, base+"/lake/object", body)
	if err != nil {
		b.Fatal(err)
	}
	if body != nil {
		req.ContentLength = objectSize
	}
	if part {
		req.Header.Set("Range", "bytes=0-1048575")
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	keys := aws.Credentials{AccessKeyID: "oidc-dbt", SecretAccessKey: "unused", SessionToken: own.Reveal()}
	if err := v4.NewSigner().SignHTTP(b.Context(), keys, req, "UNSIGNED-PAYLOAD", "s3", "eu-central-1", time.Now()); err != nil {
		b.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		b.Fatal(resp.Status, err)
	}
}

// repeating reads as its own text over and over.
type repeating string

func (r repeating) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}
