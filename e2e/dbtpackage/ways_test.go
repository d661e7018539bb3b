//go:build e2e && linux && amd64

package dbtpackage

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// inFile returns all lines of the jobs' file, and those of them that are shipped: not the ends of leases, and not the
// requests by which shipping itself gets its credential.
func (c *company) inFile(t *testing.T) (all, shipped []string) {
	t.Helper()
	text, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var record struct {
			Activity string `json:"activity_name"`
			Unmapped struct{ Target string }
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		all = append(all, line)
		if record.Activity != "Logoff" && record.Unmapped.Target != "audit-log" {
			shipped = append(shipped, line)
		}
	}
	slices.Sort(shipped)
	return all, shipped
}

// inBucket downloads the objects of the bucket.
func (c *company) inBucket(t *testing.T) (lines []string) {
	t.Helper()
	bucket := c.store.URL + "/acme-audit"
	status, reply := setup.SendS3(t, setup.MinIORoot(), http.MethodGet, bucket+"?list-type=2", "", "")
	var list struct {
		IsTruncated bool
		Contents    []struct{ Key string }
	}
	if err := xml.Unmarshal([]byte(reply), &list); err != nil || status != http.StatusOK || list.IsTruncated {
		t.Fatalf("list the bucket: status %d, %v: %s", status, err, reply)
	}
	for _, object := range list.Contents {
		key := strings.ReplaceAll(object.Key, "=", "%3D") // as it is signed
		status, reply := setup.SendS3(t, setup.MinIORoot(), http.MethodGet, bucket+"/"+key, "", "")
		if status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", object.Key, status, reply)
		}
		lines = append(lines, strings.TrimSuffix(reply, "\n"))
	}
	slices.Sort(lines)
	return lines
}

// atCollector returns the bodies in the collector's file, once there are as many as are wanted. A record may arrive
// twice.
func (c *company) atCollector(t *testing.T, want int) (lines []string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(c.collected)
		if err != nil {
			t.Fatal(err)
		}
		lines = nil
		for line := range strings.Lines(string(text)) {
			if strings.HasSuffix(line, "\n") { // the last one may be in the making
				lines = append(lines, bodies(t, line)...)
			}
		}
		slices.Sort(lines)
		if lines = slices.Compact(lines); len(lines) >= want || time.Now().After(deadline) {
			return lines
		}
	}
}

// bodies are those of a request's log records.
func bodies(t *testing.T, request string) (lines []string) {
	t.Helper()
	var logs struct {
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct {
					Body struct{ StringValue string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(request), &logs); err != nil {
		t.Fatalf("%v: %s", err, request)
	}
	for _, r := range logs.ResourceLogs {
		for _, s := range r.ScopeLogs {
			for _, l := range s.LogRecords {
				lines = append(lines, l.Body.StringValue)
			}
		}
	}
	return lines
}
