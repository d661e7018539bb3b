package lint_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/lint"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

const policyName = ".github/oidc-dbt.yml"

// policyOf returns a policy with a target of the rules.
func policyOf(rules ...string) string {
	return `version: 1
targets:
  lake:
    exchange:
      gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/gh/providers/a, service_account: dbt@a.iam.gserviceaccount.com}
    allow:
      - ` + strings.Join(rules, "\n      - ") + "\n"
}

// places returns what is found, each as NAME LINE:COLUMN.
func places(report lint.Report) (list []string) {
	for _, f := range report.Findings {
		if !f.Suppressed {
			list = append(list, fmt.Sprintf("%s %d:%d", f.Name, f.Line, f.Column))
		}
	}
	return list
}

// TestRules: what is found in one rule, and where.
func TestRules(t *testing.T) {
	t.Parallel()
	const bound = `repository: acme/analytics, repository_id: "1", runner_environment: github-hosted, `
	for _, tt := range []struct{ rule, want string }{
		{`{` + bound + `environment: production, ref: refs/heads/main}`, ""},
		{`{` + bound + `environment: production, ref_protected: "true"}`, ""},
		{`{` + bound + `environment: production, ref: refs/heads/**}`, "environment-without-ref 7:93"},
		{`{` + bound + `environment: production, event_name: pull_request, ref: "refs/pull/*/merge"}`, "pull-request-to-production 7:130"},
		{`{` + bound + `environment: reproduction, event_name: pull_request, ref: "refs/pull/*/merge"}`, ""},
		{`{` + bound + `environment: ci, event_name: [push, issue_comment], ref: refs/heads/main}`, ""},
		{`{` + bound + `sub: "repo:acme/analytics:environment:prod"}`, "environment-without-ref 7:93"},
		{`{` + bound + `sub: "repo:acme/analytics:environment:prod", ref: refs/heads/main}`, ""},
		{`{` + bound + `sub: "repo:acme/analytics:ref:refs/heads/main"}`, ""},
		{`{repository_id: "1", runner_environment: github-hosted}`, "wide-matcher 7:9"},
		{`{` + bound + `ref: refs/heads/**}`, "wide-matcher 7:93"},
		{`{` + bound + `sub: "repo:acme/analytics:*"}`, "wide-matcher 7:93"},
		{`{` + bound + `actor: octocat, ref: refs/tags/*}`, "author-chosen-claim 7:93"},
		{`{` + bound + `workflow: dbt, environment: staging, ref: refs/heads/main}`, ""},
		{`{` + bound + `job_workflow_ref: "acme/analytics/.github/workflows/dbt.yml@refs/heads/**"}`, "mutable-workflow-ref 7:111"},
		{`{` + bound + `job_workflow_ref: ["acme/w/.github/workflows/a.yml@refs/tags/v1", "acme/w/.github/workflows/b.yml@refs/tags/*"]}`, "mutable-workflow-ref 7:159"},
		{`{` + bound + `job_workflow_ref: Other/w/.github/workflows/a.yml@refs/tags/v1}`, "foreign-workflow 7:111"},
		{`{` + bound + `job_workflow_ref: ACME/w/.github/workflows/a.yml@refs/tags/v1}`, ""},
		{`{repository_id: "1", runner_environment: github-hosted, job_workflow_ref: other/w/.github/workflows/a.yml@refs/tags/v1}`, ""},
		{`{repository_id: "1", runner_environment: github-hosted, job_workflow_ref: oidc-dbt/oidc-dbt/.github/workflows/a.yml@refs/tags/v1}`, "foreign-workflow 7:83"},
		{`{` + bound + `ref: refs/heads/main, sub: "ref:refs/heads/main:repo:acme/analytics"}`, "chosen-subject 7:120"},
		{`{` + bound + `ref: refs/heads/main, sub: "repository_owner:acme:environment:prod"}`, "chosen-subject 7:120"},
		{`{` + bound + `ref: refs/heads/main, sub: "repository_id:1:ref:refs/heads/main"}`, ""},
		{`{` + bound + `ref: refs/heads/main, enviroment: prod}`, "unreachable-rule 7:115"},
		{`{repository: acme/analytics, ref: refs/heads/main, runner_environment: github-hosted}`, "name-only-binding 7:9"},
		{`{` + bound + `ref: refs/heads/main, environment: ""}`, "policy-error 7:128"},
	} {
		report := run(t, map[string]string{policyName: policyOf(tt.rule)})
		if got := strings.Join(places(report), ", "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.rule, got, tt.want)
		}
	}
}

// TestDefaultsAndDeny: what a target has of the defaults is found there, and
// rules of deny are looked at, too.
func TestDefaultsAndDeny(t *testing.T) {
	t.Parallel()
	const src = `version: 1
deny:
  - actor: mallory
  - colour_of_runner: green
defaults:
  trust_reviewed: 2020-01-01
  exchange: {gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/gh/providers/a, service_account: dbt@a.iam.gserviceaccount.com}}
targets:
  lake:
    allow:
      - {repository: acme/analytics, repository_id: "1", runner_environment: github-hosted, environment: prod, ref: refs/heads/main}
`
	got := strings.Join(places(run(t, map[string]string{policyName: src})), ", ")
	if want := "unreachable-rule 4:5, review-due 6:3"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

// TestSwappedGuards: a rule that comes too late for its guard is told so.
func TestSwappedGuards(t *testing.T) {
	t.Parallel()
	const every, people = `repository_id: "1", ref: refs/heads/main`, `repository_id: "1", ref: refs/heads/main, actor_id: "7"`
	for _, tt := range []struct{ first, second, fix string }{
		{every + ", guard: {statements: read}", people,
			"remove it, narrow the earlier rule, or put it before rule 1, whose guard is tighter"},
		{every, people + ", guard: {statements: read}",
			"remove it, narrow the earlier rule, or put it before rule 1, whose guard is wider"},
		{every, people, "remove it, or narrow the earlier rule"},
	} {
		src := "version: 1\ntargets:\n  prod:\n    dbt: {type: snowflake, account: acme, user: DBT, database: ANALYTICS, schema: marts}\n" +
			"    exchange: {oidc: {audience: snowflakecomputing.com}}\n    guard: {statements: build}\n    allow:\n" +
			"      - {" + tt.first + "}\n      - {" + tt.second + "}\n"
		var got []string
		for _, f := range run(t, map[string]string{policyName: src}).Findings {
			if f.Name == "unreachable-rule" {
				got = append(got, f.Fix)
			}
		}
		if diff := cmp.Diff([]string{tt.fix}, got); diff != "" {
			t.Errorf("%s; %s (-want +got):\n%s", tt.first, tt.second, diff)
		}
	}
}

// TestOverlapWitness: the finding has the token that the policy's own matcher
// has confirmed.
func TestOverlapWitness(t *testing.T) {
	t.Parallel()
	text := policyOf(`{repository: acme/analytics, repository_id: "1", environment: prod, ref: refs/heads/main}`) + `  other:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/other", region: eu-central-1}
    allow:
      - {repository: acme/analytics, repository_id: "1", ref: "refs/heads/m*"}
`
	for _, f := range run(t, map[string]string{policyName: text}).Findings {
		if f.Name == "overlapping-targets" && f.Line == 12 && f.Witness["environment"] == "prod" && f.Witness["ref"] == "refs/heads/main" {
			return
		}
	}
	t.Error("no such finding")
}

// TestWarningsAreFindings: each warning that a policy causes in a run is found.
func TestWarningsAreFindings(t *testing.T) {
	t.Parallel()
	seeds := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[seeds.IntN(len(list))] }
	warned := 0
	for range 800 {
		var rules []string
		for range 1 + seeds.IntN(3) {
			parts := []string{pick(`repository: acme/a`, `repository: acme/b`, `repository_id: "1"`, `repository: acme/a, repository_id: "1"`)}
			for _, list := range [][]string{
				{"", `environment: prod`, `environment: "p*"`}, {"", `ref: refs/heads/main`, `ref: refs/heads/**`}, {"", `workflow: dbt`},
				{"", "", `job_workflow_ref: "acme/a/.github/workflows/x.yml@refs/heads/*"`, `job_workflow_ref: acme/w/.github/workflows/x.yml@refs/tags/v1`},
				{"", "", `event_name: [push, schedule]`}, {"", "", "", `enviroment: prod`}, {"", "", `sub: "repo:acme/a:*"`},
			} {
				if part := pick(list...); part != "" {
					parts = append(parts, part)
				}
			}
			rules = append(rules, "{"+strings.Join(parts, ", ")+"}")
		}
		text := policyOf(rules...)
		p, err := policy.Parse(policyName, []byte(text), job.Catalog())
		if err != nil {
			continue
		}
		names := findIn(t, repository(t, map[string]string{policyName: text}), policyName)
		for _, w := range p.Warnings() {
			warned++
			ok := false
			for part, wanted := range map[string][]string{
				"by name only":          {"name-only-binding"},
				"only the repository":   {"wide-matcher", "author-chosen-claim", "mutable-workflow-ref"},
				"a claim that no token": {"unreachable-rule"},
			} {
				ok = ok || strings.Contains(w, part) && slices.ContainsFunc(wanted, func(n string) bool { return slices.Contains(names, n) })
			}
			if !ok {
				t.Fatalf("a run warns: %s\nfound are only %q in\n%s", w, names, text)
			}
		}
	}
	if warned < 400 {
		t.Errorf("there were %d warnings only", warned)
	}
}

// TestIgnore: where a comment silences, and where it does not.
func TestIgnore(t *testing.T) {
	t.Parallel()
	const rule = `{repository: acme/analytics, repository_id: "1", environment: prod, runner_environment: github-hosted}`
	const found = "environment-without-ref"
	for _, tt := range []struct {
		name, rules, want string
	}{
		{"behind it", rule + " # oidc-dbt: ignore[environment-without-ref] main only", ""},
		{"above", "# oidc-dbt: ignore[environment-without-ref] main only\n      - " + rule, ""},
		{"above another comment", "# oidc-dbt: ignore[environment-without-ref] main only\n      # and more\n      - " + rule, ""},
		{"above an empty line", "# oidc-dbt: ignore[environment-without-ref] main only\n\n      - " + rule, found},
		{"several", rule + " # oidc-dbt:ignore[any-runner, environment-without-ref]  main only", ""},
		{"another", rule + " # oidc-dbt: ignore[any-runner] main only", found},
		{"behind the rule before", `{repository_id: "2", ref: refs/heads/main, runner_environment: github-hosted} # oidc-dbt: ignore[environment-without-ref] main only` +
			"\n      - " + rule, found},
		{"without a reason", rule + " # oidc-dbt: ignore[environment-without-ref]", "ignore-without-reason"},
		{"an error", `{repository_id: ""} # oidc-dbt: ignore[policy-error] it is known`, "policy-error"},
	} {
		text := strings.Replace(policyOf(tt.rules), "- #", "#", 1)
		if got := strings.Join(find(t, map[string]string{policyName: text}), ", "); got != tt.want {
			t.Errorf("%s: found %q, want %q in\n%s", tt.name, got, tt.want, text)
		}
	}
	for _, f := range run(t, map[string]string{policyName: policyOf(rule + " # oidc-dbt: ignore[environment-without-ref] main only")}).Findings {
		if !f.Suppressed || f.Reason != "main only" {
			t.Errorf("%s is suppressed: %t, because %q", f.Name, f.Suppressed, f.Reason)
		}
	}
}

// TestFiles: which files are read, and what cannot be.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := repository(t, map[string]string{
		policyName:                    policyOf(`{repository_id: "1", environment: prod, ref: refs/heads/main}`),
		"dbt/profiles.yml":            "a: {outputs: {dev: {type: postgres, password: hunter}}}\n",
		"dbt/dbt_packages/x/.env":     "TOKEN=abc\n",
		"venv/lib/profiles.yml":       "a: {outputs: {dev: {type: postgres, password: hunter}}}\n",
		"spack/packages.yml":          "packages: {all: {compiler: [gcc]}}\n",
		".env.example":                "TOKEN=abc\n",
		".github/oidc-dbt.test.yml":   "version: 1\ncases: []\n",
		"broken.yml":                  "a: [\n",
		"broken/profiles.yml":         "a: [\n",
		".github/workflows/b.yml":     "\x00\x01",
		"elsewhere/named.yml":         policyOf(`{repository_id: "1", environment: prod}`),
		"elsewhere/workflow.yml":      "permissions: write-all\njobs: {}\n",
		"big.yml":                     strings.Repeat("# a line that is much too long\n", 140_000),
		"locked/dbt_project.yml":      "name: x\n",
		"locked/packages.yml":         "packages: [{package: a/b, version: 1.0.0}]\n",
		"locked/package-lock.yml":     "packages: [{package: a/b, version: 1.0.1}]\n",
		"broken-lock/packages.yml":    "packages: [{package: a/b, version: 1.0.0}]\n",
		"broken-lock/dbt_project.yml": "name: x\n", "broken-lock/package-lock.yml": "a: [\n",
	})
	for _, tt := range []struct {
		paths []string
		found []string
		err   string
	}{
		{[]string{policyName}, []string{"any-runner 7:9"}, ""},
		{[]string{"elsewhere/named.yml", filepath.Join(dir, "elsewhere", "workflow.yml")},
			[]string{"any-runner 7:9", "environment-without-ref 7:30", "id-token-for-every-job 1:1"}, ""},
		{[]string{"broken.yml"}, []string{"policy-error 2:1"}, ""},
		{[]string{"locked/package-lock.yml", "locked/packages.yml"}, []string{"unpinned-dbt-package 1:12"}, ""},
		{[]string{"spack"}, nil, ""},
		{[]string{"dbt"}, []string{"static-secret 1:47"}, ""},
		{[]string{"elsewhere"}, nil, `read "elsewhere": nothing to lint: found no .github/oidc-dbt.yml, no workflow and no dbt project`},
		{[]string{"nowhere", policyName, "elsewhere/none.yml"}, []string{"any-runner 7:9"},
			`read "nowhere": no such file or directory` + "\n" + `read "elsewhere/none.yml": no such file or directory`},
		{[]string{".github/oidc-dbt.test.yml"}, nil,
			"read \".github/oidc-dbt.test.yml\": it has the tests of a policy, which `oidc-dbt test-policy` runs"},
		{[]string{"big.yml"}, nil, `read "big.yml": is larger than 4096 KiB`},
		{[]string{".github/workflows/b.yml"}, nil, `read ".github/workflows/b.yml": is not text in UTF-8`},
		{[]string{"broken/profiles.yml"}, nil, `read "broken/profiles.yml": line 2, column 1: is not YAML: did not find expected node content`},
		{[]string{"broken-lock/packages.yml"}, nil, `read "broken-lock/package-lock.yml": line 2, column 1: is not YAML: did not find expected node content`},
	} {
		report, err := lint.Run(t.Context(), env(dir), tt.paths)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if diff := cmp.Diff(tt.found, places(report)); diff != "" || text != tt.err {
			t.Errorf("%q: error %q, want %q; found (-want +got):\n%s", tt.paths, text, tt.err, diff)
		}
	}
	all, err := lint.Run(t.Context(), env(dir), nil)
	if err == nil || !slices.Contains(places(all), "static-secret 1:47") || slices.ContainsFunc(all.Findings, func(f lint.Finding) bool {
		return strings.Contains(f.File, "venv") || strings.Contains(f.File, ".env")
	}) {
		t.Errorf("found %q, error %v", places(all), err)
	}
}

// TestFoldersOfGitHub: the folders that GitHub reads files of may be named, too.
func TestFoldersOfGitHub(t *testing.T) {
	t.Parallel()
	dir := repository(t, map[string]string{
		policyName:                policyOf(`{repository: acme/analytics, repository_id: "1", environment: prod, ref: refs/heads/main}`),
		".github/workflows/x.yml": "permissions: write-all\njobs: {}\n", ".github/workflows/sub/y.yml": "permissions: write-all\njobs: {}\n",
	})
	for path, want := range map[string][]string{
		".github": {"any-runner 7:9", "id-token-for-every-job 1:1"}, ".github/workflows/": {"id-token-for-every-job 1:1"},
		filepath.Join(dir, ".github", "workflows"): {"id-token-for-every-job 1:1"},
	} {
		report, err := lint.Run(t.Context(), env(dir), []string{path})
		if diff := cmp.Diff(want, places(report)); diff != "" || err != nil {
			t.Errorf("%s: error %v, found (-want +got):\n%s", path, err, diff)
		}
	}
}

// TestPoliciesOfWorkflows: a policy that a step has in it, or names, is looked
// at where it is.
func TestPoliciesOfWorkflows(t *testing.T) {
	t.Parallel()
	rule := `{repository: acme/analytics, repository_id: "1", runner_environment: github-hosted, environment: prod`
	indented := strings.TrimSuffix(strings.ReplaceAll("\n"+policyOf(rule+"} # oidc-dbt: ignore[environment-without-ref] main only", rule+", ref: []}"), "\n", "\n            "), "            ")
	files := map[string]string{
		"policies/a.yml": policyOf(rule + "}"),
		".github/workflows/x.yml": "on: push\njobs:\n  a:\n    steps:\n      - uses: oidc-dbt/oidc-dbt@v1\n        with:\n          policy: |" + indented +
			"          target: prod\n      - uses: oidc-dbt/oidc-dbt@v1\n        with: {policy: policies/a.yml}\n" +
			"      - uses: oidc-dbt/oidc-dbt@v1\n        with: {policy: gone.yml}\n      - uses: other/other@v1\n        with: {policy: .env}\n",
	}
	var got []string
	for _, f := range run(t, files).Findings {
		got = append(got, fmt.Sprintf("%s:%d:%d %s", f.File, f.Line, f.Column, f.Name))
	}
	want := []string{".github/workflows/x.yml:15:129 policy-error", "policies/a.yml:7:93 environment-without-ref"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	files[".github/workflows/x.yml"] = strings.ReplaceAll(files[".github/workflows/x.yml"], "ref: []", `repository_owner: acme`)
	for _, f := range run(t, files).Findings {
		if f.File == ".github/workflows/x.yml" && f.Line == 14 && !f.Suppressed {
			t.Errorf("a comment in the block does not silence %s", f.Name)
		}
	}
}

// TestBelow: annotations and code scanning have files' names from the
// repository's folder, wherever the command ran.
func TestBelow(t *testing.T) {
	t.Parallel()
	dir := repository(t, map[string]string{"dbt/.env": "TOKEN=hunter\n"})
	e := env(filepath.Join(dir, "dbt"))
	e.Workspace = dir
	report, err := lint.Run(t.Context(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"github": "::error file=dbt/.env,line=1,", "sarif": `"uri": "dbt/.env"`, "text": ".env:1:1: error: ", "json": `"file": ".env"`,
	} {
		if text := in(t, format, report); !strings.Contains(text, want) {
			t.Errorf("%s has no %s:\n%s", format, want, text)
		}
	}
}

// TestTracked: a .env file that git does not track is left out, and without git
// all are read. What a repository configures is not run.
func TestTracked(t *testing.T) {
	t.Parallel()
	dir := repository(t, map[string]string{
		".env": "TOKEN=abc\n", "local.env": "TOKEN=abc\n", ".gitignore": "local.env\n", "gone/profiles.yml": "a: {}\n",
		"new/profiles.yml": "a: {outputs: {dev: {type: postgres, password: hunter}}}\n",
	})
	names := func() (list []string) {
		report, err := lint.Run(t.Context(), env(dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			list = append(list, f.File)
		}
		return append(list, report.Notices...)
	}
	without := []string{".env", "local.env", "new/profiles.yml",
		`git cannot list the files of "." (not a git repository (or any of the parent directories): .git): all files were read, including those that git would ignore`}
	if diff := cmp.Diff(without, names()); diff != "" {
		t.Errorf("without git (-want +got):\n%s", diff)
	}
	git := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	git("init", "-q")
	git("add", ".env", "gone")
	if err := os.RemoveAll(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	git("config", "core.fsmonitor", "touch "+filepath.Join(dir, "was-run")+"; false")
	if diff := cmp.Diff([]string{".env", "new/profiles.yml"}, names()); diff != "" {
		t.Errorf("with git (-want +got):\n%s", diff)
	}
	below := env(filepath.Join(dir, "new"))
	below.Workspace = dir
	report, err := lint.Run(t.Context(), below, nil)
	if err != nil || len(report.Findings) != 2 || report.Findings[0].File != "../.env" || report.Findings[1].File != "profiles.yml" {
		t.Errorf("from a folder below: %v, found %+v", err, report.Findings)
	}
	if text := in(t, "github", report); !strings.Contains(text, "file=.env,") || !strings.Contains(text, "file=new/profiles.yml,") {
		t.Errorf("the annotations are\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "was-run")); err == nil {
		t.Error("a command that the repository configures was run")
	}
}

// TestMany: a file of nothing but findings is read in time, and its report is bounded.
func TestMany(t *testing.T) {
	t.Parallel()
	block, flow := strings.Repeat("    - {password: hunter}\n", 30_000), strings.Repeat("{password: hunter}, ", 30_000)
	dir := repository(t, map[string]string{
		"a/profiles.yml": "a:\n  outputs:\n    b:\n      - x\nc:\n  d:\n" + block, "b/profiles.yml": "c: [" + flow + "]\n",
		".env": strings.Repeat("TOKEN=hunter\n", 100_000),
	})
	report, err := lint.Run(t.Context(), env(dir), []string{"a/profiles.yml", "b/profiles.yml", ".env"})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 3000 {
		t.Errorf("there are %d findings", len(report.Findings))
	}
	want := []string{`"a/profiles.yml" has more than 1000 findings of static-secret`, `"b/profiles.yml" has more than 1000 findings of static-secret`,
		`".env" has more than 1000 findings of static-secret`}
	if diff := cmp.Diff(want, report.Notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

func BenchmarkLint(b *testing.B) {
	var text strings.Builder
	text.WriteString("version: 1\ntargets:\n")
	for i := range 100 {
		fmt.Fprintf(&text, "  t%d:\n    exchange:\n      aws: {role: \"arn:aws:iam::123456789012:role/dbt%d\", region: eu-central-1}\n    allow:\n", i, i)
		for j := range 100 {
			fmt.Fprintf(&text, "      - repository: acme/r%d\n        repository_id: \"%d\"\n        environment: prod\n        ref: refs/heads/main\n", j, i*100+j)
		}
	}
	dir := repository(b, map[string]string{policyName: text.String()})
	for b.Loop() {
		report, err := lint.Run(b.Context(), env(dir), []string{policyName})
		if err != nil || len(report.Findings) != 1 {
			b.Fatalf("%d findings, %v", len(report.Findings), err)
		}
	}
}

// A lockedFS has folders that this user cannot read.
type lockedFS struct {
	fstest.MapFS
	locked string
}

// ReadDir implements fs.ReadDirFS.
func (l lockedFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == l.locked {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return l.MapFS.ReadDir(name)
}

// TestWalk: a folder that cannot be read is said to be one.
func TestWalk(t *testing.T) {
	t.Parallel()
	folder := fstest.MapFS{"a/profiles.yml": {}, "b/profiles.yml": {}, "target/profiles.yml": {}, "x.yml": {}}
	names, unread, err := lint.Walk(lockedFS{folder, "b"})
	if want := []string{"a/profiles.yml", "x.yml"}; !slices.Equal(names, want) || !slices.Equal(unread, []string{"b"}) || err != nil {
		t.Errorf("files %q, unread %q, %v", names, unread, err)
	}
	if _, _, err := lint.Walk(lockedFS{folder, "."}); err == nil || err.Error() != "open .: permission denied" {
		t.Errorf("err is %v", err)
	}
}
