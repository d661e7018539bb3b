// Package dbtpackage builds the dbt package of the folder dbt on the warehouses that run on one machine, compiles it
// for the others, and installs it as a project does.
package dbtpackage

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

const (
	goldens = "../../internal/audit/testdata"
	seeds   = "../../dbt/integration_tests/seeds"
)

// noon is the time of the golden records.
var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// set sets a member of a record, which must exist already, or be one that the
// product leaves out when it is empty: what the product does not write is not in
// a seed.
func set(t *testing.T, record map[string]any, path string, value any) {
	t.Helper()
	keys := strings.Split(path, "/")
	for _, key := range keys[:len(keys)-1] {
		next, ok := record[key].(map[string]any)
		if !ok {
			t.Fatalf("no golden record has %s: %q is missing", path, key)
		}
		record = next
	}
	key := keys[len(keys)-1]
	old, ok := record[key]
	if !ok {
		t.Fatalf("no golden record has %s", path)
	}
	if members, ok := value.(map[string]any); ok {
		for name := range members {
			if _, ok := old.(map[string]any)[name]; !ok {
				t.Fatalf("no golden record has %s/%s", path, name)
			}
		}
	}
	record[key] = value
}

// line returns one of the product's golden records as a line of its log, with other values.
func line(t *testing.T, name string, changes map[string]any) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldens, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	for path, value := range changes {
		set(t, record, path, value)
	}
	line, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

// A request is one run's request for a credential.
type request struct {
	id         string
	run        string // of the CI system
	repository string
	target     string
	provider   string
	kind       string // of the credential
	session    string // the provider's name for it
	at         time.Time
	life       time.Duration
}

// common is what every record of the request has.
func (r request) common(at time.Time, activity string) map[string]any {
	return map[string]any{
		"metadata/correlation_uid":   r.id,
		"metadata/uid":               r.id + "-" + activity,
		"service/name":               r.provider,
		"time":                       at.UnixMilli(),
		"user/name":                  "repo:" + r.repository + ":environment:production",
		"unmapped/target":            r.target,
		"unmapped/claims/repository": r.repository,
		"unmapped/claims/run_id":     r.run,
	}
}

func (r request) allowed(t *testing.T) string {
	return line(t, "allowed", r.common(r.at, "preauth"))
}

func (r request) issued(t *testing.T) string {
	changes := r.common(r.at.Add(time.Second), "logon")
	changes["session/uid"], changes["session/issuer"] = r.session, r.provider
	changes["session/expiration_time"] = r.at.Add(r.life).UnixMilli()
	changes["unmapped/credential_kind"] = r.kind
	changes["unmapped/warehouse_key"] = r.key()
	return line(t, "issued", changes)
}

// key is what the product records of the target's credentials, for the join. (internal/adapter, Trace)
func (r request) key() map[string]any {
	subject := "repo:" + r.repository + ":environment:production"
	switch r.target {
	case "snow":
		return map[string]any{"principal": subject, "user": "DBT_PROD", "query_tag": "oidc-dbt target=snow"}
	case "bq":
		return map[string]any{"principal": serviceAccount}
	case "rs":
		return map[string]any{"session": r.session, "access_key_id": r.accessKey(), "user": "IAMR:dbt-prod", "query_group": "oidc-dbt target=rs"}
	case "dbx":
		return map[string]any{"principal": application, "run_tag": r.run}
	case "lake":
		return map[string]any{"session": r.session, "access_key_id": r.accessKey()}
	case "pg":
		return map[string]any{"lease": r.session, "user": "v-jwt-dbt-" + r.run, "application_name": "oidc-dbt target=pg"}
	case "trino":
		return map[string]any{"principal": subject, "user": "dbt", "client_tag": "run=" + r.run}
	}
	return map[string]any{"principal": subject, "user": "dbt-prod"}
}

// accessKey is the id of an AWS session's key.
func (r request) accessKey() string { return "ASIA" + r.run }

// named returns one of the records that say nothing of a credential.
func (r request) named(t *testing.T, name, activity string) string {
	return line(t, name, r.common(r.at.Add(time.Second), activity))
}

func (r request) revoked(t *testing.T, at time.Time) string {
	changes := r.common(at, "logoff")
	changes["session/uid"], changes["session/issuer"] = r.session, r.provider
	return line(t, "revoked", changes)
}

const (
	serviceAccount = "dbt@acme-dbt.iam.gserviceaccount.com"
	application    = "11111111-2222-3333-4444-555555555555"
)

// requests are three runs for each target, a day apart. What a login looks like is in logs.
func requests() (all []request) {
	targets := []request{
		{target: "snow", provider: "oidc", kind: "id_token", life: 5 * time.Minute},
		{target: "bq", provider: "gcp", kind: "google_access_token", session: serviceAccount, life: time.Hour},
		{target: "rs", provider: "aws", kind: "database_login", life: 15 * time.Minute},
		{target: "dbx", provider: "databricks", kind: "access_token", life: time.Hour},
		{target: "lake", provider: "aws", kind: "aws_session", life: time.Hour},
		{target: "pg", provider: "vault", kind: "database_login", life: time.Hour},
		{target: "trino", provider: "oidc", kind: "id_token", life: 5 * time.Minute},
		{target: "ch", provider: "token_exchange", kind: "access_token", life: 10 * time.Minute},
	}
	for i, r := range targets {
		for day := range 3 {
			r.run = fmt.Sprint(16055860000 + 10*i + day)
			r.id = fmt.Sprintf("%s-%d", strings.ToUpper(r.target), day)
			r.repository = []string{"acme/analytics", "acme/finance"}[i%2]
			r.at = noon.AddDate(0, 0, day)
			switch r.target {
			case "lake", "rs":
				r.session = "arn:aws:sts::123456789012:assumed-role/dbt-prod/" + strings.ReplaceAll(r.repository, "/", "-") + "@" + r.run + "-1"
			case "pg":
				r.session = "database/creds/dbt/" + r.run
			case "bq":
			default:
				r.session = "repo:" + r.repository + ":environment:production"
			}
			all = append(all, r)
		}
	}
	return all
}

// records are the lines of the runs, and one of each other kind of record.
func records(t *testing.T) (lines []string) {
	for _, r := range requests() {
		lines = append(lines, r.allowed(t), r.issued(t))
		if r.target == "pg" {
			lines = append(lines, r.revoked(t, r.at.Add(10*time.Minute)))
		}
	}
	other := func(id string) request {
		return request{id: id, run: "16055869479", repository: "acme/marketing", target: "snow", provider: "oidc", at: noon.Add(time.Hour)}
	}
	lines = append(lines,
		other("DENIED").named(t, "denied", "preauth"),
		other("FAILED").allowed(t), other("FAILED").named(t, "failed", "logon"),
		other("SKIPPED").allowed(t), other("SKIPPED").named(t, "skipped", "logon"),
		other("STOPPED").allowed(t), other("STOPPED").named(t, "stopped", "logon"),
		other("UNKNOWN").allowed(t), // the job was killed
		line(t, "halted", requests()[0].common(requests()[0].at.Add(2*time.Minute), "stopped")),
	)
	killed := other("UNKNOWN-LAKE")
	killed.target, killed.provider = "lake", "aws"
	lines = append(lines, killed.allowed(t))
	static := other("STATIC")
	static.target, static.provider = "static", "vault"
	changes := static.common(static.at.Add(time.Second), "logon")
	changes["session/uid"] = "secret/data/dbt"
	lines = append(lines, static.allowed(t), line(t, "static", changes))
	kept := requests()[15] // a lease of pg, of which a second try says that it could not be ended
	changes = kept.common(kept.at.Add(11*time.Minute), "logoff")
	changes["metadata/uid"], changes["session/uid"] = kept.id+"-logoff-2", kept.session
	lines = append(lines, line(t, "kept", changes))
	renewed := requests()[17] // the third lease of pg lives on
	changes = renewed.common(renewed.at.Add(5*time.Minute), "logon")
	changes["metadata/correlation_uid"], changes["metadata/uid"] = "RENEWED", "RENEWED-logon"
	changes["session/uid"], changes["session/issuer"] = renewed.session, renewed.provider
	changes["session/expiration_time"] = renewed.at.Add(2 * time.Hour).UnixMilli()
	again := renewed
	again.id, again.at = "RENEWED", renewed.at.Add(5*time.Minute)
	lines = append(lines, again.allowed(t), line(t, "renewed", changes))
	return append(lines, lines[0]) // a file that was loaded twice
}

// statements are records of a guard. The product has no guard yet, so their member
// `statement` is in no golden record.
func statements(t *testing.T) (lines []string) {
	for _, query := range []string{"select 1 as snow", "select 1 as pg", "select 1 as trino", "select 1 as ch", "drop table gone"} {
		r := requests()[0]
		changes := r.common(r.at.Add(time.Minute), "statement-"+query)
		var record map[string]any
		if err := json.Unmarshal([]byte(line(t, "allowed", changes)), &record); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(query))
		record["unmapped"].(map[string]any)["statement"] = map[string]any{
			"class": "read", "decision": "allowed", "length": len(query), "sha256": hex.EncodeToString(sum[:]),
		}
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	return lines
}

// table returns rows as CSV, of which the first is the header.
func table(t *testing.T, rows [][]string) string {
	t.Helper()
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	if err := w.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestSeeds holds the integration tests' seeds to the product's golden records,
// so that a change of the records reaches the package.
func TestSeeds(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{"seed_records": records(t), "seed_statements": statements(t)} {
		rows := [][]string{{"record"}}
		for _, line := range lines {
			rows = append(rows, []string{line})
		}
		golden.Compare(t, filepath.Join(seeds, name+".csv"), table(t, rows))
	}
	for name, rows := range logs() {
		golden.Compare(t, filepath.Join(seeds, name+".csv"), table(t, rows))
	}
}

// TestEveryGoldenRecordIsInTheSeeds: a new kind of record must be in records, too.
func TestEveryGoldenRecordIsInTheSeeds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(goldens, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden records: %q, %v", files, err)
	}
	all := strings.Join(records(t), "\n")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var record struct{ Message, Status string }
		if err := json.Unmarshal(text, &record); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%q", record.Message); !strings.Contains(all, want) {
			t.Errorf("no record of the seeds is like %s (%s)", filepath.Base(file), want)
		}
	}
}
