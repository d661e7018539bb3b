//go:build e2e

// Package collector ships audit records to OpenTelemetry's own collector.
package collector

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// workspace has a policy that requires that records are shipped.
func workspace(t *testing.T, issuer *standin.Issuer, endpoint string) (dir string) {
	t.Helper()
	sts := setup.STS(t, issuer)
	exchange := fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, sts.URL())
	policy := setup.Policy(issuer, "{type: duckdb, path: shop.duckdb, schema: main}", exchange) +
		fmt.Sprintf("audit: {otlp: {endpoint: %q}, require: [otlp]}\n", endpoint)
	dir = t.TempDir()
	setup.Write(t, dir, ".github/oidc-dbt.yml", policy)
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\n")
	return dir
}

// run runs a command that makes a file, with variables ("NAME=value").
func run(
	t *testing.T, issuer *standin.Issuer, dir, log string, variables ...string,
) (status int, out string, ran bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	mark := filepath.Join(t.TempDir(), "ran")
	cmd := setup.ExecCommand(ctx, t, issuer, dir, []string{"--audit-log", log}, "touch", mark)
	cmd.Env = append(cmd.Env, variables...)
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(mark)
	return status, string(text), err == nil
}

// A logRecord is OpenTelemetry's, with what is around it.
type logRecord struct {
	Resource, Attributes map[string]string
	Scope                string
	Time, Severity, Body string
}

type attributes []struct {
	Key   string
	Value struct{ StringValue string }
}

func (list attributes) texts() map[string]string {
	texts := map[string]string{}
	for _, a := range list {
		texts[a.Key] = a.Value.StringValue
	}
	return texts
}

// received returns what the collector wrote into its file, once there are n
// records. (OTLP file exporter: one request of protobuf's JSON a line)
func received(t *testing.T, file string, n int) (records []logRecord) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		records = nil
		whole := text[:bytes.LastIndexByte(text, '\n')+1]
		for line := range strings.Lines(string(whole)) {
			records = append(records, parse(t, line)...)
		}
		if len(records) >= n {
			return records
		}
		if time.Now().After(deadline) {
			t.Fatalf("the collector has, after 30 s, not %d records:\n%s", n, text)
		}
	}
}

func parse(t *testing.T, line string) (records []logRecord) {
	t.Helper()
	var request struct {
		ResourceLogs []struct {
			Resource  struct{ Attributes attributes }
			ScopeLogs []struct {
				Scope      struct{ Name, Version string }
				LogRecords []struct {
					TimeUnixNano, ObservedTimeUnixNano, SeverityText string
					SeverityNumber                                   int
					Body                                             struct{ StringValue string }
					Attributes                                       attributes
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(line), &request); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, r := range request.ResourceLogs {
		for _, s := range r.ScopeLogs {
			for _, l := range s.LogRecords {
				records = append(records, logRecord{
					Resource: r.Resource.Attributes.texts(), Attributes: l.Attributes.texts(), Scope: s.Scope.Name,
					Time: l.TimeUnixNano, Severity: fmt.Sprintf("%d %s", l.SeverityNumber, l.SeverityText), Body: l.Body.StringValue,
				})
				observed, err := strconv.ParseInt(l.ObservedTimeUnixNano, 10, 64)
				if err != nil || time.Since(time.Unix(0, observed)).Abs() > 10*time.Minute {
					t.Errorf("observed at %s", l.ObservedTimeUnixNano)
				}
			}
		}
	}
	return records
}

// expected is what the collector should have of a log's line.
func expected(t *testing.T, line string) logRecord {
	t.Helper()
	var record struct {
		Time     int64
		Activity string `json:"activity_name"`
		Status   string
		Class    int `json:"class_uid"`
		Metadata struct {
			ID      string `json:"correlation_uid"`
			UID     string `json:"uid"`
			Product struct{ Version string }
		}
		User struct{ Name string }
	}
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return logRecord{
		Resource: map[string]string{"service.name": "oidc-dbt", "service.version": record.Metadata.Product.Version},
		Attributes: map[string]string{
			"event.name": "oidc_dbt.audit", "oidc_dbt.correlation_uid": record.Metadata.ID,
			"oidc_dbt.part": cmp.Or(map[string]string{"Preauth": "decision", "Logon": "outcome"}[record.Activity],
				strings.TrimPrefix(record.Metadata.UID, record.Metadata.ID+"-")),
			"oidc_dbt.target": "prod", "enduser.id": cmp.Or(record.User.Name, "repo:acme/analytics:environment:production"),
			"ocsf.class_uid": strconv.Itoa(record.Class),
		},
		Scope: "oidc-dbt", Time: strconv.FormatInt(record.Time*int64(time.Millisecond), 10),
		Severity: map[string]string{"Success": "9 INFO", "Failure": "13 WARN"}[record.Status],
		Body:     strings.TrimSuffix(line, "\n"),
	}
}

// TestCollector: a run's records, and a denial's, are at the collector as they are in the file, over TLS of the company's
// own authority. Without a certificate that the collector wants, no credential is handed on.
func TestCollector(t *testing.T) {
	t.Parallel()
	program := setup.CollectorProgram(t)
	ca, certificate := setup.Certificate(t)
	clients, client, key := setup.ClientCertificate(t)
	authority, mutual := "OTEL_EXPORTER_OTLP_CERTIFICATE="+ca, ", client_ca_file: "+clients
	for _, tt := range []struct {
		name, tls string
		variables []string
	}{
		{"as the page has it", "", []string{authority}},
		{"certificate and gzip", mutual, []string{authority, "OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE=" + client,
			"OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY=" + key, "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION=gzip"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			endpoint, file := setup.Collector(t, program, certificate, tt.tls)
			arrive(t, endpoint, file, tt.variables)
		})
	}
	t.Run("statements", func(t *testing.T) {
		t.Parallel()
		endpoint, file := setup.Collector(t, program, certificate, "")
		statements(t, endpoint, file, authority)
	})
	t.Run("no certificate", func(t *testing.T) {
		t.Parallel()
		endpoint, file := setup.Collector(t, program, certificate, mutual)
		issuer := setup.Issuer(t)
		status, out, ran := run(t, issuer, workspace(t, issuer, endpoint), filepath.Join(t.TempDir(), "audit.jsonl"), authority)
		if status != 1 || ran || !strings.Contains(out, "ship the audit record to otlp: ") ||
			!strings.Contains(out, "hint: the policy requires it (audit.require)") {
			t.Errorf("status %d, the command ran: %t\n%s", status, ran, out)
		}
		if text, err := os.ReadFile(file); err != nil || len(text) != 0 {
			t.Errorf("the collector has %s, %v", text, err)
		}
	})
}

// arrive compares what two runs log with what the collector has.
func arrive(t *testing.T, endpoint, file string, variables []string) {
	t.Helper()
	issuer := setup.Issuer(t)
	dir, log := workspace(t, issuer, endpoint), filepath.Join(t.TempDir(), "audit.jsonl")
	if status, out, ran := run(t, issuer, dir, log, variables...); status != 0 || !ran {
		t.Fatalf("status %d, the command ran: %t\n%s", status, ran, out)
	}
	claims := standin.GitHubClaims()
	claims["ref"] = "refs/heads/feature"
	issuer.SetClaims(claims)
	if status, out, ran := run(t, issuer, dir, log, variables...); status != 5 || ran {
		t.Errorf("denied: status %d, the command ran: %t\n%s", status, ran, out)
	}
	compare(t, log, file, 3)
}

// compare holds the collector's records to the log's, of which there are count.
func compare(t *testing.T, log, file string, count int) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]logRecord{}, map[string]logRecord{} // by body: a run's outcome may overtake its decision
	for line := range strings.Lines(string(text)) {
		r := expected(t, line)
		want[r.Body] = r
	}
	for _, r := range received(t, file, len(want)) {
		got[r.Body] = r
	}
	if diff := gocmp.Diff(want, got); diff != "" || len(want) != count {
		t.Errorf("the collector's records (-the file's %d, +the collector's):\n%s", len(want), diff)
	}
}

// statements compares what a run behind a guard logs with what the collector has.
func statements(t *testing.T, endpoint, file, authority string) {
	t.Helper()
	warehouse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "1\n") }))
	t.Cleanup(warehouse.Close)
	issuer := setup.Issuer(t)
	tokens, err := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Users: []string{"repo:acme/analytics:environment:production"},
		Clients: map[string]standin.AuthClient{"dbt": {Targets: []string{"clickhouse"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	exchange := fmt.Sprintf("{token_exchange: {token_url: %q, audience: %q, client_id: dbt, target_audience: clickhouse}}",
		tokens.URL()+"/token", tokens.URL()+"/token")
	block := fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %s, schema: marts}", strings.TrimPrefix(warehouse.URL, "http://127.0.0.1:"))
	policy := setup.Policy(issuer, block, exchange) + fmt.Sprintf("audit: {otlp: {endpoint: %q}, require: [otlp]}\n", endpoint)
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "audit.jsonl")
	setup.Write(t, dir, ".github/oidc-dbt.yml", strings.Replace(policy, "    allow:\n", "    guard: {statements: read}\n    allow:\n", 1))
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\n")
	const script = `port=$(sed -n 's/.*port: //p' "$DBT_PROFILES_DIR/profiles.yml")
for text in 'SELECT 1' 'DROP TABLE marts.orders'; do
	curl -sS --user "default:$DBT_ENV_SECRET_OIDC_PASSWORD" --data "$text" "http://127.0.0.1:$port/#[1-300]" > replies
done`
	cmd := setup.ExecCommand(t.Context(), t, issuer, dir, []string{"--audit-log", log}, "sh", "-c", script)
	cmd.Env = append(cmd.Env, authority)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	compare(t, log, file, 602)
}
