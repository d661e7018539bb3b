package review_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

// today is when reviews are judged here.
var today = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const (
	file  = ".github/oidc-dbt.yml"
	first = "- {repository: acme/analytics, repository_id: \"487920697\", environment: production, ref: refs/heads/main}"
	other = "- {repository: acme/shop, repository_id: \"2\", environment: production, ref: refs/heads/main}"
)

// source is a policy whose targets have the given rules; the keys of a target
// come before them.
func source(targets ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\ntargets:\n")
	for i := 0; i < len(targets); i += 2 {
		fmt.Fprintf(&b, "  %s:\n    exchange:\n", targets[i])
		b.WriteString("      aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-central-1}\n")
		b.WriteString("    trust_reviewed: 2026-10-01\n    allow:\n")
		for line := range strings.Lines(targets[i+1]) {
			b.WriteString("      " + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.String()
}

// A repository is one of git's, in a folder of its own.
type repository struct {
	t   *testing.T
	dir string
	env []string
	as  []string // variables of the next commits, over those of git()
	day int      // of October 2026, of the next commit
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir(), day: 1}
	r.env = append(os.Environ(), "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "XDG_CONFIG_HOME="+t.TempDir())
	r.git("init", "-q", "-b", "main")
	return r
}

func (r *repository) git(args ...string) {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	date := fmt.Sprintf("2026-10-%02dT12:00:00+00:00", r.day)
	cmd.Dir = r.dir
	cmd.Env = append(append([]string(nil), r.env...), "GIT_COMMITTER_NAME=GitHub", "GIT_COMMITTER_EMAIL=x@example.com",
		"GIT_AUTHOR_EMAIL=x@example.com", "GIT_AUTHOR_DATE=2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE="+date)
	cmd.Env = append(cmd.Env, r.as...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

func (r *repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits a text of the policy by an author, a day later than the last one.
func (r *repository) commit(author, text string) {
	r.t.Helper()
	r.commitSaying(author, text, "change the policy")
}

func (r *repository) commitSaying(author, text, message string) {
	r.t.Helper()
	r.write(file, text)
	r.day++
	r.git("add", file)
	r.git("-c", "user.name="+author, "-c", "core.autocrlf=false", "commit", "-q", "-m", message)
}

// input is what is asked about the policy as the folder has it.
func (r *repository) input() review.Input {
	return input(r.t, filepath.Join(r.dir, filepath.FromSlash(file)), r.env)
}

func input(t *testing.T, path string, environ []string) review.Input {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(path, text, job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	return review.Input{Policy: p, Path: path, Environ: environ, Now: today, Within: 14 * 24 * time.Hour}
}

// changed returns what is known of the last changes, by target.
func changed(t *testing.T, in review.Input) map[string]string {
	t.Helper()
	report, err := review.New(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, of := range report.Targets {
		c := of.Changed
		if c.Unknown != "" {
			got[of.Name] = "unknown: " + c.Unknown
		} else {
			got[of.Name] = fmt.Sprintf("%s on %s", c.Author, c.Time.Format(time.DateOnly))
		}
	}
	return got
}

// TestHistory: who changed a target's rules last.
func TestHistory(t *testing.T) {
	t.Parallel()
	both := source("prod", first, "staging", other)
	for _, tt := range []struct {
		name string
		do   func(r *repository)
		want map[string]string
	}{
		{"one commit", func(r *repository) { r.commit("Ada", both) },
			map[string]string{"prod": "Ada on 2026-10-02", "staging": "Ada on 2026-10-02"}},
		{"another target's rules", func(r *repository) {
			r.commit("Ada", both)
			r.commit("Bob", source("prod", first, "staging", other+"\n"+first))
		}, map[string]string{"prod": "Ada on 2026-10-02", "staging": "Bob on 2026-10-03"}},
		{"a rule less", func(r *repository) {
			r.commit("Ada", source("prod", first+"\n"+other))
			r.commit("Bob", source("prod", first))
		}, map[string]string{"prod": "Bob on 2026-10-03"}},
		{"lines above", func(r *repository) {
			r.commit("Ada", both)
			r.commit("Bob", "# the policy\n\n"+source("new", other, "prod", first, "staging", other))
		}, map[string]string{"new": "Bob on 2026-10-03", "prod": "Ada on 2026-10-02",
			"staging": "Ada on 2026-10-02"}},
		{"the review's date", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", strings.ReplaceAll(source("prod", first), "2026-10-01", "2026-10-03"))
		}, map[string]string{"prod": "Ada on 2026-10-02"}},
		{"only the form", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", "# main builds\n\n- repository: 'acme/analytics'\n  repository_id: '487920697'\n"+
				"  environment: production\n  ref: refs/heads/main"))
		}, map[string]string{"prod": "Ada on 2026-10-02"}},
		{"a claim less at the end", func(r *repository) {
			r.commit("Ada", source("prod", "- repository_id: '1'\n  repository: acme/shop\n  ref: refs/heads/main"))
			r.commit("Bob", source("prod", "- repository_id: '1'\n  repository: acme/shop"))
		}, map[string]string{"prod": "Bob on 2026-10-03"}},
		{"back and forth", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", source("prod", other))
			r.commit("Eve", source("prod", first))
		}, map[string]string{"prod": "Eve on 2026-10-04"}},
		{"a version that cannot be read", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.commit("Bob", "targets: [\n")
			r.commit("Eve", source("prod", first))
		}, map[string]string{"prod": "Eve on 2026-10-04"}},
		{"a version of another time", func(r *repository) {
			r.commit("Ada", "version: 0\nunknown: {}\ntargets: {prod: {allow: ["+strings.TrimPrefix(first, "- ")+"]}}\n")
			r.commit("Bob", source("prod", first))
		}, map[string]string{"prod": "Ada on 2026-10-02"}},
		{"another name of the file", func(r *repository) {
			r.write("old.yml", source("prod", first))
			r.git("add", "old.yml")
			r.git("-c", "user.name=Ada", "commit", "-q", "-m", "add the policy")
			r.git("rm", "-q", "--cached", "old.yml")
			r.commit("Bob", source("prod", first))
		}, map[string]string{"prod": "Bob on 2026-10-02"}}, // the file is new to git
		{"a branch that was merged", func(r *repository) {
			r.commit("Ada", both)
			r.git("checkout", "-q", "-b", "topic")
			r.commit("Bob", source("prod", first+"\n"+other, "staging", other))
			r.git("checkout", "-q", "main")
			r.commit("Eve", "# the policy\n"+both)
			r.git("-c", "user.name=Merger", "merge", "-q", "--no-edit", "topic")
		}, map[string]string{"prod": "Bob on 2026-10-03", "staging": "Ada on 2026-10-02"}},
		{"two branches that were merged", func(r *repository) {
			r.commit("Ada", both)
			r.git("checkout", "-q", "-b", "topic")
			r.commit("Bob", source("prod", first+"\n"+other, "staging", other))
			r.git("checkout", "-q", "main")
			r.commit("Eve", source("prod", other+"\n"+first, "staging", other))
			r.day++
			r.git("-c", "user.name=Merger", "merge", "-q", "--no-commit", "-s", "ours", "topic")
			r.commit("Merger", source("prod", other+"\n"+first+"\n"+other, "staging", other))
		}, map[string]string{"prod": "Merger on 2026-10-06", "staging": "Ada on 2026-10-02"}},
		{"not committed", func(r *repository) {
			r.commit("Ada", both)
			r.write(file, "\n\n\n"+source("new", first, "prod", first+"\n"+other, "staging", other))
		}, map[string]string{"new": "unknown: changed since the last commit", "prod": "unknown: changed since the last commit",
			"staging": "Ada on 2026-10-02"}},
		{"line breaks of Windows", func(r *repository) {
			r.commit("Ada", both)
			r.write(file, strings.ReplaceAll(both, "\n", "\r\n"))
		}, map[string]string{"prod": "Ada on 2026-10-02", "staging": "Ada on 2026-10-02"}},
		{"a committed policy with an error", func(r *repository) {
			r.commit("Ada", "version: 2\n")
			r.write(file, source("prod", first))
		}, map[string]string{"prod": "unknown: changed since the last commit"}},
		{"no commit", func(r *repository) { r.write(file, source("prod", first)) }, map[string]string{"prod": "unknown: not in git"}},
		{"not added", func(r *repository) {
			r.write("README", "")
			r.git("add", "README")
			r.git("-c", "user.name=Ada", "commit", "-q", "-m", "start")
			r.write(file, source("prod", first))
		}, map[string]string{"prod": "unknown: not in git"}},
		{"a name that attacks", func(r *repository) {
			r.commit("=cmd|'/c calc'!A0 \x1b[31m\u202e| `x` @acme/all ::error::x", source("prod", first))
		}, map[string]string{"prod": "=cmd|'/c calc'!A0 \uFFFD[31m\uFFFD| `x` @acme/all ::error::x on 2026-10-02"}},
		{"a name that never ends", func(r *repository) { r.commit(strings.Repeat("ä", 1000), source("prod", first)) },
			map[string]string{"prod": strings.Repeat("ä", 80) + "… on 2026-10-02"}},
		{"a replaced commit", func(r *repository) {
			r.commit("Ada", source("prod", first))
			r.git("tag", "real")
			r.git("-c", "user.name=Eve", "commit", "-q", "--amend", "--reset-author", "-m", "replace")
			r.git("replace", "real", "HEAD")
			r.git("reset", "-q", "--soft", "real")
		}, map[string]string{"prod": "Ada on 2026-10-02"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			tt.do(r)
			if diff := cmp.Diff(tt.want, changed(t, r.input())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAfterReview: a change on the day of the review was reviewed.
func TestAfterReview(t *testing.T) {
	t.Parallel()
	reviewed := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		of   review.Target
		want bool
	}{
		{review.Target{Reviewed: reviewed, Changed: review.Change{Time: reviewed.Add(-time.Hour)}}, false},
		{review.Target{Reviewed: reviewed, Changed: review.Change{Time: reviewed.Add(23 * time.Hour)}}, false},
		{review.Target{Reviewed: reviewed, Changed: review.Change{Time: reviewed.Add(24 * time.Hour)}}, true},
		{review.Target{Changed: review.Change{Time: reviewed}}, false},
		{review.Target{Reviewed: reviewed, Changed: review.Change{Unknown: "not in git"}}, false},
	} {
		if got := tt.of.AfterReview(); got != tt.want {
			t.Errorf("%+v: got %t", tt.of, got)
		}
	}
}

// TestWithoutGit: there is a report all the same.
func TestWithoutGit(t *testing.T) {
	t.Parallel()
	r := &repository{t: t, dir: t.TempDir(), env: append(os.Environ(), "GIT_CEILING_DIRECTORIES="+os.TempDir())}
	r.write(file, source("prod", first))
	if diff := cmp.Diff(map[string]string{"prod": "unknown: not in git"}, changed(t, r.input())); diff != "" {
		t.Errorf("no repository (-want +got):\n%s", diff)
	}
	in := r.input()
	in.Path = ""
	if diff := cmp.Diff(map[string]string{"prod": "unknown: the policy is no file"}, changed(t, in)); diff != "" {
		t.Errorf("no file (-want +got):\n%s", diff)
	}
}

// TestOutOfTime: git is not waited for.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first))
	in := r.input()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err := review.New(ctx, in)
	if err != nil || report.Targets[0].Changed.Unknown != "git did not end in time" {
		t.Errorf("got %+v, %v", report, err)
	}
}

// TestShallowClone: the oldest commit of a shallow clone has not changed what
// it seems to have changed.
func TestShallowClone(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first, "staging", other))
	r.commit("Bob", "# a comment\n"+source("prod", first, "staging", other))
	r.commit("Eve", source("prod", first, "staging", first))
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--depth", "2", "file://"+filepath.ToSlash(r.dir), clone)
	want := map[string]string{"prod": "unknown: not in this shallow clone", "staging": "Eve on 2026-10-04"}
	if diff := cmp.Diff(want, changed(t, input(t, filepath.Join(clone, filepath.FromSlash(file)), r.env))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNothingIsRun: a repository's configuration names programs, and its
// attributes files that they are for.
func TestNothingIsRun(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first))
	r.commit("Bob", source("prod", first+"\n"+other))
	r.write(".gitattributes", "*.yml diff=evil filter=evil merge=evil\n")
	r.git("add", ".gitattributes")
	r.git("-c", "user.name=Eve", "commit", "-q", "-m", "attributes")
	mark := filepath.Join(r.dir, "was-run")
	script := filepath.Join(r.dir, "evil")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntouch '"+mark+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"core.fsmonitor", "core.pager", "core.sshCommand", "core.alternateRefsCommand", "diff.external", "diff.evil.command",
		"diff.evil.textconv", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program", "pager.log",
		"uploadpack.packObjectsHook",
	} {
		r.git("config", key, script)
	}
	r.git("config", "log.showSignature", "true")
	r.git("config", "color.ui", "always")
	r.git("config", "alias.log", "!"+script)
	r.git("config", "core.hooksPath", r.dir)
	if err := os.Remove(mark); err != nil && !os.IsNotExist(err) { // git config may have used one
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"prod": "Bob on 2026-10-03"}, changed(t, r.input())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Stat(mark); !os.IsNotExist(err) {
		t.Errorf("something of the configuration was run: %v", err)
	}
}

// TestPartialClone: what a partial clone lacks is not fetched.
func TestPartialClone(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("Ada", source("prod", first))
	r.commit("Bob", source("prod", first+"\n"+other))
	r.git("config", "uploadpack.allowFilter", "true")
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--filter=blob:none", "file://"+filepath.ToSlash(r.dir), clone)
	objects := func() []byte {
		cmd := exec.Command("git", "-C", clone, "count-objects", "-v")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := objects()
	got := changed(t, input(t, filepath.Join(clone, filepath.FromSlash(file)), r.env))["prod"]
	if want := "unknown: not in this partial clone"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !bytes.Equal(before, objects()) {
		t.Error("objects were fetched")
	}
}
