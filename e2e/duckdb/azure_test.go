//go:build e2e

package duckdb

import (
	"bytes"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A blobStore is as much of Azure Blob Storage as DuckDB needs: block blobs that
// are written in blocks and read in ranges.
type blobStore struct {
	mu     sync.Mutex
	blobs  map[string][]byte // by path: container and name
	blocks map[string][]byte // by path and block id, until they are committed to a blob
}

func (s *blobStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	header := w.Header()
	header.Set("x-ms-version", r.Header.Get("x-ms-version"))
	header.Set("x-ms-request-id", "1")
	switch query := r.URL.Query(); {
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = s.put(r.URL.Path, query.Get("comp"), query.Get("blockid"), body)
		}
		if err != nil {
			header.Set("x-ms-error-code", "InvalidBlockList")
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		header.Set("ETag", `"0x1"`)
		header.Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		header.Set("x-ms-request-server-encrypted", "true")
		w.WriteHeader(http.StatusCreated)
	case r.Method != http.MethodGet && r.Method != http.MethodHead, query.Get("comp") != "":
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		blob, ok := s.blobs[r.URL.Path]
		if !ok {
			header.Set("x-ms-error-code", "BlobNotFound")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		for name, value := range map[string]string{
			"ETag": `"0x1"`, "Content-Type": "application/octet-stream", "x-ms-blob-type": "BlockBlob", "x-ms-server-encrypted": "true",
			"x-ms-creation-time": time.Now().UTC().Format(http.TimeFormat), "x-ms-lease-status": "unlocked", "x-ms-lease-state": "available",
		} {
			header.Set(name, value)
		}
		if of := r.Header.Get("x-ms-range"); of != "" {
			r.Header.Set("Range", of)
		}
		http.ServeContent(w, r, "", time.Now(), bytes.NewReader(blob))
	}
}

// put is Put Block, Put Block List and Put Blob. (Azure Storage REST API)
func (s *blobStore) put(path, comp, id string, body []byte) error {
	switch comp {
	case "block":
		s.blocks[path+" "+id] = body
		return nil
	case "":
		s.blobs[path] = body
		return nil
	}
	var list struct {
		Blocks []struct {
			ID string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		return err
	}
	var blob []byte
	for _, b := range list.Blocks {
		block, ok := s.blocks[path+" "+b.ID]
		if !ok {
			return fmt.Errorf("there is no block %q", b.ID)
		}
		blob = append(blob, block...)
	}
	s.blobs[path] = blob
	return nil
}

// TestAzureStorage: the gateway accepts tokens that Entra ID issued to the
// application for Azure Storage. It serves TLS at ACCOUNT.localhost, which the
// extension's HTTP client resolves to loopback, with its own authority.
func TestAzureStorage(t *testing.T) {
	t.Parallel()
	const application, resource = "66666666-7777-8888-9999-000000000000", "https://storage.azure.com"
	issuer, clock := setup.Issuer(t), &clock{}
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant:       "acme.onmicrosoft.com",
		Applications: map[string][]standin.FederatedCredential{application: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
		Resources:    []string{resource, "https://database.windows.net"}, Now: clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	store := &blobStore{blobs: map[string][]byte{}, blocks: map[string][]byte{}}
	d := &gateway{next: store, let: func(bearer string) bool { return entra.Valid(bearer, resource+"/.default") }}
	ca, key := setup.Certificate(t, "acmelake.localhost")
	port := serveTLS(t, d, key)
	exchange := func(more string) string {
		return fmt.Sprintf("{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q%s}}", application, entra.URL(), more)
	}
	block := fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: azure, account_name: acmelake, endpoint: "localhost:%d"}]}`, port)
	workspace := setup.Project(t, issuer, block, exchange(""))
	lake(t, workspace, "az://lake/orders.parquet")
	env, _ := setup.Authenticate(t, issuer, workspace)
	env["CURL_CA_INFO"] = ca
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	if len(store.blobs["/lake/orders.parquet"]) == 0 {
		t.Error("the blob is not there")
	}
	if in, refused := d.in.Load(), d.refused.Load(); in == 0 || refused > 0 {
		t.Errorf("%d requests, %d refusals; want some and none", in, refused)
	}
	other, _ := setup.Authenticate(t, issuer, setup.Project(t, issuer, block, exchange(`, scope: "https://database.windows.net/.default"`)))
	good := env["DBT_ENV_SECRET_OIDC_TOKEN"]
	expectRefused(t, workspace, env, other["DBT_ENV_SECRET_OIDC_TOKEN"], d)
	clock.forward(61 * time.Minute)
	expectRefused(t, workspace, env, good, d)
}

// serveTLS serves on loopback with the key and certificate of a PEM file.
func serveTLS(t *testing.T, h http.Handler, key string) (port int) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(key, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	go func() { _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().(*net.TCPAddr).Port
}
