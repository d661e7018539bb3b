package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// generatedTrust is a part of a page that `oidc-dbt trust generate` makes of a
// policy on the same page.
var generatedTrust = regexp.MustCompile(`(?ms)^<!-- trust:start (.+?) -->\n(.*?)^<!-- trust:end -->$`)

// attribute is one of a marker: NAME=VALUE, the value in quotes where it has spaces.
var attribute = regexp.MustCompile(`(\w+)=(?:"([^"]*)"|(\S+))`)

// attributes are those that a marker may have: which policy of the page, by the
// target's name, its provider, and its number among those; which file, or
// "report"; flags of the command; and a summary to fold it under.
var attributes = []string{"target", "provider", "policy", "file", "flags", "details"}

// TestTrustOnPages: what the owner of a warehouse copies is what the command
// makes of the policy on the same page.
func TestTrustOnPages(t *testing.T) {
	t.Parallel()
	count := 0
	for path, text := range pages(t) {
		if !generatedTrust.MatchString(text) {
			if strings.Contains(text, "trust:start ") {
				t.Errorf("%s has a start without an end", path)
			}
			continue
		}
		got := generatedTrust.ReplaceAllStringFunc(text, func(part string) string {
			count++
			m := generatedTrust.FindStringSubmatch(part)
			made := trustPart(t, path, text, m[1])
			if made == "" {
				return part
			}
			return "<!-- trust:start " + m[1] + " -->\n" + made + "<!-- trust:end -->"
		})
		if n := strings.Count(text, "<!-- trust:start "); n != strings.Count(text, "<!-- trust:end -->") {
			t.Errorf("%s has %d starts and another number of ends", path, n)
		}
		if got != text { // another test may be rewriting the page, too
			golden.Compare(t, path, got)
		}
	}
	if count < 20 {
		t.Errorf("found %d parts that are generated, want at least 20", count)
	}
}

// trustPart makes one part of a page, "" where that fails.
func trustPart(t *testing.T, path, page, marker string) string {
	t.Helper()
	a := map[string]string{"target": "prod", "policy": "1"}
	for _, m := range attribute.FindAllStringSubmatch(marker, -1) {
		if !slices.Contains(attributes, m[1]) {
			t.Errorf("%s: a marker has %q, valid names are %q", path, m[1], attributes)
		}
		a[m[1]] = m[2] + m[3]
	}
	w, ok := trustOf(t, path, policyOnPage(t, path, page, a), a)
	if !ok {
		return ""
	}
	if a["file"] == "report" {
		return w.markdown()
	}
	for _, d := range w.Documents {
		if d.File != a["file"] {
			continue
		}
		text := d.Text
		if ext := filepath.Ext(d.File); ext == ".tf" || ext == ".sh" {
			text = withoutHead(text)
		}
		out := fmt.Sprintf("%s\n\n```%s\n%s\n```\n", shownCommand(a), fence(d.File), strings.TrimSpace(text))
		if a["details"] != "" {
			out = "<details><summary>" + a["details"] + "</summary>\n\n" + out + "\n</details>\n"
		}
		return out
	}
	t.Errorf("%s: target %q has no document %q, but %v", path, a["target"], a["file"], w.names())
	return ""
}

// shownCommand says which command makes the file.
func shownCommand(a map[string]string) string {
	line := strings.TrimSpace("oidc-dbt trust generate --target " + a["target"] + " " + a["flags"])
	switch filepath.Ext(a["file"]) {
	case ".tf":
		return "`" + line + " --format terraform` prints:"
	case ".sh":
		if a["file"] == a["target"]+".sh" {
			return "`" + line + " --format native` prints:"
		}
	}
	return "`" + line + " --out trust` writes `trust/" + a["file"] + "`:"
}

// policyOnPage returns the policy of the page that a marker means.
func policyOnPage(t *testing.T, path, page string, a map[string]string) string {
	t.Helper()
	n := 0
	for _, b := range blocks(page) {
		p, err := policy.Parse(path, []byte(b), job.Catalog())
		if err != nil {
			continue // a workflow, say
		}
		target, err := p.Target(a["target"])
		if err != nil || a["provider"] != "" && target.Provider() != a["provider"] {
			continue
		}
		if n++; fmt.Sprint(n) == a["policy"] {
			return b
		}
	}
	t.Fatalf("%s has no policy with a target %q by provider %q, number %s", path, a["target"], a["provider"], a["policy"])
	return ""
}

// A printedWall is what `trust generate --format json` prints of one login.
type printedWall struct {
	Target, Provider string
	Rules            []struct {
		Rule     int
		Enforced []string
		WiderBy  []printedGap `json:"wider_by"`
		Narrower []printedGap `json:"narrower_by"`
	}
	Notes     []string
	Documents []struct{ File, Text string }
}

type printedGap struct {
	Claim, Why string
	ClosesWith string `json:"closes_with"`
}

func (w printedWall) names() (list []string) {
	for _, d := range w.Documents {
		list = append(list, d.File)
	}
	return list
}

// markdown is the report for a page.
func (w printedWall) markdown() string {
	var b strings.Builder
	for _, r := range w.Rules {
		which := ""
		if len(w.Rules) > 1 {
			which = fmt.Sprintf("Rule %d: ", r.Rule)
		}
		enforced := which + "enforced"
		if which == "" {
			enforced = "Enforced"
		}
		list := "nothing"
		if len(r.Enforced) > 0 {
			list = "`" + strings.Join(r.Enforced, "`, `") + "`"
		}
		fmt.Fprintf(&b, "%s by the provider: %s.", enforced, list)
		if len(r.WiderBy)+len(r.Narrower) == 0 {
			b.WriteString(" That is all of the rule.\n\n")
			continue
		}
		b.WriteString("\n\n")
		writeGaps(&b, "Wider", r.WiderBy)
		writeGaps(&b, "Narrower", r.Narrower)
		b.WriteString("\n")
	}
	for _, n := range w.Notes {
		fmt.Fprintf(&b, "Note: %s.\n\n", n)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// writeGaps writes the gaps as a list; what closes several is said once, with
// the last of them.
func writeGaps(b *strings.Builder, how string, gaps []printedGap) {
	for i, g := range gaps {
		fmt.Fprintf(b, "* %s by `%s`: %s.", how, g.Claim, g.Why)
		if last := i+1 == len(gaps) || gaps[i+1].ClosesWith != g.ClosesWith; last && g.ClosesWith != "" {
			fmt.Fprintf(b, " Closed by %s.", option.ReplaceAllString(g.ClosesWith, "`$0`"))
		}
		b.WriteString("\n")
	}
}

var option = regexp.MustCompile(`--[a-z][a-z-]*(?: [A-Za-z0-9_,=@/.-]+)?`)

// trustOf runs the command for a policy.
func trustOf(t *testing.T, path, text string, a map[string]string) (printedWall, bool) {
	t.Helper()
	args := append([]string{"trust", "generate", "--policy", text, "--target", a["target"], "--format", "json"}, strings.Fields(a["flags"])...)
	status, stdout, stderr := runTrust(t, args...)
	var out struct{ Targets []printedWall }
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || status != 0 || len(out.Targets) != 1 {
		t.Errorf("%s: trust generate ends with status %d, %v, %d logins: %s", path, status, err, len(out.Targets), stderr)
		return printedWall{}, false
	}
	names := out.Targets[0].names()
	slices.Sort(names)
	if len(slices.Compact(names)) != len(out.Targets[0].Documents) {
		t.Errorf("%s: two documents have one name: %v", path, out.Targets[0].names())
	}
	return out.Targets[0], true
}

// runTrust runs the command as a person would in a folder without a policy.
func runTrust(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	status = command.Run(t.Context(), job.Env{
		Getenv: func(string) string { return "" }, Now: func() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) },
		Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Dir: dir, TempDir: dir, Executable: filepath.Join(dir, "oidc-dbt"), Version: "v1.2.3",
	}, args)
	return status, out.String(), errs.String()
}

// withoutHead returns a file without the report at its top, which a page says
// in words of its own.
func withoutHead(text string) string {
	lines := strings.SplitAfter(text, "\n")
	first := ""
	if strings.HasPrefix(text, "#!") {
		first, lines = lines[0], lines[1:]
	}
	i := slices.IndexFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "#") })
	if i < 0 {
		return text
	}
	return first + strings.Join(lines[i:], "")
}

// fence is the language of a block, by the file's ending.
func fence(file string) string {
	languages := map[string]string{".tf": "hcl", ".sh": "sh", ".json": "json", ".sql": "sql", ".properties": "properties"}
	return languages[filepath.Ext(file)]
}

// TestEveryPageHasItsTrust: each provider of a warehouse has its set-up
// generated on the warehouse's page, or on a page that it links.
func TestEveryPageHasItsTrust(t *testing.T) {
	t.Parallel()
	all := pages(t)
	link := regexp.MustCompile(`\]\(([^)#:]+\.md)#set-up`)
	for path, text := range all {
		if filepath.Dir(path) != "../docs/warehouses" {
			continue
		}
		shown := text
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			shown += all[filepath.ToSlash(filepath.Join(filepath.Dir(path), m[1]))]
		}
		for _, name := range providersOn(t, path, text) {
			if name == "login" {
				continue // the ID token goes nowhere, so nothing has to trust it
			}
			if !regexp.MustCompile(`<!-- trust:start [^>]*provider=` + name + ` `).MatchString(shown) {
				t.Errorf("%s neither shows the trust of provider %q nor links a page's set-up that does", path, name)
			}
		}
	}
}

// providersOn are the providers of the policies on a page that have a language
// of their own.
func providersOn(t *testing.T, path, text string) (names []string) {
	t.Helper()
	for _, b := range blocks(text) {
		if !strings.HasPrefix(b, "version: 1\n") {
			continue
		}
		p, err := policy.Parse(path, []byte(b), job.Catalog())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range p.Targets() {
			target, err := p.Target(name)
			if err != nil {
				t.Fatal(err)
			}
			language := target.Provider() != "token_exchange" || strings.Contains(target.Exchange().Get("token_url"), "/realms/")
			if language && !slices.Contains(names, target.Provider()) {
				names = append(names, target.Provider())
			}
		}
	}
	return names
}

// TestTrustPageNamesEveryCommand: the page shows each command of `oidc-dbt trust`.
func TestTrustPageNamesEveryCommand(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("trust.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"generate", "check", "rotate", "revoke", "due"} {
		if !bytes.Contains(page, []byte("oidc-dbt trust "+name)) {
			t.Errorf("docs/trust.md does not show `oidc-dbt trust %s`", name)
		}
	}
}

// A spoken is a provider as the table of what it can enforce names it.
type spoken struct{ name, dbt, exchange string }

var spokens = []spoken{
	{"AWS", "", `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`},
	{"Google", "", `{gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/acme, service_account: dbt@acme.iam.gserviceaccount.com}}`},
	{"OpenBao, CEL", "", `{vault: {address: "https://vault.acme.example:8200", auth: cel, role: dbt, audience: "https://vault.acme.example", secret: database/creds/dbt}}`},
	{"Vault", "", `{vault: {address: "https://vault.acme.example:8200", role: dbt, audience: "https://vault.acme.example", secret: database/creds/dbt}}`},
	{"Entra ID", "", `{entra: {tenant: acme.onmicrosoft.com, client_id: 11111111-2222-3333-4444-555555555555, scope: "api://acme/.default"}}`},
	{"Trino", `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`, `{oidc: {audience: trino.acme.example}}`},
	{"Snowflake", `{type: snowflake, account: acme-prod, user: DBT, role: DBT, database: D, warehouse: W, schema: marts}`, `{oidc: {audience: snowflakecomputing.com}}`},
	{"Databricks", "", `{databricks: {host: dbc-a1b2c3d4-e5f6.cloud.databricks.com, account_id: 12121212-3434-5656-7878-909090909090, client_id: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}}`},
	{"Keycloak", `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`,
		`{token_exchange: {token_url: "https://auth.acme.example/realms/acme/protocol/openid-connect/token", grant: client_assertion, audience: "https://auth.acme.example/realms/acme"}}`},
	{"Identity Center", `{type: athena, s3_staging_dir: "s3://acme/staging/", database: awsdatacatalog, schema: marts, work_group: people}`, `{identity_center: {region: eu-central-1, application: "arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef", role: "arn:aws:iam::123456789012:role/dbt-identity"}}`},
}

// enforced are the rows of the table: the claim, or what it is called, and
// what the rules say of it.
var enforced = []struct{ row, claim, rules string }{
	{"`repository`", "repository", ""},
	{"`repository_id`", "repository_id", ""},
	{"`repository_owner_id`", "repository_owner_id", ""},
	{"`environment`", "environment", ""},
	{"`ref`, with an environment", "ref", ""},
	{"`ref`, without one", "ref", `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", ref: refs/heads/main}`},
	{"`event_name`", "event_name", ""},
	{"`job_workflow_ref`", "job_workflow_ref", ""},
	{"`workflow_ref`", "workflow_ref", ""},
	{"`actor_id`", "actor_id", ""},
	{"`enterprise_id`", "enterprise_id", ""},
	{"`runner_environment`", "runner_environment", ""},
	{"`repository_visibility`", "repository_visibility", ""},
	{"`repo_property_…`", "repo_property_team", ""},
	{"`actor_kind`", "actor_kind", ""},
	{"`kubernetes.io>serviceaccount>uid`", "kubernetes.io>serviceaccount>uid", `{identity: cluster, sub: "system:serviceaccount:dbt:runner", ` +
		`kubernetes.io>serviceaccount>uid: 3f0e0000-0000-4000-8000-000000000000}`},
	{"`*` in `environment`", "environment", `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: prod-*, ref: refs/heads/main}`},
	{"`**` in `environment`", "environment", `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: prod-**, ref: refs/heads/main}`},
}

// wholeRule names every claim of the table.
const wholeRule = `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: production, ref: refs/heads/main, ` +
	`event_name: push, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3, ` +
	`workflow_ref: acme/analytics/.github/workflows/dbt.yml@refs/heads/main, actor_id: "583231", enterprise_id: "42", ` +
	`runner_environment: github-hosted, repository_visibility: private, repo_property_team: finance, actor_kind: user}`

// TestWhatProvidersEnforce holds the table of docs/trust.md to what is
// generated.
func TestWhatProvidersEnforce(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| the rule names |")
	for _, p := range spokens {
		b.WriteString(" " + p.name + " |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(spokens)) + "\n")
	whole := make([]printedWall, len(spokens))
	for i, p := range spokens {
		whole[i], _ = p.generate(t, "", wholeRule)
	}
	for _, row := range enforced {
		b.WriteString("| " + row.row + " |")
		for i, p := range spokens {
			b.WriteString(" " + p.enforces(t, whole[i], row.claim, row.rules) + " |")
		}
		b.WriteString("\n")
	}
	for _, row := range []struct{ name, deny, rules string }{
		{"rules that differ in two claims", "", `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: production, ref: refs/heads/main}, ` +
			`{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: staging, ref: refs/heads/dev}`},
		{"`deny`", `deny: [{actor_id: "1"}]`, `{repository: acme/analytics, repository_id: "487920697", repository_owner_id: "9919", environment: production, ref: refs/heads/main}`},
	} {
		b.WriteString("| " + row.name + " |")
		for _, p := range spokens {
			b.WriteString(" " + p.more(t, row.deny, row.rules) + " |")
		}
		b.WriteString("\n")
	}
	golden.Table(t, "trust.md", "enforced", b.String())
}

// generate runs the command for rules at the provider.
func (p spoken) generate(t *testing.T, deny, rules string) (printedWall, bool) {
	t.Helper()
	return trustOf(t, p.name, p.policy(deny, rules), map[string]string{"target": "prod", "flags": "--owner-id acme=9919"})
}

// policy is a policy with rules for the provider.
func (p spoken) policy(deny, rules string) string {
	text := "version: 1\n"
	if strings.Contains(rules, "identity: cluster") {
		text += "identities: {cluster: {kind: kubernetes, issuer: https://container.googleapis.com/v1/projects/acme/locations/eu/clusters/dbt}}\n"
	}
	if deny != "" {
		text += deny + "\n"
	}
	text += "targets:\n  prod:\n"
	if p.dbt != "" {
		text += "    dbt: " + p.dbt + "\n"
	}
	return text + "    exchange: " + p.exchange + "\n    allow: [" + rules + "]\n"
}

// lists reports whether the provider refuses the rules because it compares
// whole subjects, so that wildcards must be written out.
func (p spoken) lists(t *testing.T, rules string) bool {
	t.Helper()
	_, _, stderr := runTrust(t, "trust", "generate", "--policy", p.policy("", rules))
	return strings.Contains(stderr, "compares whole subjects")
}

// enforces says whether the provider holds a token to a claim of a rule: of one
// that names all, or of others.
func (p spoken) enforces(t *testing.T, w printedWall, claim, rules string) string {
	if rules != "" {
		if p.lists(t, rules) {
			return "listed"
		}
		w, _ = p.generate(t, "", rules)
	}
	if len(w.Rules) == 0 {
		return ""
	}
	r := w.Rules[0]
	if slices.Contains(r.Enforced, claim) {
		return "yes"
	}
	for _, g := range r.WiderBy {
		if g.Claim == claim && strings.Contains(g.ClosesWith, "--sub-template") {
			return "`sub`"
		}
	}
	for _, g := range r.Narrower {
		if g.Claim == claim {
			return "listed"
		}
	}
	return "no"
}

// more says whether the provider can say what is beyond one rule: nothing more
// is wider than by one of the rules.
func (p spoken) more(t *testing.T, deny, rules string) string {
	first, _, _ := strings.Cut(rules, ", {")
	one, ok := p.generate(t, "", first)
	all, both := p.generate(t, deny, rules)
	if !ok || !both {
		return ""
	}
	var alone []string
	for _, g := range one.Rules[0].WiderBy {
		alone = append(alone, g.Claim)
	}
	for _, r := range all.Rules {
		for _, g := range r.WiderBy {
			if !slices.Contains(alone, g.Claim) {
				return "no"
			}
		}
	}
	return "yes"
}

// findingRow is a row of the list of findings.
var findingRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([a-z, ]+) \\| .+ \\|$")

// TestTrustFindings holds the list of findings to the code: each name, with the
// severities that it has.
func TestTrustFindings(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("trust.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Findings\n")
	table, _, _ = strings.Cut(table, "\n## ")
	listed, names := map[string]string{}, []string{}
	for _, m := range findingRow.FindAllStringSubmatch(table, -1) {
		listed[m[1]] = m[2]
		names = append(names, m[1])
	}
	if !slices.IsSorted(names) {
		t.Errorf("the findings are not sorted by name: %q", names)
	}
	inCode := findingsInCode(t)
	if len(inCode) < 20 {
		t.Errorf("found %d names in the code, want at least 20", len(inCode))
	}
	for _, name := range slices.Sorted(maps.Keys(inCode)) {
		if want := strings.Join(inCode[name], ", "); listed[name] != want {
			t.Errorf("docs/trust.md has the finding %q with severity %q, the code with %q", name, listed[name], want)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/trust.md has the finding %q, which the code does not have", name)
	}
}

// findingsInCode returns the severities of each finding: a name and a severity
// follow each other wherever one is made.
func findingsInCode(t *testing.T) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob("../internal/trust/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{string(trust.Wider): {"error"}, string(trust.Narrower): {"warning"}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var parts []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				parts = n.Args
			case *ast.CompositeLit:
				parts = n.Elts
			}
			call, _ := n.(*ast.CallExpr)
			makes := call == nil || called(call) == "add" || called(call) == "find"
			for i := 1; i < len(parts) && makes; i++ {
				name, severity := literal(parts[i-1]), literal(parts[i])
				if isSeverity(name) { // some write it first
					name, severity = severity, name
				}
				_, varies := parts[i].(*ast.Ident)
				switch {
				case isSeverity(severity) && oneName.MatchString(name) && !slices.Contains(found[name], severity):
					found[name] = append(found[name], severity)
					slices.SortFunc(found[name], func(a, b string) int {
						return strings.Index("error warning note", a) - strings.Index("error warning note", b)
					})
				case varies && call != nil && findingName.MatchString(name):
					found[name] = []string{"error", "warning"} // it depends
				}
			}
			return true
		})
	}
	return found
}

// oneName is what a finding may be called.
var oneName = regexp.MustCompile(`^[a-z]+(?:-[a-z]+)*$`)

func isSeverity(text string) bool { return text == "error" || text == "warning" || text == "note" }

// literal is a text in the code, also as the value of a field.
func literal(e ast.Expr) string {
	if pair, ok := e.(*ast.KeyValueExpr); ok {
		e = pair.Value
	}
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(l.Value)
	return text
}

// TestTrustPageNamesEveryExport: the page has the commands by which errors ask
// for a file.
func TestTrustPageNamesEveryExport(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("trust.md")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("../internal/trust/*.go")
	if err != nil {
		t.Fatal(err)
	}
	wanted := regexp.MustCompile("`([a-z]+ [a-z-]+ [^`]+)`(?: or `([^`]+)`)? prints")
	count := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code := regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(string(text), "")
		for _, m := range wanted.FindAllStringSubmatch(code, -1) {
			for _, line := range m[1:] {
				words := strings.Fields(line)
				if len(words) < 3 {
					continue
				}
				count++
				if n := min(len(words), 4); !bytes.Contains(page, []byte("`"+strings.Join(words[:n], " "))) {
					t.Errorf("docs/trust.md does not show the export by `%s` of %s", line, path)
				}
			}
		}
	}
	if count < 8 {
		t.Errorf("found %d commands, want at least 8", count)
	}
}

// TestTrustPageJSON: the examples have the form of the schemas.
func TestTrustPageJSON(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("trust.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples []string
	for _, m := range block.FindAllStringSubmatch(string(page), -1) {
		if m[1] == "json" {
			examples = append(examples, m[2])
		}
	}
	names := []string{"trust-generate.schema.json", "trust-check.schema.json"}
	if len(examples) != len(names) {
		t.Fatalf("the page has %d examples of JSON, want %d", len(examples), len(names))
	}
	for i, name := range names {
		schema, err := jsonschema.NewCompiler().Compile(name)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(examples[i]))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Error(err)
		}
	}
}
