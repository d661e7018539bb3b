package broker_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// What a large result is here: rows of about 70 bytes, in pages as large as
// Trino makes them.
const (
	rows  = 1_000_000
	pages = 64
)

// pagesOf returns a result in pages, each with its URI of the next on host,
// plain and as gzip.
func pagesOf(b *testing.B, host string) (plain, packed [][]byte) {
	b.Helper()
	for page := range pages {
		var text bytes.Buffer
		fmt.Fprintf(&text, `{"id":"q","infoUri":"https://%s/ui/query.html?q",`, host)
		if page+1 < pages {
			fmt.Fprintf(&text, `"nextUri":"https://%s/v1/statement/executing/q/y/%d",`, host, page+1)
		}
		text.WriteString(`"columns":[],"data":[`)
		for i := range rows / pages {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, `[%d,"Customer#%09d","2026-01-%02d",%d.%02d,"deliver \"today\""]`, page*rows/pages+i, i, i%28+1, i*7, i%100)
		}
		text.WriteString(`],"stats":{"state":"RUNNING"}}`)
		var z bytes.Buffer
		w, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = w.Write(text.Bytes())
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		plain, packed = append(plain, text.Bytes()), append(packed, z.Bytes())
	}
	return plain, packed
}

// compare runs both ways in turn, and reports by how much the direct one was
// slower: the median of its time over the proxy's.
func compare(b *testing.B, name string, direct, proxy func(b *testing.B)) {
	b.Run(name, func(b *testing.B) {
		took := func(way func(b *testing.B)) float64 {
			began := time.Now()
			way(b)
			return float64(time.Since(began))
		}
		direct(b)
		proxy(b) // the first warms up
		var ratios []float64
		for b.Loop() {
			d := took(direct)
			ratios = append(ratios, d/took(proxy))
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "direct/proxy")
	})
}

// BenchmarkTrino compares the proxy with a direct connection: one poll of a
// statement that goes on, and a large result, read by a client that decodes it.
func BenchmarkTrino(b *testing.B) {
	var plain, packed [][]byte
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/statement/queued/q", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":"q","nextUri":"https://%s/v1/statement/queued/q","stats":{"state":"QUEUED"}}`, r.Host)
	})
	mux.HandleFunc("GET /v1/statement/executing/q/y/{page}", func(w http.ResponseWriter, r *http.Request) {
		var page int
		if _, err := fmt.Sscan(r.PathValue("page"), &page); err != nil {
			b.Error(err)
		}
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed[page])
			return
		}
		_, _ = w.Write(plain[page])
	})
	server := httptest.NewTLSServer(mux)
	b.Cleanup(server.Close)
	plain, packed = pagesOf(b, strings.TrimPrefix(server.URL, "https://"))
	proxy := start(b, route.Route{Kind: route.Trino, Upstream: upstreamOf(b, server)}, func(c *broker.Config) { c.Dir = b.TempDir() })

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	get := func(b *testing.B, client *http.Client, uri string) io.ReadCloser {
		req, err := http.NewRequest(http.MethodGet, uri, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+proxy.Address().Secret.Reveal())
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
		return resp.Body
	}
	for _, way := range []struct {
		name   string
		client *http.Client
		base   string
	}{{"direct", direct, server.URL}, {"proxy", trusting(b, proxy), "https://" + address(proxy)}} {
		b.Run("round trip/"+way.name, func(b *testing.B) {
			for b.Loop() {
				body := get(b, way.client, way.base+"/v1/statement/queued/q")
				_, _ = io.Copy(io.Discard, body)
				body.Close()
			}
		})
		b.Run("million rows/"+way.name, func(b *testing.B) {
			for b.Loop() {
				count := 0
				for uri := way.base + "/v1/statement/executing/q/y/0"; uri != ""; {
					body := get(b, way.client, uri)
					var page struct {
						NextURI string  `json:"nextUri"`
						Data    [][]any `json:"data"`
					}
					if err := json.NewDecoder(body).Decode(&page); err != nil {
						b.Fatal(err)
					}
					body.Close()
					count += len(page.Data)
					uri = page.NextURI
				}
				if count != rows {
					b.Fatalf("got %d rows", count)
				}
			}
		})
	}
}

// BenchmarkClickHouse compares the proxy with a direct connection with TLS: an
// empty query, and a large result in one reply, read by a client that takes
// its rows apart.
func BenchmarkClickHouse(b *testing.B) {
	var block bytes.Buffer
	for i := range rows / 1000 {
		fmt.Fprintf(&block, "%d\tCustomer#%09d\t2026-01-%02d\t%d.%02d\tdeliver today\n", i, i, i%28+1, i*7, i%100)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("rows") {
			for range 1000 {
				_, _ = w.Write(block.Bytes())
			}
		}
	}))
	b.Cleanup(server.Close)
	proxy := start(b, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(b, server)})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}}
	ask := func(b *testing.B, uri string) (count int) {
		req, err := http.NewRequest(http.MethodPost, uri, strings.NewReader("select 1"))
		if err != nil {
			b.Fatal(err)
		}
		req.SetBasicAuth("dbt", proxy.Address().Secret.Reveal())
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
		r := csv.NewReader(resp.Body)
		r.Comma, r.ReuseRecord = '\t', true
		for ; ; count++ {
			switch _, err := r.Read(); {
			case err == io.EOF:
				return count
			case err != nil:
				b.Fatal(err)
			}
		}
	}
	compare(b, "million rows", func(b *testing.B) { ask(b, server.URL+"/?rows=1") }, func(b *testing.B) { ask(b, "http://"+address(proxy)+"/?rows=1") })
	for _, way := range []struct{ name, base string }{{"direct", server.URL}, {"proxy", "http://" + address(proxy)}} {
		b.Run("round trip/"+way.name, func(b *testing.B) {
			for b.Loop() {
				ask(b, way.base+"/")
			}
		})
		b.Run("million rows/"+way.name, func(b *testing.B) {
			for b.Loop() {
				if count := ask(b, way.base+"/?rows=1"); count != rows {
					b.Fatalf("got %d rows", count)
				}
			}
		})
	}
}
