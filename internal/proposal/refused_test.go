package proposal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// sound is a repository that init takes; each case breaks it in one way.
const sound = "-- repo/.git/config --\n[remote \"origin\"]\n\turl = https://github.com/acme/analytics.git\n" +
	"-- repo/dbt_project.yml --\nname: a\nprofile: a\n" +
	"-- repo/profiles.yml --\na: {target: prod, outputs: {prod: {type: snowflake, account: acme-prod, user: DBT, password: s3cr3t, database: A, schema: marts}}}\n"

// TestRefused: one error for what cannot be read or is no sense, status 2,
// nothing on standard output, nothing written, and no secret.
func TestRefused(t *testing.T) {
	t.Parallel()
	link := func(to, name string) func(checkout) {
		return func(c checkout) {
			path := filepath.Join(c.root, "repo", name)
			if err := os.RemoveAll(path); err != nil {
				c.t.Fatal(err)
			}
			if err := os.Symlink(to, path); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	file := func(name, text string) func(checkout) { return func(c checkout) { c.write("repo/"+name, text) } }
	folder := func(name string) func(checkout) {
		return func(c checkout) {
			path := filepath.Join(c.root, "repo", name)
			if err := os.RemoveAll(path); err != nil {
				c.t.Fatal(err)
			}
			if err := os.MkdirAll(path, 0o755); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	const hint, there = "\nhint: ", "is there already, and init overwrites nothing"
	const checkIt = hint + "to check it: oidc-dbt lint; to see what it decides: oidc-dbt explain"
	valid := `["athena" "bigquery" "clickhouse" "databricks" "duckdb" "fabric" "postgres" "redshift" "snowflake" "spark" "sqlserver" "trino"]`
	for _, tt := range []struct {
		name string
		with func(checkout)
		args string
		err  string
	}{
		{name: "an argument", args: "now", err: `unexpected argument "now"`},
		{name: "an unknown flag", args: "--nope", err: "flag provided but not defined: -nope"},
		{name: "a repository's URL", args: "--repository https://github.com/acme/analytics", err: `flag --repository: got "https://github.com/acme/analytics", want OWNER/NAME`},
		{name: "a number that is none", args: "--repository-id acme", err: `flag --repository-id: got "acme", want a number` + hint + "`gh api repos/acme/analytics --jq .id` prints it"},
		{name: "an environment", args: "--environment #", err: `flag --environment: got "#", want the name of an environment`},
		{name: "a platform", args: "--platform acme", err: `flag --platform: got "acme", want OWNER/NAME`},
		{name: "a platform's checkout without the platform", args: "--platform-dir ../platform", err: "flag --platform-dir: requires --platform"},
		{name: "no platform's checkout", args: "--platform acme/platform --platform-dir ../platform",
			err: `flag --platform-dir: there is no .github/workflows/dbt.yml in "../platform"` + hint + "name a checkout of acme/platform"},
		{name: "a platform without a reusable workflow", args: "--platform acme/platform --platform-dir .", with: file(".github/workflows/dbt.yml", "on: push\njobs: {}\n"),
			err: `flag --platform-dir: .github/workflows/dbt.yml in "." is no reusable workflow` + hint + "add `on: workflow_call:` to it"},
		{name: "a platform's workflow that is no YAML", args: "--platform acme/platform --platform-dir sub", with: file("sub/.github/workflows/dbt.yml", "on: [\n"),
			err: "flag --platform-dir: read .github/workflows/dbt.yml: line 2, column 1: invalid YAML: did not find expected node content"},
		{name: "an unknown provider", args: "--provider okta", err: `flag --provider: type "snowflake" does not support provider "okta", valid providers are ["aws" "entra" "login" "oidc" "token_exchange" "vault"]`},
		{name: "a provider of another type", args: "--provider gcp", err: `flag --provider: type "snowflake" does not support provider "gcp", valid providers are ["aws" "entra" "login" "oidc" "token_exchange" "vault"]`},
		{name: "a provider for people", args: "--provider login", err: `flag --provider: provider "login" is for people at a terminal, and this proposes a target for a job` +
			hint + "see https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/identities/people.md"},
		{name: "another type", args: "--type bigquery", err: `flag --type: got "bigquery", output "prod" of profile "a" in profiles.yml has type "snowflake"`},
		{name: "a project elsewhere", args: "--project-dir ../other", err: `flag --project-dir: "../other" is outside the repository`},
		{name: "no such project", args: "--project-dir dbt", err: `read dbt_project.yml in "dbt": there is no such file`},
		{name: "git without a remote", with: folder(".git"),
			err: "git has no remote that looks like GitHub's" + hint + "name the GitHub repository: oidc-dbt init --repository OWNER/NAME"},
		{name: "no project in a repository", args: "--repository acme/analytics", with: folder("."),
			err: "there is no dbt_project.yml in the repository" + hint + "run it in the repository of a dbt project, or name the project's folder with --project-dir"},
		{name: "a project that is a folder", with: folder("dbt_project.yml"), err: "read dbt_project.yml: is a directory, want a regular file"},
		{name: "a project that is no YAML", with: file("dbt_project.yml", "name: [\n"), err: `read dbt_project.yml in ".": line 2, column 1: invalid YAML: did not find expected node content`},
		{name: "a huge project", with: file("dbt_project.yml", "# "+strings.Repeat("x", 1<<20)), err: "read dbt_project.yml: is larger than 1024 KiB"},
		{name: "profiles that are a folder", with: folder("profiles.yml"), err: "read profiles.yml: is a directory, want a regular file"},
		{name: "huge profiles", with: file("profiles.yml", "# "+strings.Repeat("s3cr3t", 1<<18)), err: "read profiles.yml: is larger than 1024 KiB"},
		{name: "binary profiles", with: file("profiles.yml", "s3cr3t\x00"), err: `read profiles "profiles.yml": is not valid UTF-8`},
		{name: "empty profiles", with: file("profiles.yml", ""), err: `read profiles "profiles.yml": is empty`},
		{name: "profiles that are a list", with: file("profiles.yml", "- s3cr3t\n"), err: `read profiles "profiles.yml": is not a mapping`},
		{name: "broken profiles", with: file("profiles.yml", "a:\n  password: s3cr3t: x\n"), err: `read profiles "profiles.yml": line 2, column 19: invalid YAML: mapping values are not allowed in this context`},
		{name: "a bomb of aliases", with: file("profiles.yml", bomb()), err: `read profiles "profiles.yml": has more than 100000 values with its aliases expanded`},
		{name: "profiles of other projects", with: file("profiles.yml", "b: {outputs: {prod: {type: duckdb}}}\n"),
			err: `read profiles "profiles.yml": it has no profile "a", which dbt_project.yml names; it has ["b"]`},
		{name: "an output that is none", with: file("profiles.yml", "a: {target: prod, outputs: {prod: s3cr3t}}\n"),
			err: `read profiles "profiles.yml": output "prod" of profile "a" is not a mapping`},
		{name: "a type by a variable", with: file("profiles.yml", "a: {target: prod, outputs: {prod: {type: \"{{ env_var('T') }}\"}}}\n"),
			err: `read profiles "profiles.yml": type of output "prod" of profile "a" is a template that only dbt can render: want a literal, or ` + "`with: {type: …}` in the policy" + hint + "name the type: oidc-dbt init --type snowflake, say"},
		{name: "an unknown type", with: file("profiles.yml", "a: {target: prod, outputs: {prod: {type: oracle, password: s3cr3t}}}\n"),
			err: `unknown type "oracle" of output "prod" in profiles.yml, valid types are ` + valid},
		{name: "a link out of the repository", with: link("/etc/hostname", "profiles.yml"), err: "read profiles.yml: a symbolic link leads out of the repository"},
		{name: "a link to nothing", with: link("nothing", "profiles.yml"), err: "read profiles.yml: a symbolic link leads to nothing"},
		{name: "a project by a link", with: link("/etc/hostname", "dbt_project.yml"), err: "read dbt_project.yml: a symbolic link leads out of the repository"},
		{name: "workflows by a link", with: func(c checkout) { folder(".github")(c); link("/etc", ".github/workflows")(c) },
			err: "read .github/workflows: a symbolic link leads out of the repository"},
		{name: "workflows that are a file", with: file(".github/workflows", ""), err: "read .github/workflows: it is no folder that can be read"},
		{name: "a workflow that is a folder", with: folder(".github/workflows/a.yml"), err: "read .github/workflows/a.yml: is a directory, want a regular file"},
		{name: "a workflow that is no YAML", with: file(".github/workflows/a.yml", "on: [\n"),
			err: "read .github/workflows/a.yml: line 2, column 1: invalid YAML: did not find expected node content"},
		{name: "a policy", with: file(".github/oidc-dbt.yaml", ""), err: ".github/oidc-dbt.yaml " + there + checkIt},
		{name: "a test of a policy", with: file(".github/oidc-dbt.test.yml", ""), err: ".github/oidc-dbt.test.yml " + there + checkIt},
		{name: "a place that a link leads to", args: "--write", with: link("/tmp", ".github"), err: "write .github/oidc-dbt.yml: a symbolic link leads out of the repository"},
		{name: "a key that a policy cannot have", with: file("profiles.yml", "a: {target: prod, outputs: {prod: {type: duckdb, path: \"${x}\"}}}\n"),
			err: "propose a policy: parse policy \".github/oidc-dbt.yml\": 1 error\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCheckout(t, txtar.Parse([]byte(sound)), false)
			if tt.with != nil {
				tt.with(c)
			}
			status, out, errs := c.run(append([]string{"init"}, strings.Fields(tt.args)...)...)
			want := "oidc-dbt: " + tt.err + "\n"
			if strings.HasSuffix(tt.err, "\n") && strings.HasPrefix(errs, "oidc-dbt: "+tt.err) {
				want = errs
			}
			if status != 2 || out != "" || errs != want || strings.Contains(errs, marker) {
				t.Errorf("status %d, stdout %q, stderr\n%q, want 2 and\n%q", status, out, errs, want)
			}
		})
	}
}

// bomb is a file whose aliases stand for a billion values.
func bomb() string {
	text := "a0: &a0 {x: s3cr3t}\n"
	for i := range 9 {
		n := string(rune('0' + i))
		next := string(rune('1' + i))
		text += "a" + next + ": &a" + next + " {" + strings.TrimSuffix(strings.Repeat("kX: *a"+n+", ", 10), ", ") + "}\n"
	}
	for i := 0; strings.Contains(text, "kX"); i++ {
		text = strings.Replace(text, "kX", "k"+strings.Repeat("y", i%10), 1)
	}
	return text
}
