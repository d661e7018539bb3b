//go:build e2e

package minio

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// life is the lifetime of a session behind a gateway. MinIO's own shortest is 15 minutes.
const life = 3 * time.Second

// A gateway is in front of MinIO. It changes the token service's replies so that
// sessions expire after life, and has the store refuse expired ones after their
// grace, with S3's error.
type gateway struct {
	next  *httputil.ReverseProxy
	grace time.Duration
	gives int // sessions before the token service goes down; 0 for any number
	life  time.Duration
	early int // requests after which the first session is refused although it is valid; 0 for never

	mu      sync.Mutex
	expiry  map[string]time.Time // by access key id
	served  map[string]int       // requests by access key id
	first   string               // the access key id of the first session
	refused int
}

var (
	xmlKey        = regexp.MustCompile(`<AccessKeyId>([^<]+)</AccessKeyId>`)
	xmlExpiration = regexp.MustCompile(`<Expiration>[^<]+</Expiration>`)
	signedBy      = regexp.MustCompile(`Credential=([^/]+)/`)
)

func newGateway(t *testing.T, endpoint string, grace time.Duration) (d *gateway, address string) {
	t.Helper()
	minio, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	d = &gateway{life: life, grace: grace, expiry: map[string]time.Time{}, served: map[string]int{}}
	d.next = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(minio)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ModifyResponse: d.shorten,
	}
	host, port := setup.Serve(t, d)
	return d, fmt.Sprintf("%s:%d", host, port)
}

// shorten replaces the expiry in a reply of the token service.
func (d *gateway) shorten(r *http.Response) error {
	if r.Request.Method != http.MethodPost || r.Request.URL.Path != "/" || r.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if key := xmlKey.FindSubmatch(body); key != nil {
		expiry := time.Now().Add(d.life).UTC().Truncate(time.Second)
		body = xmlExpiration.ReplaceAll(body, []byte("<Expiration>"+expiry.Format(time.RFC3339)+"</Expiration>"))
		d.mu.Lock()
		d.expiry[string(key[1])] = expiry
		if d.first == "" {
			d.first = string(key[1])
		}
		d.mu.Unlock()
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

func (d *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && r.URL.Path == "/" {
		d.mu.Lock()
		down := d.gives > 0 && len(d.expiry) >= d.gives
		d.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
	}
	if key := signedBy.FindStringSubmatch(r.Header.Get("Authorization")); key != nil {
		d.mu.Lock()
		dead := !time.Now().Before(d.expiry[key[1]].Add(d.grace)) || d.early > 0 && key[1] == d.first && d.served[d.first] >= d.early
		if dead {
			d.refused++
		} else {
			d.served[key[1]]++
		}
		d.mu.Unlock()
		if dead {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>")
			return
		}
	}
	d.next.ServeHTTP(w, r)
}

// slow adds branches to the project, each of which sleeps for the lifetime of a
// session between two files that it writes to the store.
func slow(t *testing.T, dir string, branches int) (nodes int) {
	t.Helper()
	const (
		write = "-- depends_on: {{ ref('%s') }}\n{{ config(materialized='external', location='s3://lake/%s.parquet') }}\nselect * from {{ ref('raw_orders') }}\n"
		sleep = "import time\n\ndef model(dbt, session):\n    dbt.config(materialized='table')\n    dbt.ref('%s')\n    time.sleep(%d)\n    return session.sql('select 1 as one')\n"
	)
	for b := range branches {
		before := "raw_orders"
		for step := range 3 {
			file, wait := fmt.Sprintf("file_%d_%d", b, step), fmt.Sprintf("wait_%d_%d", b, step)
			setup.Write(t, dir, "models/"+file+".sql", fmt.Sprintf(write, before, file))
			nodes++
			if step < 2 {
				setup.Write(t, dir, "models/"+wait+".py", fmt.Sprintf(sleep, file, life/time.Second))
				nodes++
			}
			before = wait
		}
	}
	return nodes
}

// TestOutlivesSessions: a build that outlives several sessions passes with the
// broker, and fails without it.
func TestOutlivesSessions(t *testing.T) {
	t.Parallel()
	endpoint, data, issuer := start(t)
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprintf("threads %d", threads), func(t *testing.T) {
			t.Parallel()
			d, address := newGateway(t, endpoint, standin.Grace)
			dir := workspace(t, address, issuer, threads)
			want := fmt.Sprintf("PASS=%d WARN=0 ERROR=0", 5+slow(t, dir, threads))
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			out, err := setup.Exec(t, issuer, dir, []string{"--audit-log", audit}, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
			if err != nil || !strings.Contains(out, want) {
				t.Fatalf("dbt build: %v, want %s\n%s", err, want, out)
			}
			if len(d.served) < 3 || d.refused > 0 {
				t.Errorf("the store served %d sessions and refused %d requests, want 3 sessions at least, and none", len(d.served), d.refused)
			}
			log, err := os.ReadFile(audit)
			if err != nil {
				t.Fatal(err)
			}
			if issued := strings.Count(string(log), `"outcome":"issued"`); issued < len(d.served) {
				t.Errorf("the audit log has %d sessions, %d were used:\n%s", issued, len(d.served), log)
			}
			if _, err := os.Stat(filepath.Join(data, "lake", "file_0_2.parquet")); err != nil {
				t.Errorf("the store does not have the last file: %v", err)
			}
		})
	}
	t.Run("without the broker", func(t *testing.T) {
		t.Parallel()
		_, address := newGateway(t, endpoint, 0)
		dir := workspace(t, address, issuer, 8)
		slow(t, dir, 1)
		env, _ := setup.Authenticate(t, issuer, dir)
		out, err := setup.DBT(t, setup.Python(t), dir, env, "build")
		if err == nil || !strings.Contains(out, "ExpiredToken") {
			t.Errorf("dbt build: %v, want a session that has expired\n%s", err, out)
		}
	})
}

// TestSessionEndedEarly: the store refuses a session that should be valid for an
// hour. The broker gets another one, once, and dbt does not notice.
func TestSessionEndedEarly(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	d, address := newGateway(t, endpoint, 0)
	d.life, d.early = time.Hour, 5
	dir := workspace(t, address, issuer, 4)
	want := fmt.Sprintf("PASS=%d WARN=0 ERROR=0", 5+slow(t, dir, 4))
	out, err := setup.Exec(t, issuer, dir, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("dbt build: %v, want %s\n%s", err, want, out)
	}
	if len(d.served) != 2 || d.served[d.first] != d.early || d.refused == 0 {
		t.Errorf("the store served %v and refused %d requests, want two sessions, the first one %d times", d.served, d.refused, d.early)
	}
	if n := strings.Count(out, "the warehouse refused the credential, which should be valid until "); n != 1 {
		t.Errorf("told of %d refusals, want one\n%s", n, out)
	}
}

// TestTokenServiceGoesDown: dbt fails soon after the last session has expired, and says why.
func TestTokenServiceGoesDown(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	d, address := newGateway(t, endpoint, standin.Grace)
	d.gives = 1
	dir := workspace(t, address, issuer, 8)
	slow(t, dir, 1)
	out, err := setup.Exec(t, issuer, dir, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	for _, want := range []string{"Bad Request (HTTP code 400)", `ExpiredToken: oidc-dbt: exchange ID token with "aws": `, "oidc-dbt: warning: renew the credential: "} {
		if err == nil || !strings.Contains(out, want) {
			t.Fatalf("dbt build: %v, want %q\n%s", err, want, out)
		}
	}
	for _, node := range took.FindAllStringSubmatch(out, -1) {
		if d, err := time.ParseDuration(node[1]); err != nil || d > 5*time.Minute { // takes ten seconds on an idle machine
			t.Errorf("a node failed after %s\n%s", node[1], out)
		}
	}
}

var took = regexp.MustCompile(`\[ERROR in ([0-9.]+s)\]`)
