//go:build e2e && wide

package databricks

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestProviderGoesDown: dbt fails soon after its last token has expired, and
// oidc-dbt says why.
func TestProviderGoesDown(t *testing.T) {
	t.Parallel()
	w, issuer, dir, job := slow(t, "databricks", 6, standin.Grace) // dbt tries each remaining model for some seconds
	warehouse := w.next
	var once sync.Once
	var down time.Time
	w.next = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		once.Do(func() { down = time.Now(); w.tokens.Close() })
		warehouse.ServeHTTP(rw, r)
	})
	out, err := run(t, issuer, dir, job, nil, "dbt", "--no-use-colors", "--debug", "build", "--threads", "1", "--fail-fast")
	if err == nil || !strings.Contains(out, `warning: renew the credential: exchange ID token with "databricks": `) {
		t.Errorf("dbt build: %v\n%s", err, out)
	}
	if took := time.Since(down); took > life+5*time.Minute { // takes seconds on an idle machine
		t.Errorf("dbt ended %s after the provider", took)
	}
	// The SDK's errors contain its configuration, and its libraries log requests.
	log, err := os.ReadFile(filepath.Join(dir, "logs", "dbt.log"))
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`/[A-Za-z0-9_-]{43}/token`).FindString(out + string(log)); found != "" {
		t.Errorf("the way to the metadata service is in dbt's output or log: %s", found)
	}
}
