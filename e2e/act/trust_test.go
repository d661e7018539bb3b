//go:build e2e && linux && amd64

package act

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// gh returns GitHub's command line: the machine's, or the one that Debian has.
func gh(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("gh"); err == nil {
		return path
	}
	dir := setup.Cached(t, "gh-debian", func(dir string) {
		for _, args := range [][]string{{"apt-get", "download", "gh"}, {"sh", "-c", "dpkg -x gh_*.deb . && rm gh_*.deb"}} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
	})
	return filepath.Join(dir, "usr/bin/gh")
}

// reviewing makes r a repository on GitHub that has docs/rotation.md's workflow.
func (r *runner) reviewing(github *standin.GitHub) {
	r.t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(r.t), "docs/rotation.md"))
	if err != nil {
		r.t.Fatal(err)
	}
	_, workflow, ok := strings.Cut(string(page), "```yaml\nname: trust review\n")
	workflow, _, _ = strings.Cut(workflow, "```\n")
	if !ok {
		r.t.Fatal("docs/rotation.md has no workflow")
	}
	setup.Write(r.t, r.dir, ".github/workflows/trust-review.yml", "name: trust review\n"+workflow)
	r.replace(".github/workflows/trust-review.yml",
		"oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 # put the commit and version of a release here", "./",
		"{target: prod, profile-only: true}", "{target: prod, profile-only: true, project-dir: dbt}")

	bin := r.t.TempDir()
	script := setup.Write(r.t, bin, "gh", fmt.Sprintf("#!/bin/sh\nGH_HOST=github.localhost http_proxy=%s exec %s \"$@\"\n",
		github.URL(), gh(r.t)))
	if err := os.Chmod(script, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for i, kv := range r.env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			r.env[i] = "PATH=" + bin + ":" + path
		}
	}
	r.event, r.args = "schedule", []string{"--secret", "GITHUB_TOKEN=" + github.Token(true)}
	r.git("init", "-q", "-b", "main")
	r.git("remote", "add", "origin", "https://github.com/acme/analytics.git")
	r.git("add", ".github")
	r.git("commit", "-q", "-m", "add the policy")
}

func (r *runner) git(args ...string) {
	r.t.Helper()
	args = append([]string{"-c", "user.name=Ada | **x** @acme/all", "-c", "user.email=ada@example.com"}, args...)
	git := exec.CommandContext(r.t.Context(), "git", args...)
	git.Dir, git.Env = r.dir, r.env
	if out, err := git.CombinedOutput(); err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// TestTrustReview is the workflow of docs/rotation.md: one issue is opened,
// updated and closed by GitHub's own command line, and others are left alone.
func TestTrustReview(t *testing.T) {
	t.Parallel()
	const title, bot = "Review the trust of oidc-dbt's targets", "github-actions[bot]"
	others := []standin.Issue{
		{Title: title, State: "open", Creator: "mallory"}, {Title: title, State: "closed", Creator: bot},
		{Title: title, State: "open", Creator: bot, PullRequest: true},
	}
	for range 120 { // two pages
		others = append(others, standin.Issue{Title: "a build failed", State: "open", Creator: bot})
	}
	github, err := standin.StartGitHub("acme/analytics", others...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(github.Close)
	r := newRunner(t, 0, 0)
	r.reviewing(github)
	review := func() (issue standin.Issue, log string) {
		t.Helper()
		log, err := r.run("trust-review.yml")
		if err != nil || strings.Contains(log, github.Token(true)) {
			t.Fatalf("act: %v\n%s", err, log)
		}
		issues := github.Issues()
		if len(issues) != len(others)+1 {
			t.Fatalf("there are %d issues, want %d\n%s", len(issues), len(others)+1, log)
		}
		for i, o := range others {
			if got := issues[i]; got.Body != "" || got.State != o.State || len(got.Comments) > 0 {
				t.Errorf("issue %d was changed: %+v", i+1, got)
			}
		}
		return issues[len(others)], log
	}

	issue, _ := review()
	today := time.Now().UTC().Format(time.DateOnly)
	const ada = "by <code>Ada &#124; &#42;&#42;x&#42;&#42; &#64;acme/all</code> in "
	for _, part := range []string{
		"**2 of 2 targets must be reviewed within 14 days.** (" + today + ")\n", "| <code>marts</code> | - | - | **never reviewed** | ", ada,
	} {
		if !strings.Contains(issue.Body, part) {
			t.Errorf("the issue lacks %q:\n%s", part, issue.Body)
		}
	}
	if issue.Title != title || issue.State != "open" {
		t.Errorf("the issue is %+v", issue)
	}

	r.replace(".github/oidc-dbt.yml", "  prod:\n", "  prod:\n    trust_reviewed: "+today+"\n")
	r.git("commit", "-q", "-am", "review prod")
	issue, _ = review()
	const one = "**1 of 2 targets must be reviewed within 14 days.**"
	if !strings.Contains(issue.Body, one) || issue.State != "open" || len(issue.Comments) > 0 {
		t.Errorf("the issue is %+v", issue)
	}

	r.replace(".github/oidc-dbt.yml", "  marts:\n", "  marts:\n    trust_reviewed: "+today+"\n")
	r.git("commit", "-q", "-am", "review marts")
	issue, _ = review()
	if issue.State != "closed" || issue.Reason != "completed" || strings.Join(issue.Comments, "|") != "No review is due any more." {
		t.Errorf("the issue is %+v", issue)
	}
	before := len(github.Requests())
	_, log := review()
	const list = "GET /repos/acme/analytics/issues" // in two pages
	if asked := github.Requests()[before:]; strings.Join(asked, "|") != list+"|"+list {
		t.Errorf("with nothing to do it asked %q\n%s", asked, log)
	}
	if n := len(r.issuer.Issued()); n > 0 {
		t.Errorf("%d ID tokens were requested", n)
	}
}
