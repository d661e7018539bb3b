package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
)

// explainIn runs `explain` in a folder, outside GitHub Actions.
func explainIn(t testing.TB, dir, stdin string, vars map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return offline(t, dir, stdin, vars, append([]string{"explain"}, args...)...)
}

func TestExplain(t *testing.T) {
	t.Parallel()
	offlineCases(t, "explain")
}

// TestExplainBadClaims: one clear error each, and status 2.
func TestExplainBadClaims(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, err := os.ReadFile("testdata/explain/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, ".github/oidc-dbt.yml", policy)
	for _, tt := range []struct{ name, text, err string }{
		{"empty", "", "is empty, want a JSON object of claims or a JSON Web Token"},
		{"huge claim", `{"sub":"` + strings.Repeat("x", 2<<20) + `"}`, "is larger than 1024 KiB"},
		{"large claim", `{"sub":"` + strings.Repeat("x", 1<<19) + `"}`, "is 524298 bytes long, want at most 65536"},
		{"binary", "\x00\x01\xff", "is not a text in UTF-8, want a JSON object of claims or a JSON Web Token"},
		{"list", `[1]`, "is a list, want a JSON object of claims"},
		{"garbage token", "eyJhbGciOiJub25lIn0.!!!.x", "malformed JSON Web Token: want three parts of base64url with two dots between them"},
		{"another token", "eyJhbGciOiJub25lIn0.Z2FyYmFnZQ.x", "malformed JSON Web Token: its payload is not a JSON object"},
		{"YAML", "repository: acme/analytics\n", "is not JSON: line 1, column 1: invalid character 'r' looking for beginning of value"},
		{"duplicate", `{"ref":"a","ref":"b"}`, `duplicate claim "ref"`},
		{"record without decision", `{"class_uid":3002,"activity_name":"Logon"}`, `has no decision: it is the line with activity_name "Preauth"`},
		{"record of an unverified token", `{"class_uid":3002,"unmapped":{"decision":"denied"}}`,
			"is the record of a request whose ID token was not verified: it has no claims"},
		{"two decisions", strings.Repeat(`{"class_uid":3002,"unmapped":{"decision":"denied"}}`+"\n", 2), "has 2 decisions, want the record of one"},
		{"log with something else", `{"class_uid":3002,"unmapped":{"decision":"denied"}}` + "\nhello\n", "is an audit log until record 1, and then something else"},
	} {
		for _, path := range []string{"claims.json", "-"} {
			at, stdin := filepath.Join(dir, tt.name), ""
			if path == "-" {
				at, stdin = "-", tt.text
			} else {
				put(t, dir, tt.name, []byte(tt.text))
			}
			status, stdout, stderr := explainIn(t, dir, stdin, nil, "--claims", at)
			if want := "oidc-dbt: read claims " + strconv.Quote(at) + ": " + tt.err + "\n"; status != 2 || stdout != "" || stderr != want {
				t.Errorf("%s, %s: status %d, stdout %q, stderr %q, want %q", tt.name, path, status, stdout, stderr, want)
			}
		}
	}
}

// TestExplainEveryDenial: of each denial of the whole runs, explain names the
// claims that the denial names, of the same token.
func TestExplainEveryDenial(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../testdata/runs/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]string{}
		for _, f := range archive.Files {
			parts[f.Name] = string(f.Data)
		}
		denial := parts["want/stdout"] + parts["want/stderr"]
		if strings.TrimSpace(parts["want/status"]) != "5" || !strings.Contains(denial, "denied by policy") {
			continue
		}
		seen++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			s, run := readCase(t, archive)
			args := append([]string{"explain", "--json"}, whose(run)...)
			for name, flag := range map[string]string{"INPUT_POLICY": "--policy", "INPUT_TARGET": "--target", "OIDC_DBT_POLICY": "--policy", "OIDC_DBT_TARGET": "--target"} {
				if v := s.env[name]; v != "" {
					args = append(args, flag, v)
				}
			}
			got := s.here(args...)
			var report struct {
				Claims  struct{ Verified bool }
				Chosen  string
				Targets []struct {
					Target string
					Rules  []struct {
						Rule, Line int
						Matched    bool
						Claims     []struct {
							Claim   string
							Matched bool
						}
					}
				}
			}
			if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.status != 5 || !report.Claims.Verified || report.Chosen != "" {
				t.Fatalf("status %d, %v, %s%s", got.status, err, got.stdout, got.stderr)
			}
			document, err := jsonschema.UnmarshalJSON(strings.NewReader(got.stdout))
			if err != nil {
				t.Fatal(err)
			}
			if err := explainSchema(t).Validate(document); err != nil {
				t.Error(err)
			}
			want := namedByDenial(denial)
			explained := map[string][]string{}
			for _, target := range report.Targets {
				for _, r := range target.Rules {
					for _, c := range r.Claims {
						if !c.Matched {
							at := strconv.Itoa(r.Line)
							explained[at] = append(explained[at], c.Claim)
						}
					}
				}
			}
			if len(want) == 0 { // several targets, an overdue review: no claim is wrong
				for _, target := range report.Targets {
					if len(target.Rules) == 0 || !target.Rules[0].Matched {
						t.Errorf("no rule of target %q matches", target.Target)
					}
				}
				return
			}
			if diff := cmp.Diff(want, explained); diff != "" {
				t.Errorf("claims by the lines of rules (-denial +explain):\n%s", diff)
			}
		})
	}
	if seen < 15 {
		t.Errorf("only %d denials", seen)
	}
}

// whose returns the flags of a command line that say whose token a run takes,
// and for which target.
func whose(args []string) (flags []string) {
	for i, arg := range args[:max(0, len(args)-1)] {
		if arg == "--" {
			break
		}
		if arg == "--token-source" || arg == "--as" || arg == "--target" {
			flags = append(flags, arg, args[i+1])
		}
	}
	return flags
}

// TestExplainEveryRecord: the record of a run says why it was decided so.
func TestExplainEveryRecord(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../testdata/runs/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var allowed, denied int
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(txtar.Format(archive))
		if !strings.Contains(text, "-- workspace/.github/oidc-dbt.yml --") || strings.Contains(text, "\npolicy:") {
			continue
		}
		status := 0
		switch {
		case strings.Contains(text, "-- want/status --\n5\n") && strings.Contains(text, "\nPreauth Failure"):
			status, denied = 5, denied+1
		case strings.Contains(name, "dry-run") && strings.Contains(text, "-- want/status --\n0\n"):
			allowed++
		default:
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, args := readCase(t, archive)
			s.here(args...)
			got := s.here("explain", "--json", "--policy", ".github/oidc-dbt.yml", "--claims", s.at("temp/oidc-dbt/audit.jsonl"))
			var report explain.Report
			if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
				t.Fatalf("%v: %s%s", err, got.stdout, got.stderr)
			}
			want := map[int]string{0: "allowed", 5: "denied"}[status]
			if report.Record == nil || report.Record.Decision != want || report.Record.PolicyChanged || report.Claims.Source != "audit" || report.Claims.Verified {
				t.Fatalf("the record is %+v of %+v, want one that is %s", report.Record, report.Claims, want)
			}
			for _, target := range report.Targets {
				if target.Target == report.Record.Target && (target.Decision != want || target.Unknown) {
					t.Errorf("the record says %s, explain says %+v", want, target)
				}
			}
		})
	}
	if allowed == 0 || denied < 15 {
		t.Errorf("%d allowed and %d denied records", allowed, denied)
	}
}

var (
	deniedRule  = regexp.MustCompile(`rule [0-9]+ \(line ([0-9]+)\):`)
	deniedClaim = regexp.MustCompile(`^ {4}([A-Za-z0-9_./:>-]+): got `)
)

// namedByDenial returns the claims that an error names, by the lines of the rules.
func namedByDenial(text string) map[string][]string {
	list, at := map[string][]string{}, ""
	for line := range strings.Lines(strings.ReplaceAll(text, "%0A", "\n")) {
		if m := deniedRule.FindStringSubmatch(line); m != nil {
			at = m[1]
		} else if m := deniedClaim.FindStringSubmatch(line); m != nil && at != "" {
			list[at] = append(list[at], m[1])
		}
	}
	for at, claims := range list { // an annotation may say it again
		half := len(claims) / 2
		if half > 0 && len(claims)%2 == 0 && cmp.Equal(claims[:half], claims[half:]) {
			list[at] = claims[:half]
		}
	}
	return list
}

// explainSchema is the documented form of the JSON.
func explainSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/explain.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestExplainSchema: what is printed for machines has the documented form, and
// the form allows nothing else.
func TestExplainSchema(t *testing.T) {
	t.Parallel()
	schema := explainSchema(t)
	files, err := filepath.Glob("testdata/explain/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name != "want/stdout" || !bytes.HasPrefix(f.Data, []byte("{")) {
				continue
			}
			checked++
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(f.Data))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			document.(map[string]any)["more"] = 1
			if schema.Validate(document) == nil {
				t.Errorf("%s: the schema allows any key", file)
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d documents", checked)
	}
	text, err := os.ReadFile("../../docs/explain.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range explain.LoginNames {
		if !bytes.Contains(text, []byte(strconv.Quote(name))) {
			t.Errorf("the schema lacks %q of a login", name)
		}
	}
}

// TestExplainPage: the page shows what the command prints.
func TestExplainPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := txtar.ParseFile("testdata/explain/denied.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name == "want/stdout" && !bytes.Contains(page, append([]byte("```text\n"), f.Data...)) {
			t.Errorf("docs/explain.md does not show what the case prints:\n%s", f.Data)
		}
	}
	_, example, _ := strings.Cut(string(page), "```json\n")
	example, _, _ = strings.Cut(example, "```")
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	if err := explainSchema(t).Validate(document); err != nil {
		t.Error(err)
	}
	for _, name := range explain.LoginNames {
		if !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("docs/explain.md lacks %q of a login", name)
		}
	}
}

// FuzzExplainClaims: of every file of claims, explain says what it
// decides, or in one line what is wrong with the file.
func FuzzExplainClaims(f *testing.F) {
	dir := f.TempDir()
	policy, err := os.ReadFile("testdata/explain/oidc-dbt.yml")
	if err != nil {
		f.Fatal(err)
	}
	put(f, dir, ".github/oidc-dbt.yml", policy)
	files, err := filepath.Glob("testdata/explain/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if part.Name == "stdin" || part.Name == "files/claims.json" || part.Name == "files/audit.jsonl" {
				f.Add(part.Data)
			}
		}
	}
	f.Add([]byte(`{"iss":"https://acme.okta.com","aud":["0oa1b2c3"],"groups":["data",7,null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		status, stdout, stderr := explainIn(t, dir, string(text), nil, "--claims", "-")
		switch status {
		case 0, 5:
			if stderr != "" || !strings.Contains(stdout, "NOT VERIFIED") || strings.ContainsAny(stdout, "\x1b\r\x00") ||
				strings.Contains(stdout, "##[") {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
			for line := range strings.Lines(stdout) {
				if strings.HasPrefix(strings.TrimSpace(line), "::") {
					t.Errorf("a line is a command of the runner: %q", line)
				}
			}
		case 2:
			if stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
		default:
			t.Errorf("status %d, stderr %q", status, stderr)
		}
	})
}

// BenchmarkExplain is the whole command but for the start of the process, with
// a policy of 10,000 rules of which none matches: at most 150 ms is the goal.
func BenchmarkExplain(b *testing.B) {
	var policy strings.Builder
	policy.WriteString("version: 1\ntargets:\n  prod:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-central-1}}\n    allow:\n")
	for i := range 10_000 {
		fmt.Fprintf(&policy, "      - repository: acme/*\n        repository_id: \"%d\"\n        environment: production\n        ref: refs/heads/ma*\n", i)
	}
	dir := b.TempDir()
	put(b, dir, ".github/oidc-dbt.yml", []byte(policy.String()))
	for _, form := range []string{"--json=false", "--json"} {
		b.Run(form, func(b *testing.B) {
			for b.Loop() {
				status, _, stderr := explainIn(b, dir, "", nil, form, "--repository", "acme/x", "--repository-id", "99999", "--ref", "refs/heads/main")
				if status != 5 {
					b.Fatal(status, stderr)
				}
			}
		})
	}
}
