package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const auditRole = "arn:aws:iam::123456789012:role/dbt-audit"

// A collector replies with a status to each request, and keeps the parts of the
// records that it got.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	parts []string
}

func startCollector(t *testing.T, status int) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			ResourceLogs []struct {
				ScopeLogs []struct {
					LogRecords []struct {
						Body struct {
							Text string `json:"stringValue"`
						} `json:"body"`
					} `json:"logRecords"`
				} `json:"scopeLogs"`
			} `json:"resourceLogs"`
		}
		var record struct {
			Activity string `json:"activity_name"`
			Status   string `json:"status"`
		}
		err := json.NewDecoder(r.Body).Decode(&request)
		if err == nil {
			err = json.Unmarshal([]byte(request.ResourceLogs[0].ScopeLogs[0].LogRecords[0].Body.Text), &record)
		}
		if err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Authorization") != "Bearer key-of-the-collector" {
			status = http.StatusBadRequest
		}
		c.mu.Lock()
		c.parts = append(c.parts, record.Activity+" "+record.Status)
		c.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(c.Close)
	return c
}

// TestShipping: where records get to, and what becomes of a run whose records do not.
func TestShipping(t *testing.T) {
	t.Parallel()
	const both = "Preauth Success audit-log\nLogon Success audit-log\n2 ids\n" + issued
	for _, tt := range []struct {
		name    string
		audit   string // $OTLP, $STORE
		writer  string // the rule of the bucket's target, apart from the repository
		claims  map[string]any
		dry     bool
		reply   int // of the collector
		status  int
		puts    int
		parts   string
		says    string
		records string // those of the file
	}{
		{
			name: "both", audit: `{otlp: {endpoint: $OTLP}, bucket: {target: audit-log, url: "s3://acme-audit/oidc-dbt/", endpoint: $STORE}, require: [otlp, bucket]}`,
			reply: 200, puts: 2, parts: "Logon Success, Preauth Success", records: both,
		},
		{
			name: "a denial", audit: `{otlp: {endpoint: $OTLP}, bucket: {target: audit-log, url: "s3://acme-audit/", endpoint: $STORE}, require: bucket}`,
			claims: map[string]any{"ref": "refs/heads/feature"}, reply: 200, status: 5, puts: 1, parts: "Preauth Failure",
			records: "Preauth Failure prod denied", says: `denied by policy: no rule of target "prod" matches`,
		},
		{
			name: "not admitted", audit: `{bucket: {target: audit-log, url: "s3://acme-audit/", endpoint: $STORE}}`,
			writer: ", environment: audit", reply: 200, records: "Preauth Failure audit-log denied",
			says: `::warning::ship the audit record to bucket: target "audit-log": denied by policy`,
		},
		{
			name: "not admitted, and required", audit: `{bucket: {target: audit-log, url: "s3://acme-audit/", endpoint: $STORE}, require: bucket}`,
			writer: ", environment: audit", reply: 200, status: 1, records: issued,
			says: "hint: the policy requires it (audit.require): no credential is handed on without its records",
		},
		{
			name: "the bucket is missing", audit: `{bucket: {target: audit-log, url: "s3://acme-other/", endpoint: $STORE}, require: bucket}`,
			reply: 200, status: 1, puts: 2, records: issued, says: `ship the audit record to bucket: the bucket replied with status 404: "NoSuchBucket"`,
		},
		{
			name: "the collector refuses", audit: `{otlp: {endpoint: $OTLP}, require: otlp}`,
			reply: 401, status: 1, parts: "Logon Success, Preauth Success", records: issued,
			says: "ship the audit record to otlp: the collector replied with status 401",
		},
		{
			name: "the collector refuses, not required", audit: `{otlp: {endpoint: $OTLP}}`,
			reply: 401, parts: "Logon Success, Preauth Success", records: issued,
			says: "::warning::ship the audit record to otlp: the collector replied with status 401\n",
		},
		{name: "a dry run", audit: `{otlp: {endpoint: $OTLP}, require: otlp}`, dry: true, reply: 200,
			records: "Preauth Success prod\n", says: "dry run: nothing was exchanged\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStep(t)
			s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{
				prodRole: {Audience: "sts.amazonaws.com"}, auditRole: {Audience: "sts.amazonaws.com"},
			}})
			store, err := standin.StartStore(s.sts, "acme-audit")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(store.Close)
			c := startCollector(t, tt.reply)
			s.write(policyFile, fmt.Sprintf(`version: 1
identities:
  github: {issuer: $ISSUER, kind: github}
audit: %s
targets:
  prod:
    exchange: {aws: {role: %q, region: eu-central-1, endpoint: $STS}}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  audit-log:
    exchange: {aws: {role: %q, region: eu-central-1, endpoint: $STS}}
    allow: [{repository: acme/analytics, repository_id: "487920697"%s}]
`, strings.NewReplacer("$OTLP", c.URL, "$STORE", store.URL()).Replace(tt.audit), prodRole, auditRole, tt.writer))
			s.env["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=Bearer%20key-of-the-collector"
			s.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://elsewhere.example"
			if tt.dry {
				s.env["INPUT_DRY-RUN"] = "true"
			}
			if !strings.Contains(tt.audit, "bucket") || tt.status == 5 {
				s.env["INPUT_TARGET"] = "prod" // elsewhere the claims choose it
			}
			s.claims(tt.claims)
			r := s.here()
			slices.Sort(c.parts)
			if parts := strings.Join(c.parts, ", "); r.status != tt.status || store.Served("PUT") != tt.puts || parts != tt.parts || store.Refused() != 0 {
				t.Errorf("status %d, %d objects, %d refused, %q at the collector; want %d, %d, 0, %q\n%s%s", r.status, store.Served("PUT"),
					store.Refused(), parts, tt.status, tt.puts, tt.parts, r.stdout, r.stderr)
			}
			if !strings.Contains(r.stdout, tt.says) || tt.says == "" && strings.Contains(r.stdout, "::warning::") {
				t.Errorf("it says\n%s\nwant %q", r.stdout, tt.says)
			}
			log := auditLines(s.audit())
			for line := range strings.Lines(tt.records) {
				if !strings.Contains(log, strings.TrimSuffix(line, "\n")) {
					t.Errorf("the file has\n%s\nwant %q", log, line)
				}
			}
			output := s.file("commands/OUTPUT")
			if handed := strings.Contains(output, "aws-secret-access-key<<"); handed != (tt.status == 0 && !tt.dry) {
				t.Errorf("a credential was handed on: %t\n%s", handed, output)
			}
			checkSecrets(t, map[string]string{"stdout": r.stdout, "stderr": r.stderr, "audit": s.audit(), "output": output,
				"summary": s.file("commands/STEP_SUMMARY")}, "key-of-the-collector")
		})
	}
}
