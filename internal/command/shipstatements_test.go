//go:build linux

package command_test

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// asking is the beginning of a script that asks the warehouse through the broker.
const asking = `
	port=$(sed -n 's/.*port: //p' "$DBT_PROFILES_DIR/profiles.yml")
	ask() { curl -sS -o /dev/null -w '%{http_code}\n' --user "default:$DBT_ENV_SECRET_OIDC_PASSWORD" --data "$1" "http://127.0.0.1:$port/#[1-$2]" | sort | uniq -c; }
`

// guardedStep is a step whose target prod has a guard, and whose records are
// shipped as the policy's `audit` says.
func guardedStep(t *testing.T, audit func(s *step) string, script string) *step {
	t.Helper()
	s := newFreshStep(t, time.Hour)
	s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{auditRole: {Audience: "sts.amazonaws.com"}}})
	exchange := `{token_exchange: {token_url: "$TOKENS/token", audience: $TOKENS/token, client_id: dbt, target_audience: trino}}`
	s.shippingPolicy(audit(s), exchange, "", "$STS")
	s.write(policyFile, strings.Replace(s.file(policyFile), "  prod:\n",
		"  prod:\n    dbt: {type: clickhouse, host: 127.0.0.1, port: $CLICKHOUSE_PORT, schema: marts}\n    guard: {statements: read}\n", 1))
	s.write(policyFile, s.file(policyFile)+fmt.Sprintf(`  audit-read:
    exchange: {aws: {role: %q, region: eu-central-1, endpoint: $STS, session_policy: '%s'}}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
`, auditRole, auditReader))
	delete(s.env, "INPUT_KEEP-FRESH")
	s.env["INPUT_RUN"] = asking + script
	return s
}

// statementsOf returns the records of statements among lines.
func statementsOf(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, `"class_uid":6005`) })
}

// inFile are the statements that the job's file has, in their order.
func (s *step) inFile() []string {
	s.t.Helper()
	return statementsOf(strings.Split(s.audit(), "\n"))
}

// statements are those that a place took, in the order in which it did.
func (p *place) statements() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return statementsOf(p.taken)
}

// objectNames are the names of what a bucket took, after the runs' ids.
func (p *place) objectNames() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.names {
		_, name, _ = strings.Cut(path.Base(name), "-")
		names = append(names, name)
	}
	return names
}

// TestStatementsArrive: what is at either place is what is in the file, line for
// line, and `audit` reads the bucket's objects as it reads the file.
func TestStatementsArrive(t *testing.T) {
	t.Parallel()
	collector := startPlace(t, acknowledged)
	var bucket *place
	s := guardedStep(t, func(s *step) string {
		bucket = s.startBucket()
		return strings.TrimSuffix(bucketAt(bucket.URL, false), "}") + ", otlp: {endpoint: " + collector.URL + "}, require: [otlp, bucket]}"
	}, "ask 'SELECT 1' 600; ask 'DROP TABLE marts.orders' 1")
	status, out := s.run()
	if status != 0 || strings.Contains(out, "warning") || !strings.Contains(out, " 600 200\n") {
		t.Errorf("status %d: %s", status, out)
	}
	want := s.inFile()
	if len(want) != 601 || !strings.Contains(want[600], `"decision":"denied"`) {
		t.Fatalf("the file has %d statements", len(want))
	}
	for name, got := range map[string][]string{"collector": collector.statements(), "bucket": bucket.statements()} {
		if !slices.Equal(got, want) {
			t.Errorf("the %s has %d statements, and not those of the file", name, len(got))
		}
	}
	names := bucket.objectNames()[2:] // after the decision and the outcome
	for i, name := range names {
		if want := fmt.Sprintf("statements-%06d.json", i+1); name != want {
			t.Errorf("object %d is %q, want %q", i, name, want)
		}
	}
	s.readShipped(bucket, names)
	s.readBucket(want)
	s.post()
	s.checkFolders()
	checkSecrets(t, map[string]string{"stdout": out, "file": s.audit()}, append(s.secrets(), "key-of-the-collector")...)
}

// readShipped has `audit` read the objects of a bucket as a folder, with all and
// without one of them.
func (s *step) readShipped(bucket *place, names []string) {
	s.t.Helper()
	for i, object := range bucket.names {
		s.write(filepath.Join("records", path.Base(path.Dir(object)), path.Base(object)), bucket.bodies[i])
	}
	if r := s.here("audit", "verify", s.at("records")); r.status != 0 || !strings.Contains(r.stdout, "records: 603, runs: 1, ") {
		s.t.Errorf("`audit verify`: status %d\n%s", r.status, r.stdout)
	}
	r := s.here("audit", "show", "--statements", "--json", s.at("records"))
	if n := strings.Count(r.stdout, `"decision":"allowed"`); r.status != 0 || n != 600 {
		s.t.Errorf("`audit show --statements`: status %d, %d statements\n%s", r.status, n, r.stderr)
	}
	if len(names) < 3 {
		s.t.Fatalf("%d objects of 601 statements, want more than two: one has at most 256 KiB", len(names))
	}
	second, err := filepath.Glob(s.at("records/*/*-statements-000002.json"))
	if err != nil || len(second) != 1 {
		s.t.Fatalf("%q, %v", second, err)
	}
	if err := os.Remove(second[0]); err != nil {
		s.t.Fatal(err)
	}
	if r := s.here("audit", "verify", s.at("records")); r.status != 8 || !strings.Contains(r.stdout, "statement-missing: ") ||
		!strings.Contains(r.stdout, fmt.Sprintf(" of the run's 601 statements are missing, with 1 of its %d objects (run ", len(names))) {
		s.t.Errorf("without an object: status %d\n%s", r.status, r.stdout)
	}
}

// readBucket has `audit` read the bucket by its URL, which adds the records of
// its own requests.
func (s *step) readBucket(want []string) {
	s.t.Helper()
	for k := range s.env {
		if strings.HasPrefix(k, "INPUT_") {
			delete(s.env, k)
		}
	}
	from := []string{"--bucket-target", "audit-read", "s3://acme-audit/oidc-dbt/"}
	show := s.here(append([]string{"audit", "show", "--statements", "--json"}, from...)...)
	var shown, sent []string
	for _, list := range []struct {
		lines []string
		to    *[]string
	}{{strings.Split(strings.TrimSpace(show.stdout), "\n"), &shown}, {want, &sent}} {
		for _, line := range list.lines {
			_, sum, _ := strings.Cut(line, `"sha256":"`)
			*list.to = append(*list.to, sum[:min(len(sum), 64)])
		}
	}
	if show.status != 0 || !slices.Equal(shown, sent) {
		s.t.Errorf("`audit show --statements`: status %d, %d statements, want %d\n%s", show.status, len(shown), len(sent), show.stderr)
	}
	if r := s.here(append([]string{"audit", "verify"}, from...)...); r.status != 0 || !strings.Contains(r.stdout, "records: 607, runs: 3, ") {
		s.t.Errorf("`audit verify`: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	year := time.Now().UTC().Format("2006")
	args := append([]string{"audit", "review", "--period", year, "--records", from[2]}, from[:2]...)
	if r := s.here(args...); r.status != 0 || !strings.Contains(r.stdout, ",statements: read,") || !strings.Contains(r.stdout, "# statements,601,") {
		s.t.Errorf("`audit review`: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	if r := s.here(append([]string{"audit", "show", "--target", "prod"}, from...)...); r.status != 0 || strings.Count(r.stdout, "\n") != 2 {
		s.t.Errorf("`audit show`: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// TestStatementsThatAreRequired: once a required place does not take records
// any more, the run is ended with its command, and nothing else passes.
func TestStatementsThatAreRequired(t *testing.T) {
	t.Parallel()
	collector := startPlace(t, acknowledged)
	s := guardedStep(t, func(*step) string { return "{otlp: {endpoint: " + collector.URL + "}, require: otlp}" }, `
		ask 'SELECT 1' 3
		until [ -e refuses ]; do sleep 0.1; done
		while [ "$(ask 'SELECT 2' 1 | tr -d ' ')" = 1200 ]; do sleep 0.1; done
		ask 'SELECT 3' 5
		exec sleep 600`)
	step := s.process()
	step.begin(t)
	soon(t, "statements at the collector", func() bool { return len(collector.statements()) == 3 })
	collector.set(answer(401))
	s.write("workspace/refuses", "")
	_ = step.Wait()
	if status := step.ProcessState.ExitCode(); status != 143 {
		t.Errorf("status is %d, want 143: %s", status, step.said)
	}
	const want = `::error::the guard of target "prod" can no longer record statements, and the run is ended: ` +
		"ship the audit record to otlp: the collector replied with status 401%0A" +
		"hint: the policy requires it (audit.require): no statement goes on without its record\n"
	said := step.said.String()
	if strings.Count(said, want) != 1 ||
		!strings.Contains(said, "warning: records of statements that did not arrive at otlp: ") {
		t.Errorf("it says\n%s\nwant\n%s", said, want)
	}
	if strings.Contains(said, " 5 200") {
		t.Error("statements pass without their records")
	}
	s.checkArrived(collector)
}

// TestStatementsThatNeedNotArrive: a collector that is down is warned of once,
// and the loss is counted; statements pass.
func TestStatementsThatNeedNotArrive(t *testing.T) {
	t.Parallel()
	collector := startPlace(t, acknowledged)
	s := guardedStep(t, func(*step) string { return "{otlp: {endpoint: " + collector.URL + "}}" }, `
		until [ -e refuses ]; do sleep 0.1; done
		ask 'SELECT 1' 400`)
	step := s.process()
	step.begin(t)
	soon(t, "the outcome at the collector", func() bool { return len(collector.lines()) == 2 })
	collector.set(answer(http.StatusBadRequest))
	s.write("workspace/refuses", "")
	if err := step.Wait(); err != nil {
		t.Errorf("%v: %s", err, step.said)
	}
	said := step.said.String()
	for _, want := range []string{
		" 400 200\n",
		"warning: ship the audit record to otlp: the collector replied with status 400\n",
		"warning: records of statements that did not arrive at otlp: 400; the job's audit log has them\n",
	} {
		if strings.Count(said, want) != 1 {
			t.Errorf("it says\n%s\nwant %q once", said, want)
		}
	}
	if n := len(s.inFile()); n != 400 {
		t.Errorf("the file has %d statements, want 400", n)
	}
}

// TestStatementsOfAnInterruptedRun arrive.
func TestStatementsOfAnInterruptedRun(t *testing.T) {
	t.Parallel()
	var bucket *place
	s := guardedStep(t, func(s *step) string {
		bucket = s.startBucket()
		return bucketAt(bucket.URL, true)
	}, "ask 'SELECT 1' 5; touch asked; exec sleep 600")
	step := s.process()
	step.begin(t)
	soon(t, "the queries", func() bool {
		_, err := os.Stat(s.at("workspace/asked"))
		return err == nil
	})
	if status := step.end(t, syscall.SIGTERM); status != 143 {
		t.Errorf("status %d: %s", status, step.said)
	}
	if want, got := s.inFile(), bucket.statements(); len(want) != 5 || !slices.Equal(got, want) {
		t.Errorf("the bucket has %d statements, the file %d", len(got), len(want))
	}
}
