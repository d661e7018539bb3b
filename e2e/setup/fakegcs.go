package setup

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A FakeGCSServer is fake-gcs-server, an emulator of Cloud Storage that is not
// Google's, on loopback. It keeps objects in memory and checks no credential. Its
// XML API, which DuckDB uses, reads only: it refuses to begin a multipart upload.
type FakeGCSServer struct{ URL string }

// FakeGCS starts fake-gcs-server with an empty bucket.
func FakeGCS(t testing.TB, bucket string) FakeGCSServer {
	t.Helper()
	port := Port(t)
	s := FakeGCSServer{URL: fmt.Sprintf("http://127.0.0.1:%d", port)}
	Start(t, port, nil, Tool(t, "github.com/fsouza/fake-gcs-server@v1.56.1"), "-scheme", "http", "-host", "127.0.0.1",
		"-port", fmt.Sprint(port), "-public-host", fmt.Sprintf("127.0.0.1:%d", port), "-backend", "memory")
	s.post(t, "/storage/v1/b?project=acme", fmt.Sprintf(`{"name": %q}`, bucket))
	return s
}

// Upload writes an object by the JSON API.
func (s FakeGCSServer) Upload(t testing.TB, bucket, name, content string) {
	t.Helper()
	s.post(t, fmt.Sprintf("/upload/storage/v1/b/%s/o?uploadType=media&name=%s", bucket, name), content)
}

func (s FakeGCSServer) post(t testing.TB, path, body string) {
	t.Helper()
	resp, err := http.Post(s.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s, %v", path, resp.Status, text, err)
	}
}
