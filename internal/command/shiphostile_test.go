package command_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// evil is a claim that is a formula to spreadsheets, a script to browsers, a
// command to runners, a table's cell to Markdown, a string's end to SQL, and
// moves a terminal's cursor.
const evil = "=cmd|'/c calc'!A0<script>alert(1)</script>\r\n::error::x\n##[add-mask]y | **b** [a](https://evil.example) \x1b[2J\u202e\"'; DROP TABLE x; --"

// TestHostileClaims: a token with such text in each claim is allowed, another
// denied. What is shipped of that, and each form that the commands give it, is
// inert.
func TestHostileClaims(t *testing.T) {
	t.Parallel()
	s := newShippingStep(t)
	delete(s.env, "INPUT_TARGET")
	bucket := s.startBucket()
	var mu sync.Mutex
	var requests [][]byte
	collector := startPlace(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, body)
	}))
	audit := strings.TrimSuffix(bucketAt(bucket.URL, true), ", require: [bucket]}") + ", otlp: {endpoint: " + collector.URL + "}, require: [bucket, otlp]}"
	s.shippingPolicy(audit, aLease, "", "$STS")
	text := strings.Replace(s.file(policyFile), `    allow: [{repository: acme/analytics, repository_id: "487920697"}]`, `    allow: [{repository_id: "487920697"}]`, 1)
	s.write(policyFile, text)
	allowed, denied := map[string]any{}, map[string]any{}
	for _, name := range []string{"sub", "actor", "actor_id", "base_ref", "head_ref", "job_workflow_ref", "run_id", "run_attempt", "run_number",
		"sha", "workflow", "workflow_ref", "workflow_sha", "repository_owner", "jti", "repository_visibility"} {
		allowed[name], denied[name] = evil, evil
	}
	allowed["sub"] = strings.NewReplacer("\r", " ", "\n", " ").Replace(evil) // an output of the step, which takes no line break
	denied["repository"], denied["environment"], denied["ref"] = evil, evil, evil
	s.env["INPUT_TARGET"] = "prod"
	for status, claims := range map[int]map[string]any{0: allowed, 5: denied} {
		s.claims(claims)
		r := s.here()
		if r.status != status {
			t.Fatalf("status is %d, want %d: %s%s", r.status, status, r.stdout, r.stderr)
		}
		checkInert(t, "the step", strings.ReplaceAll(r.stdout, "::error::denied by policy", "denied"))
		checkInert(t, "the summary", s.file("commands/STEP_SUMMARY"))
	}
	checkRecords(t, s.audit())
	s.checkTaken(bucket)
	s.checkTaken(collector)
	name := regexp.MustCompile(`^/acme-audit/oidc-dbt/date=\d{4}-\d\d-\d\d/[A-Z2-7]{26}-(decision|outcome)\.json$`)
	for _, object := range bucket.names {
		if !name.MatchString(object) {
			t.Errorf("an object is %q", object)
		}
	}
	for _, body := range requests {
		checkAttributes(t, body)
	}
	s.checkForms()
}

// checkAttributes holds a collector's request to values that are strings of
// JSON, and to the record's own words.
func checkAttributes(t *testing.T, body []byte) {
	t.Helper()
	var record struct {
		User struct {
			Name string `json:"name"`
		} `json:"user"`
	}
	if err := json.Unmarshal([]byte(recordsIn(body)[0]), &record); err != nil {
		t.Fatal(err)
	}
	subject, err := json.Marshal(record.User.Name)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"key":"enduser.id","value":{"stringValue":%s}}`, subject); !bytes.Contains(body, []byte(want)) || bytes.ContainsAny(body, "\n\x1b") {
		t.Errorf("the collector got\n%s\nwant %s", body, want)
	}
}

// checkForms has each command print what is in the file, in each form.
func (s *step) checkForms() {
	s.t.Helper()
	file := s.at("temp/oidc-dbt/audit.jsonl")
	git := exec.Command("sh", "-c", `git init -q && git add -A && git commit -q -m "$M"`)
	git.Dir = s.at("workspace")
	author := strings.ReplaceAll(evil, "<", "(") // git takes no < in a name
	git.Env = append(os.Environ(), "M="+evil, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME="+author, "GIT_AUTHOR_EMAIL=e@acme.example",
		"GIT_COMMITTER_NAME="+author, "GIT_COMMITTER_EMAIL=e@acme.example")
	if out, err := git.CombinedOutput(); err != nil {
		s.t.Fatalf("git: %v: %s", err, out)
	}
	s.env["GIT_CONFIG_GLOBAL"] = "/dev/null"
	year := fmt.Sprint(time.Now().UTC().Year())
	review := []string{"audit", "review", "--period", year, "--policy", ".github/oidc-dbt.yml", "--records", file, "--format"}
	for _, tt := range []struct {
		form   string
		args   []string
		status int
	}{
		{"table", []string{"audit", "show", file}, 0},
		{"JSON", []string{"audit", "show", "--json", file}, 0},
		{"text", []string{"audit", "verify", "--policy", ".github/oidc-dbt.yml", file}, 8},
		{"JSON", []string{"audit", "verify", "--policy", ".github/oidc-dbt.yml", "--json", file}, 8},
		{"JSON", []string{"audit", "verify", "--policy", ".github/oidc-dbt.yml", "--findings", "-", file}, 8},
		{"CSV", append(review, "csv"), 0},
		{"Markdown", append(review, "markdown"), 0},
		{"HTML", append(review, "html"), 0},
	} {
		what := strings.Join(tt.args, " ")
		r := s.here(tt.args...)
		if r.status != tt.status || r.stdout == "" {
			s.t.Errorf("%s: status is %d, want %d: %s%s", what, r.status, tt.status, r.stdout, r.stderr)
		}
		switch checkInert(s.t, what, r.stderr); tt.form {
		case "JSON":
			for line := range strings.Lines(r.stdout) {
				if !json.Valid([]byte(line)) {
					s.t.Errorf("%s: no JSON: %s", what, line)
				}
			}
		case "CSV":
			rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(r.stdout, "\ufeff"))).ReadAll()
			if err != nil {
				s.t.Errorf("%s: %v", what, err)
			}
			for _, row := range rows {
				for _, cell := range row {
					if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
						s.t.Errorf("%s: a cell begins a formula: %q", what, cell)
					}
				}
			}
		case "HTML":
			if own, _, _ := strings.Cut(r.stdout, "<script"); strings.Contains(r.stdout, "<script>alert") || own == "" {
				s.t.Errorf("%s: it has a foreign script", what)
			}
			continue // its own script is not for a terminal
		}
		checkInert(s.t, what, r.stdout)
	}
}

// checkInert holds text to no command of a runner, no control character, no
// script, and nothing that turns the direction of writing.
func checkInert(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "::add-mask::") {
			continue
		}
		if strings.HasPrefix(strings.TrimSpace(line), "::error::x") || strings.Contains(line, "##[add-mask]") || strings.Contains(line, "\u202e") ||
			strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			t.Errorf("%s: not inert: %q", what, line)
		}
		if strings.Contains(line, "<script>") && what == "the summary" {
			t.Errorf("%s has a script: %q", what, line)
		}
	}
}
