//go:build e2e

package trust

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// excused are findings about what is meant so, by check and case.
var excused = map[string]string{
	"CKV_AWS_61 identity_center-athena": "the principal is the account, held to one role of it by aws:PrincipalArn: a role cannot name itself before it is there",
	"CKV_GCP_125 gcp-numbers":           "the rule names the repository only by its number, so that the subject has no owner to look for",
	"CKV_GCP_125 gcp-subject":           "the rule names subjects, and the condition is the rule itself",
	"CKV_GCP_125 gcp-wildcard":          "a pattern of repositories has no literal subject",
}

// checks are those of OIDC trust, of the role or the provider of each cloud.
var checks = []string{"CKV_AWS_393", "CKV_AWS_60", "CKV_AWS_61", "CKV_GCP_118", "CKV_GCP_125"}

type report struct {
	Summary struct {
		ParsingErrors int `json:"parsing_errors"`
	} `json:"summary"`
	Results struct {
		Passed []result `json:"passed_checks"`
		Failed []result `json:"failed_checks"`
	} `json:"results"`
}

type result struct {
	Check string `json:"check_id"`
	Name  string `json:"check_name"`
	File  string `json:"file_path"`
}

// TestCases runs checkov over the Terraform of all golden cases of the generators.
func TestCases(t *testing.T) {
	t.Parallel()
	repository := setup.Repository(t)
	python, err := checkov()
	if err != nil {
		t.Fatal(err)
	}
	folder := write(t, repository)
	cmd := exec.CommandContext(t.Context(), python.Program("python"), "-I", "-m", "checkov.main", "--directory", folder,
		"--framework", "terraform", "--check", strings.Join(checks, ","), "--output", "json", "--soft-fail", "--skip-download")
	cmd.Env = python.Environ()
	out, err := cmd.Output()
	var r report
	if json.Unmarshal(out, &r) != nil {
		t.Fatalf("checkov: %v\n%s", err, out)
	}
	if r.Summary.ParsingErrors > 0 {
		t.Errorf("%d files do not parse", r.Summary.ParsingErrors)
	}
	for _, f := range r.Results.Failed {
		name := f.Check + " " + strings.Split(strings.Trim(f.File, "/"), "/")[0]
		if excused[name] == "" {
			t.Errorf("%s: %s", name, f.Name)
		}
	}
	for _, check := range checks {
		if !slices.ContainsFunc(r.Results.Passed, func(p result) bool { return p.Check == check }) {
			t.Errorf("%s did not run", check)
		}
	}
}

// write writes the Terraform of every golden case to a folder of its own.
func write(t *testing.T, repository string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	paths, err := filepath.Glob(filepath.Join(repository, "internal", "trust", "testdata", "*", "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path)) + "-" + strings.TrimSuffix(filepath.Base(path), ".txtar")
		for _, f := range archive.Files {
			if file, ok := strings.CutPrefix(f.Name, "want/"); ok && strings.HasSuffix(file, ".tf") {
				setup.Write(t, filepath.Join(folder, name), file, string(f.Data))
			}
		}
	}
	return folder
}
