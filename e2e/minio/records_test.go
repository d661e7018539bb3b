//go:build e2e

package minio

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// root owns the store.
var root = setup.MinIORoot()

// lock makes a bucket with Object Lock, whose versions are kept in compliance mode.
func lock(t *testing.T, bucket string) {
	t.Helper()
	const retention = `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>` +
		`<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>`
	status, reply := setup.SendS3(t, root, http.MethodPut, bucket, "", "X-Amz-Bucket-Object-Lock-Enabled: true")
	if status != http.StatusOK {
		t.Fatalf("make the bucket: status %d: %s", status, reply)
	}
	if status, reply := setup.SendS3(t, root, http.MethodPut, bucket+"?object-lock=", retention, ""); status != http.StatusOK {
		t.Fatalf("lock the bucket: status %d: %s", status, reply)
	}
}

// A version is one of an object.
type version struct {
	Key       string
	VersionId string //nolint:revive,staticcheck // S3's name
}

// versions are all of a bucket, delete markers too.
func versions(t *testing.T, bucket string) []version {
	t.Helper()
	status, reply := setup.SendS3(t, root, http.MethodGet, bucket+"?versions=", "", "")
	var list struct {
		Version, DeleteMarker []version
	}
	if err := xml.Unmarshal([]byte(reply), &list); err != nil || status != http.StatusOK {
		t.Fatalf("list the versions: status %d, %v: %s", status, err, reply)
	}
	return slices.Concat(list.Version, list.DeleteMarker)
}

// rolePolicy is the page's policy of the role that may only write records, or only read them: it follows words of the page.
func rolePolicy(t *testing.T, words string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), words)
	_, text, _ = strings.Cut(text, "```json\n")
	text, _, end := strings.Cut(text, "```")
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil || !found || !end {
		t.Fatalf("the page's policy: %v: %s", err, text)
	}
	return compact.String()
}

// shipping is the usual workspace, whose records go to a bucket, too.
func shipping(t *testing.T, endpoint string, issuer *standin.Issuer, bucket string) (dir string) {
	t.Helper()
	dir = workspace(t, strings.TrimPrefix(endpoint, "http://"), issuer, 1)
	path := filepath.Join(dir, ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf(`  audit-log:
    exchange:
      aws:
        {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: %q, session_policy: '%s'}
    allow:
      - {repository: acme/analytics, repository_id: "487920697"}
  audit-read:
    exchange:
      aws:
        {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: %q, session_policy: '%s'}
    allow:
      - {repository: acme/analytics, repository_id: "487920697"}
audit:
  bucket: {target: audit-log, url: "s3://%s/oidc-dbt/", endpoint: %q}
  require: [bucket]
`, endpoint, strings.ReplaceAll(rolePolicy(t, "The role may put objects"), "acme-audit", bucket),
		endpoint, strings.ReplaceAll(rolePolicy(t, "The reader's role may"), "acme-audit", bucket), bucket, endpoint)
	setup.Write(t, dir, ".github/oidc-dbt.yml", string(policy)+more)
	return dir
}

// build runs dbt, and returns the path of the audit log.
func build(t *testing.T, issuer *standin.Issuer, dir string) (log, out string, err error) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "audit.jsonl")
	dbt := setup.Python(t).Program("dbt")
	out, err = setup.Exec(t, issuer, dir, []string{"--audit-log", log}, dbt, "--no-use-colors", "build")
	return log, out, err
}

// runRecords are a log's lines of the target prod, by the path of the object that each becomes.
func runRecords(t *testing.T, log string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for line := range strings.Lines(string(text)) {
		var record struct {
			Time     int64  `json:"time"`
			Activity string `json:"activity_name"`
			Metadata struct {
				ID string `json:"correlation_uid"`
			} `json:"metadata"`
			Unmapped struct {
				Target string `json:"target"`
			} `json:"unmapped"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record.Unmapped.Target != "prod" {
			continue
		}
		day := time.UnixMilli(record.Time).UTC().Format(time.DateOnly)
		part := map[string]string{"Preauth": "decision", "Logon": "outcome"}[record.Activity]
		objects["oidc-dbt/date="+day+"/"+record.Metadata.ID+"-"+part+".json"] = line
	}
	return objects
}

// writer is a session of the target that writes the records.
func writer(t *testing.T, issuer *standin.Issuer, dir string) aws.Credentials {
	t.Helper()
	step, err := standin.RunStep(t.Context(), standin.StepConfig{
		Binary: setup.Binary(t), Root: t.TempDir(), Workspace: dir,
		Inputs: map[string]string{"target": "audit-log"}, Env: issuer.RunnerEnv(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if step.Status != 0 {
		log, _, _ := step.Log()
		t.Fatalf("the step ended with status %d:\n%s", step.Status, log)
	}
	return aws.Credentials{
		AccessKeyID: step.Outputs["aws-access-key-id"], SecretAccessKey: step.Outputs["aws-secret-access-key"],
		SessionToken: step.Outputs["aws-session-token"],
	}
}

// TestRecordsAreLocked: the records of a build are in a bucket with Object Lock, and the credential that wrote them can
// do nothing more to them.
func TestRecordsAreLocked(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	bucket := endpoint + "/acme-audit"
	lock(t, bucket)
	dir := shipping(t, endpoint, issuer, "acme-audit")
	log, out, err := build(t, issuer, dir)
	if err != nil || !strings.Contains(out, "PASS=5 WARN=0 ERROR=0") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	want := runRecords(t, log)
	first := versions(t, bucket)
	if len(want) < 2 || len(first) != len(want) {
		t.Fatalf("the log has %d records, the bucket %d versions, want as many, at least two", len(want), len(first))
	}
	records := t.TempDir()
	for key, line := range want {
		status, reply := setup.SendS3(t, root, http.MethodGet, bucket+"/"+escaped(key), "", "")
		if status != http.StatusOK || reply != line {
			t.Errorf("%s: status %d: %s\nwant the line of the log: %s", key, status, reply, line)
		}
		setup.Write(t, records, key, reply)
	}
	if out, err := exec.Command(setup.Binary(t), "audit", "verify", records).CombinedOutput(); err != nil {
		t.Errorf("audit verify of the bucket's records: %v\n%s", err, out)
	}

	readBack(t, issuer, dir, want)
	keys := writer(t, issuer, dir)
	known := versions(t, bucket) // with the records of that step
	for _, v := range first {
		limits(t, keys, bucket, v)
	}
	if now := versions(t, bucket); !slices.Equal(now, known) {
		t.Errorf("the bucket's versions are %v, were %v", now, known)
	}

	// Without the condition there is a further version, and the one before it stays.
	v := first[slices.IndexFunc(first, func(v version) bool { return strings.HasSuffix(v.Key, "-decision.json") })]
	if status, reply := setup.SendS3(t, keys, http.MethodPut, bucket+"/"+escaped(v.Key), "{}\n", ""); status != http.StatusOK {
		t.Errorf("a write without the condition: status %d: %s", status, reply)
	}
	status, reply := setup.SendS3(t, root, http.MethodGet, bucket+"/"+escaped(v.Key)+"?versionId="+v.VersionId, "", "")
	if status != http.StatusOK || reply != want[v.Key] {
		t.Errorf("the first version of %s: status %d: %s", v.Key, status, reply)
	}
	readBack(t, issuer, dir, want) // as if it were not there
}

// readBack reads the bucket by a credential that may do nothing else, which is the page's policy of the reader.
func readBack(t *testing.T, issuer *standin.Issuer, dir string, want map[string]string) {
	t.Helper()
	for _, args := range [][]string{{"show", "--json", "--target", "prod"}, {"show", "--json", "--target", "prod", "--since", "1h"}, {"verify"}} {
		cmd := exec.Command(setup.Binary(t), slices.Concat([]string{"audit"}, args, []string{"--bucket-target", "audit-read",
			"--audit-log", filepath.Join(t.TempDir(), "audit.jsonl"), "s3://acme-audit/oidc-dbt/"})...)
		cmd.Dir = dir
		for name, value := range issuer.RunnerEnv() {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("audit %q: %v\n%s%s", args, err, &stdout, &stderr)
			continue
		}
		if args[0] == "verify" {
			if !strings.Contains(stdout.String(), "findings: 0\n") {
				t.Errorf("audit verify: %s", &stdout)
			}
			continue
		}
		for key := range want {
			if n := strings.Count(stdout.String(), `"file":"s3://acme-audit/`+key+`"`); n != 1 {
				t.Errorf("audit %q: %s is there %d times\n%s", args, key, n, &stdout)
			}
		}
	}
}

// escaped is a key as it is signed.
func escaped(key string) string { return strings.ReplaceAll(key, "=", "%3D") }

// limits holds the writer's session, and root, to what they may do with a version.
func limits(t *testing.T, keys aws.Credentials, bucket string, v version) {
	t.Helper()
	const (
		once   = "If-None-Match: *"
		bypass = "X-Amz-Bypass-Governance-Retention: true"
		none   = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
	)
	object := bucket + "/" + escaped(v.Key)
	exact := "versionId=" + v.VersionId
	soon := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	release := "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>" + soon + "</RetainUntilDate></Retention>"
	for _, tt := range []struct {
		name              string
		keys              aws.Credentials
		method, url, body string
		header            string
		status            int
		code              string
	}{
		{"overwrite", keys, http.MethodPut, object, "{}\n", once, 412, "PreconditionFailed"},
		{"read", keys, http.MethodGet, object, "", "", 403, "AccessDenied"},
		{"read the version", keys, http.MethodGet, object + "?" + exact, "", "", 403, "AccessDenied"},
		{"list", keys, http.MethodGet, bucket + "?list-type=2", "", "", 403, "AccessDenied"},
		{"delete", keys, http.MethodDelete, object, "", "", 403, "AccessDenied"},
		{"delete the version", keys, http.MethodDelete, object + "?" + exact, "", "", 403, "AccessDenied"},
		{"release the version", keys, http.MethodPut, object + "?retention=&" + exact, release, bypass, 400, "InvalidRequest"},
		{"unlock the bucket", keys, http.MethodPut, bucket + "?object-lock=", none, "", 403, "AccessDenied"},
		{"write elsewhere", keys, http.MethodPut, bucket + "/elsewhere.json", "{}\n", once, 403, "AccessDenied"},
		{"overwrite as root", root, http.MethodPut, object, "{}\n", once, 412, "PreconditionFailed"},
		{"delete the version as root", root, http.MethodDelete, object + "?" + exact, "", bypass, 400, "InvalidRequest"},
		{"release the version as root", root, http.MethodPut, object + "?retention=&" + exact, release, bypass, 400, "InvalidRequest"},
	} {
		status, reply := setup.SendS3(t, tt.keys, tt.method, tt.url, tt.body, tt.header)
		if status != tt.status || !strings.Contains(reply, "<Code>"+tt.code+"</Code>") {
			t.Errorf("%s: status %d, want %d with %q: %s", tt.name, status, tt.status, tt.code, reply)
		}
	}
}

// TestBucketIsMissing: where its records cannot be written, dbt does not start.
func TestBucketIsMissing(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	dir := shipping(t, endpoint, issuer, "acme-missing")
	log, out, err := build(t, issuer, dir)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("%v, want status 1", err)
	}
	for _, want := range []string{
		`ship the audit record to bucket: the bucket replied with status 404: "NoSuchBucket"`,
		"hint: the policy requires it (audit.require): no credential is handed on without its records",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it says\n%s\nwant %q", out, want)
		}
	}
	for _, name := range []string{"logs", "target"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("dbt has made %s: %v\n%s", name, err, out)
		}
	}
	if parts := slices.Sorted(maps.Keys(runRecords(t, log))); len(parts) != 2 {
		t.Errorf("the file has the records %q, want two", parts)
	}
}
