package lint_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

// messages returns what is said, each with its line.
func messages(report lint.Report) string {
	var list []string
	for _, f := range report.Findings {
		list = append(list, f.Message)
	}
	return strings.Join(list, "; ")
}

// TestWorkflowSecrets: which secrets a target makes superfluous, and which not.
func TestWorkflowSecrets(t *testing.T) {
	t.Parallel()
	const dbt = "run: dbt build"
	for _, tt := range []struct{ name, job, want string }{
		{"by the step", `steps: [{` + dbt + `, env: {SNOWFLAKE_PASSWORD: "${{ secrets.SNOWFLAKE_PASSWORD }}"}}]`,
			"SNOWFLAKE_PASSWORD gets a long-lived credential from secrets.SNOWFLAKE_PASSWORD"},
		{"by the job", `{env: {KEY: "${{ secrets['snowflake_private_key'] || secrets.DB_PASSWORD }}"}, steps: [{` + dbt + `}]}`,
			"KEY gets a long-lived credential from secrets.snowflake_private_key, secrets.DB_PASSWORD"},
		{"a key file", `steps: [{` + dbt + `, env: {KEYFILE: "${{ secrets.BIGQUERY }}"}}]`, "KEYFILE gets a long-lived credential from secrets.BIGQUERY"},
		{"a step that writes the key", `steps: [{run: "echo \"$KEYFILE\" > keyfile.json", env: {KEYFILE: "${{ secrets.GCP }}"}}, {` + dbt + `}]`,
			"KEYFILE gets a long-lived credential from secrets.GCP"},
		{"an action that runs dbt", `steps: [{uses: acme/dbt-action@v1, env: {DBT_TOKEN: "${{ secrets.DBT_TOKEN }}"}}]`,
			"DBT_TOKEN gets a long-lived credential from secrets.DBT_TOKEN"},
		{"an action that runs a command", `steps: [{uses: acme/poetry@v1, with: {command: "dbt run --profiles-dir ."}, env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"no login", `steps: [{` + dbt + `, env: {ACCOUNT: "${{ secrets.SNOWFLAKE_ACCOUNT }}", DBT_USER: "${{ secrets.DBT_USER }}", DBT_PROJECT: "${{ secrets.DBT_ENV_SECRET_PROJECT_ID }}"}}]`, ""},
		{"another thing's", `steps: [{` + dbt + `, env: {GITHUB_TOKEN: "${{ secrets.GITHUB_TOKEN }}", SLACK_TOKEN: "${{ secrets.SLACK_TOKEN }}", DBT_ENV_SECRET_GIT_TOKEN: "${{ secrets.GIT_TOKEN }}", DBT_CLOUD_API_TOKEN: "${{ secrets.DBT_CLOUD_TOKEN }}"}}]`, ""},
		{"a step without dbt", `steps: [{run: ./deploy, env: {DB_PASSWORD: "${{ secrets.DB_PASSWORD }}"}}, {` + dbt + `}]`, ""},
		{"a job without dbt", `{env: {DB_PASSWORD: "${{ secrets.DB_PASSWORD }}"}, steps: [{run: echo dbt}]}`, ""},
		{"a cloud's key", `steps: [{uses: google-github-actions/auth@v3, with: {credentials_json: "${{ secrets.GCP }}"}}, {` + dbt + `}]`,
			"credentials_json gets a long-lived credential from secrets.GCP"},
		{"a cloud's OIDC", `steps: [{uses: google-github-actions/auth@v3, with: {workload_identity_provider: "${{ secrets.WIP }}"}}, {` + dbt + `}]`, ""},
		{"another action's token", `steps: [{uses: actions/checkout@v5, with: {token: "${{ secrets.PAT }}"}}, {` + dbt + `}]`, ""},
		{"a script", `steps: [{run: "echo '${{ secrets.DBT_PROFILES_YML }}' > profiles.yml\ndbt run --target prod"}]`,
			"the script gets a long-lived credential from secrets.DBT_PROFILES_YML"},
		{"the action's own command", `steps: [{uses: oidc-dbt/oidc-dbt@v1, with: {run: dbt build}, env: {TRINO_PASSWORD: "${{ secrets.TRINO }}"}}]`,
			"TRINO_PASSWORD gets a long-lived credential from secrets.TRINO"},
		{"clear text", `steps: [{` + dbt + `, env: {DB_PASSWORD: hunter2}}]`, "the workflow contains DB_PASSWORD in plain text"},
		{"a key by its form", `steps: [{` + dbt + `, env: {ID: AKIAIOSFODNN7ABCDEFG}}]`, "the workflow contains ID in plain text"},
		{"a database of the job's own", `{services: {db: {image: postgres}}, steps: [{` + dbt + `, env: {DB_PASSWORD: postgres}}]}`, ""},
		{"a placeholder", `steps: [{` + dbt + `, env: {DB_PASSWORD: "", A_TOKEN: $OTHER, B_TOKEN: "<yours>", C_TOKEN: changeme}}]`, ""},
		{"in more than a line", `steps: [{run: "dbt \\\n  --profiles-dir . \\\n  build", env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"in Python", `steps: [{shell: python, run: "from dbt.cli.main import dbtRunner\n", env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"as a module", `steps: [{run: python3.12 -m dbt run, env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"in dbt's image", `steps: [{run: "docker run -e PGPASSWORD=${{ secrets.PG_PASSWORD }} ghcr.io/dbt-labs/dbt-postgres:1.9 build"}]`,
			"the script gets a long-lived credential from secrets.PG_PASSWORD"},
		{"by a task", `steps: [{run: make -C models dbt-build, env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"by another task", `steps: [{run: "make all # not dbt", env: {PGPASSWORD: "${{ secrets.PG }}"}}]`, ""},
		{"by a script", `steps: [{run: bash scripts/run_dbt.sh, env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"by an action of the repository", `steps: [{uses: ./.github/actions/run-dbt, with: {password: "${{ secrets.PG }}"}}]`,
			"password gets a long-lived credential from secrets.PG"},
		{"of a container", `{container: {image: dbt, env: {PGPASSWORD: "${{ secrets.PG }}"}}, steps: [{` + dbt + `}]}`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"to another repository's workflow", `{uses: acme/workflows/.github/workflows/dbt.yml@v1, secrets: {PGPASSWORD: "${{ secrets.PG }}"}}`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
		{"to a workflow of the repository", `{uses: ./.github/workflows/dbt.yml, secrets: {PGPASSWORD: "${{ secrets.PG }}"}}`, ""},
		{"in other letter case", `steps: [{` + dbt + `, env: {PGPASSWORD: "${{ Secrets.Pg }}"}}]`, "PGPASSWORD gets a long-lived credential from secrets.Pg"},
		{"by a name of the matrix", `steps: [{` + dbt + `, env: {PGPASSWORD: "${{ secrets[ matrix.secret ] }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets[matrix.secret]"},
		{"all of them", `steps: [{` + dbt + `, env: {ALL: "${{ toJSON(secrets) }}"}}]`, "ALL gets a long-lived credential from toJSON(secrets)"},
		{"a service account", `steps: [{` + dbt + `, env: {KEY: "${{ secrets.BIGQUERY_SA }} ${{ secrets.GCP_SA_JSON }} ${{ secrets.NASA }}"}}]`,
			"KEY gets a long-lived credential from secrets.BIGQUERY_SA, secrets.GCP_SA_JSON"},
		{"clear text in a script", `steps: [{run: "export PGPASSWORD='hunter2'\nA=b\necho \"DBT_TOKEN=abc\" >> $GITHUB_ENV\ndbt run"}]`,
			"the script contains PGPASSWORD in plain text; the script contains DBT_TOKEN in plain text"},
		{"none in a script", `steps: [{run: "PGPASSWORD=$(./get)\nA_TOKEN=\"$B\"\nexport C_TOKEN=x$D\ndbt run --vars 'a_token=b'"}]`, ""},
		{"a script, with a database of the job's own", `{services: {db: {image: postgres}}, steps: [{run: "PGPASSWORD=postgres dbt build"}]}`, ""},
		{"dbt by another tool", `steps: [{run: "poetry run dbt --quiet build && uv run dbt docs generate", env: {PGPASSWORD: "${{ secrets.PG }}"}}]`,
			"PGPASSWORD gets a long-lived credential from secrets.PG"},
	} {
		job := tt.job
		if !strings.HasPrefix(job, "{") {
			job = "{" + job + "}"
		}
		report := run(t, map[string]string{".github/workflows/x.yml": "on: push\njobs:\n  a: " + job + "\n"})
		if got := messages(report); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestWorkflowForms: workflows of all forms, anchors among them.
func TestWorkflowForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"of the workflow, for a dbt job", "env: {A_TOKEN: abc}\njobs: {a: {steps: [{run: dbt build}]}}\n", "static-secret 1:7"},
		{"of the workflow, without one", "env: {A_TOKEN: abc}\njobs: {a: {steps: [{run: make}]}}\n", ""},
		{"by an anchor", "jobs:\n  a: &job {env: &env {A_TOKEN: abc}, steps: [{run: dbt build, env: *env}]}\n", "static-secret 2:23"},
		{"an anchor in itself", "jobs: &a {b: *a}\n", ""},
		{"a called workflow", "permissions: {id-token: write}\njobs: {a: {uses: ./.github/workflows/b.yml}}\n", "id-token-for-every-job 1:15"},
		{"no workflow", "permissions: {id-token: write}\n", ""},
		{"read", "permissions: {id-token: none}\njobs: {}\n", ""},
		{"permissions of another shape", "permissions: [id-token]\njobs: []\n", ""},
		{"a list", "- a\n", ""},
		{"nothing", "", ""},
	} {
		if got := strings.Join(places(run(t, map[string]string{".github/workflows/x.yml": tt.text})), ", "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestFileSecrets: .env files, dbt's files, and how none of them shows a value.
func TestFileSecrets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{".env", "A=1\r\nexport  PGPASSWORD='xyzzy'\r\n# TOKEN=xyzzy\n B_TOKEN = xyzzy # prod\nC_TOKEN=\nD_TOKEN=${X}\nE_TOKEN=xxxx\n", "static-secret 2:9, static-secret 4:2"},
		{"prod.env", "URL=postgres://u:xyzzy@db/x\nKEY=\"-----BEGIN PRIVATE KEY-----\nxyzzyd==\n\"\n", "static-secret 1:1, static-secret 2:1"},
		{".env.production", "DBT_ENV_SECRET_TOKEN=xyzzy", "static-secret 1:1"},
		{".envrc", "export AWS_SECRET_ACCESS_KEY=xyzzy", "static-secret 1:8"},
		{".env.sample", "A_TOKEN=xyzzy", ""},
		{"dbt_project.yml", "name: a\nvars:\n  a: {api_token: xyzzy, unique_key: id}\n  b: [\"{{ env_var('X') }}\"]\n  url: https://u:xyzzy@db\ntoken: xyzzy\n", "static-secret 3:18, static-secret 5:8"},
		{"profiles.yml", "a:\n  outputs:\n    b: {type: snowflake, private_key_passphrase: xyzzy, token: \"{{ env_var('T', 'xyzzy') }}\", user: u}\n    c: {type: trino, user: u, password: \"{{ env_var('P') }}\"}\n",
			"static-secret 3:50, static-secret 3:64"},
	} {
		report := run(t, map[string]string{tt.name: tt.text, "dbt/dbt_project.yml": "name: a\n"})
		if got := strings.Join(places(report), ", "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
		for _, format := range lint.Formats() {
			if text := in(t, format, report); strings.Contains(text, "xyzzy") {
				t.Errorf("%s shows a secret of %s:\n%s", format, tt.name, text)
			}
		}
	}
}

// TestPackages: what is fixed, by the file itself or by its lock.
func TestPackages(t *testing.T) {
	t.Parallel()
	const sha = "3f1c5d7e9a0b2c4d6e8f0a1b2c3d4e5f60718293"
	const none = ", and there is no package-lock.yml: each run installs the latest match"
	for _, tt := range []struct{ name, packages, lock, want string }{
		{"a range", `{package: a/b, version: [">=1.0.0", "<2.0.0"]}`, "", "a/b has no fixed version" + none},
		{"nothing", `{package: a/b}`, "", "a/b has no fixed version" + none},
		{"a version", `{package: a/b, version: 1.0.0}`, "", "there is no package-lock.yml: the dependencies of these packages are not pinned"},
		{"a version, locked", `{package: a/b, version: "=1.0.0"}`, `{package: a/b, version: 1.0.0}`, ""},
		{"a range, locked", `{package: A/b, version: ">=1.0.0"}`, `{name: b, package: a/b, version: 1.4.0}`, ""},
		{"another version locked", `{package: a/b, version: 1.0.0}`, `{package: a/b, version: 1.4.0}`, "package-lock.yml is out of date: it has another version for a/b"},
		{"not locked", `{package: a/b, version: 1.0.0}`, `{package: a/c, version: 1.4.0}`, "package-lock.yml is out of date: it does not contain a/b"},
		{"a branch", `{git: "https://x.example/a.git", revision: main}`, "", "https://x.example/a has no fixed revision" + none},
		{"a commit", `{git: "https://x.example/a.git", revision: ` + sha + `}`, `{git: "https://x.example/a", revision: ` + sha + `}`, ""},
		{"a branch, locked", `{git: "https://x.example/a.git", revision: main}`, `{git: "https://x.example/a.git", revision: ` + sha + `}`, ""},
		{"a branch, locked as such", `{git: "https://x.example/a.git", revision: main}`, `{git: "https://x.example/a.git", revision: main}`,
			"neither this file nor package-lock.yml has a fixed revision for https://x.example/a"},
		{"with a login", `{git: "https://u:p@x.example/a.git", revision: main}`, "", "https://x.example/a has no fixed revision" + none},
		{"of the repository", `{local: ../a}`, "", ""},
		{"a private one", `{private: acme/a, revision: v1}`, "", "acme/a has no fixed revision" + none},
	} {
		files := map[string]string{"dbt_project.yml": "name: a\n", "packages.yml": "packages:\n  - " + tt.packages + "\n"}
		if tt.lock != "" {
			files["package-lock.yml"] = "packages:\n  - " + tt.lock + "\nsha1_hash: abc\n"
		}
		if diff := cmp.Diff(tt.want, messages(run(t, files))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := find(t, map[string]string{"dbt_project.yml": "name: a\n", "dependencies.yml": "projects: [{name: x}]\n"}); len(got) > 0 {
		t.Errorf("found %q in a file of projects", got)
	}
}

// TestSecretsAreNotShown: no format prints a value, whatever its key is called.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	values := []string{"hunter2hunter2", "ghp_" + strings.Repeat("a1", 18), "AKIAIOSFODNN7ABCDEFG", "dapi" + strings.Repeat("0a", 16)}
	report := run(t, map[string]string{
		".github/workflows/x.yml": "jobs:\n  a:\n    steps:\n      - run: |\n          PGPASSWORD=" + values[0] + " dbt build\n" +
			"          echo 'PGPASSWORD=" + values[0] + "' >> .env\n        env: {A: " + values[1] + ", B: " + values[2] + "}\n" +
			"      - {run: dbt build, env: {C: " + values[3] + ", D_PASSWORD: " + values[0] + "}}\n",
		"profiles.yml": "shop:\n  outputs:\n    dev: {type: postgres, password: " + values[0] + ", other: " + values[1] + "}\n",
		".env":         "A=" + values[1] + "\nexport B_PASSWORD='" + values[0] + "'\n",
		policyName:     strings.Replace(policyOf(`{repository: acme/analytics, colour: `+values[1]+`}`), "region: ", "regoin: "+values[3]+", region: ", 1),
	})
	if len(report.Findings) < 10 {
		t.Errorf("%d findings, want at least 10", len(report.Findings))
	}
	for _, format := range lint.Formats() {
		text := in(t, format, report)
		for _, value := range values {
			if strings.Contains(text, value) {
				t.Errorf("%s shows %s in\n%s", format, value, text)
			}
		}
	}
}
