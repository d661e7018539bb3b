package command_test

import (
	"encoding/csv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuditReview(t *testing.T) {
	t.Parallel()
	offlineCases(t, "audit review")
}

// TestAuditReviewInPullRequest does a review by the commands of the page: Ada
// has written the policy, Bob reviews it and removes a rule.
func TestAuditReviewInPullRequest(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Do a review in a pull request\n")
	var commands [][]string
	for line := range strings.Lines(section) {
		if args, ok := strings.CutPrefix(strings.TrimSpace(line), "oidc-dbt audit review "); ok {
			commands = append(commands, append([]string{"audit", "review"}, strings.Fields(args)...))
		}
	}
	if len(commands) != 4 {
		t.Fatalf("the page has %d commands, want those that make, check, keep and print", len(commands))
	}
	dir := t.TempDir()
	policy, err := os.ReadFile("testdata/audit-review/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, ".github/oidc-dbt.yml", policy)
	put(t, dir, "records/a.jsonl", nil)
	commit(t, dir, "Ada", "init")
	run := func(command, status int, want string) {
		t.Helper()
		got, stdout, stderr := offline(t, dir, "", nil, commands[command]...)
		if got != status || stderr != "" || !strings.Contains(stdout, want) {
			t.Fatalf("%q: status %d, want %d; %s%s\nwant %s", commands[command], got, status, stdout, stderr, want)
		}
	}
	run(0, 0, "")
	run(1, 8, `review-2026Q4.csv:2: rule 1 of target "prod" (line 9 of the policy): it has no decision`)
	path := filepath.Join(dir, "review-2026Q4.csv")
	decide(t, path, "Ada", "keep", "keep", "keep", "keep")
	run(1, 8, `review-2026Q4.csv:2: rule 1 of target "prod" (line 9 of the policy): it is decided by "Ada", who changed it last (`)
	decide(t, path, "Bob", "keep", "remove", "keep", "keep")
	run(1, 8, `review-2026Q4.csv:3: rule 2 of target "prod" (line 10 of the policy): the decision is to remove it, and it is still there`)
	put(t, dir, ".github/oidc-dbt.yml", []byte(strings.Replace(string(policy), "      - {repository: acme/shop}\n", "", 1)))
	commit(t, dir, "Bob", "")
	run(1, 0, "review-2026Q4.csv: every rule of the policy has a decision (3 rules); in the file: 3 keep, 0 change, 1 remove\n")
	run(2, 0, "")
	run(1, 0, "review-2026Q4.csv: every rule of the policy has a decision (3 rules); in the file: 3 keep, 0 change, 1 remove\n")
	run(3, 0, "")
	if html, err := os.ReadFile(filepath.Join(dir, "review-2026Q4.html")); err != nil || !strings.Contains(string(html), "Bob") {
		t.Errorf("the page has not Bob's decisions: %v\n%s", err, html)
	}
}

// commit commits what is in a folder, in which git begins if that is asked for.
func commit(t *testing.T, dir, author, first string) {
	t.Helper()
	list := [][]string{{"add", "."}, {"commit", "-q", "-m", "change the policy"}}
	if first != "" {
		list = append([][]string{{"init", "-q"}}, list...)
	}
	for _, args := range list {
		git := exec.Command("git", append([]string{"-c", "core.autocrlf=false"}, args...)...)
		git.Dir = dir
		git.Env = append(os.Environ(), "GIT_AUTHOR_NAME="+author, "GIT_AUTHOR_EMAIL="+author+"@acme.example", "GIT_COMMITTER_NAME=x",
			"GIT_COMMITTER_EMAIL=x@example.com", "GIT_AUTHOR_DATE=2026-10-20T12:00:00Z", "GIT_COMMITTER_DATE=2026-10-20T12:00:00Z")
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
}

// decide fills in a review's file.
func decide(t *testing.T, path, reviewer string, decisions ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, decision := range decisions {
		row := rows[i+1]
		copy(row[len(row)-4:], []string{reviewer, decision, "2026-11-01"})
	}
	var b strings.Builder
	if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
