// Package docs holds the documentation to the code.
package docs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/action"
	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// pages returns every Markdown file by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(path)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("found %d pages only", len(found))
	}
	return found
}

var block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns the code blocks of YAML on a page.
func blocks(text string) (list []string) {
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if m[1] == "yaml" {
			list = append(list, m[2])
		}
	}
	return list
}

func TestPoliciesParse(t *testing.T) {
	t.Parallel()
	count := 0
	for path, text := range pages(t) {
		for _, b := range blocks(text) {
			if !strings.HasPrefix(b, "version: 1\n") {
				continue
			}
			count++
			if _, err := policy.Parse(path, []byte(b), job.Catalog()); err != nil {
				t.Error(err)
			}
		}
	}
	if count < 6 {
		t.Errorf("found %d policies, want at least 6", count)
	}
}

// TestStepsUseDeclaredInputs reads every step that uses the action.
func TestStepsUseDeclaredInputs(t *testing.T) {
	t.Parallel()
	var declared []string
	for _, i := range action.Inputs() {
		declared = append(declared, i.Name)
	}
	var outputs []string
	for _, o := range action.Outputs() {
		outputs = append(outputs, o.Name)
	}
	used := regexp.MustCompile(`steps\.(\w+)\.outputs\.([\w-]+)`)
	count := 0
	for path, text := range pages(t) {
		for _, b := range blocks(text) {
			var doc yaml.Node
			if err := yaml.Load([]byte(b), &doc); err != nil {
				t.Errorf("%s: a block is not YAML: %v", path, err)
				continue
			}
			scripts := map[string]bool{} // steps that write outputs of their own
			walk(&doc, func(step map[string]*yaml.Node) {
				if step["id"] != nil && (step["run"] != nil || isOwn(step["uses"])) {
					scripts[step["id"].Value] = true
				}
			})
			for _, m := range used.FindAllStringSubmatch(b, -1) {
				if !scripts[m[1]] && !slices.Contains(outputs, m[2]) {
					t.Errorf("%s uses the output %q, which is not declared", path, m[2])
				}
			}
			walk(&doc, func(step map[string]*yaml.Node) {
				uses := step["uses"]
				if uses == nil || !strings.HasPrefix(uses.Value, "oidc-dbt/oidc-dbt@") {
					return
				}
				count++
				with := step["with"]
				for i := 0; with != nil && i+1 < len(with.Content); i += 2 {
					if name := with.Content[i].Value; !slices.Contains(declared, name) {
						t.Errorf("%s uses the input %q, which is not declared", path, name)
					}
				}
			})
		}
	}
	if count < 4 {
		t.Errorf("found %d steps that use the action, want at least 4", count)
	}
}

// isOwn reports whether a step uses an action of its workflow's own repository.
func isOwn(uses *yaml.Node) bool { return uses != nil && strings.HasPrefix(uses.Value, "$/") }

func walk(n *yaml.Node, visit func(map[string]*yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		m := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = n.Content[i+1]
		}
		visit(m)
	}
	for _, c := range n.Content {
		walk(c, visit)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]+))?\)`)
	all := pages(t)
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := path
			if m[1] != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), m[1]))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %q, which is not there", path, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(all[to]), m[2]) {
				t.Errorf("%s links to %q, which has no heading %q", path, to, m[2])
			}
		}
	}
}

// anchors returns the names that GitHub gives to a page's headings.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestEvidenceNamesWhatIsThere: each place that a proof names, and each test
// behind it. A package of tests is no proof while it has none.
func TestEvidenceNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	var proofs strings.Builder
	for line := range strings.Lines(pages(t)["../docs/evidence.md"]) {
		if cells := strings.Split(line, " | "); len(cells) >= 3 {
			proofs.WriteString(cells[len(cells)-1])
		}
	}
	if tests := checkPlaces(t, "docs/evidence.md", proofs.String()); tests < 20 {
		t.Errorf("docs/evidence.md names %d tests, want at least 20", tests)
	}
}

// TestAddingAWarehouseNamesWhatIsThere: with an adapter and a provider of
// today in the place of TYPE and PROVIDER, every file and test is there.
func TestAddingAWarehouseNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	text := pages(t)["../docs/adding-a-warehouse.md"]
	text = strings.NewReplacer("TYPE", "duckdb", "PROVIDER", "gcp").Replace(text)
	if tests := checkPlaces(t, "docs/adding-a-warehouse.md", text); tests < 15 {
		t.Errorf("docs/adding-a-warehouse.md names %d tests, want at least 15", tests)
	}
}

// TestMaintainersPagesNameWhatIsThere: files, folders and tests that a
// maintainer or a reviewer is sent to.
func TestMaintainersPagesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", ".github/pull_request_template.md", "docs/concepts/security-review.md"} {
		text, ok := pages(t)["../"+page]
		if !ok {
			t.Errorf("%s is not there", page)
		}
		checkPlaces(t, page, text)
	}
}

var (
	place = regexp.MustCompile("`([^`\\s]+)`((?: Test\\w+)*)")
	roots = regexp.MustCompile(`^(?:\.|\w+\.(?:go|md|js)|action\.yml|policy\.schema\.json|go\.mod|\.golangci\.yml|(?:e2e|internal|demo|bench|docs|testdata|\.ci|\.github)(?:/[\w./-]*)?)$`)
)

// checkPlaces checks that the files and folders which a page names in
// backticks are there, and that a folder has the tests named behind it. It
// returns how many tests there are.
func checkPlaces(t *testing.T, page, text string) (tests int) {
	t.Helper()
	for _, m := range place.FindAllStringSubmatch(text, -1) {
		if !roots.MatchString(m[1]) {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("%s names %q, which is not there", page, m[1])
		}
		files, err := filepath.Glob(filepath.Join("..", m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code []byte
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, text...)
		}
		for _, name := range strings.Fields(m[2]) {
			tests++
			if !bytes.Contains(code, []byte("\nfunc "+name+"(t *testing.T) {")) {
				t.Errorf("%s names the test %s, which %s does not have", page, name, m[1])
			}
		}
	}
	return tests
}

// TestFirstWorkflow: the workflow that people copy is the safe one.
func TestFirstWorkflow(t *testing.T) {
	t.Parallel()
	src := blocks(pages(t)["../README.md"])[0]
	if n := strings.Count(src, "\n"); n > 20 {
		t.Errorf("it has %d lines, want at most 20", n)
	}
	type step struct {
		Uses string
		With map[string]any
	}
	var workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Environment string
			Permissions map[string]string
			Steps       []step
		}
	}
	if err := yaml.Load([]byte(src), &workflow); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(src, "\npermissions: {}\n") || len(workflow.Jobs) != 1 {
		t.Errorf("want no permissions at the top and one job:\n%s", src)
	}
	pinned := regexp.MustCompile(`(?m)uses: [\w./-]+@[0-9a-f]{40} # \S`)
	for name, job := range workflow.Jobs {
		if job.Environment == "" || !maps.Equal(job.Permissions, map[string]string{"contents": "read", "id-token": "write"}) {
			t.Errorf("job %q has environment %q and permissions %q", name, job.Environment, job.Permissions)
		}
		uses := 0
		for i, s := range job.Steps {
			if s.Uses != "" {
				uses++
			}
			if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
				t.Error("checkout leaves its credentials behind")
			}
			if strings.HasPrefix(s.Uses, "oidc-dbt/oidc-dbt@") != (i == len(job.Steps)-1) {
				t.Error("want the action as the last step, and only there")
			}
		}
		if n := len(pinned.FindAllString(src, -1)); n != uses {
			t.Errorf("%d of %d actions are pinned by commit, with a comment", n, uses)
		}
	}
}

func TestExitStatuses(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(pages(t)["../docs/reference.md"], "## Exit status\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for class := fault.Class(0); class <= fault.Found; class++ {
		if !strings.Contains(table, fmt.Sprintf("\n| %d | ", class)) {
			t.Errorf("docs/reference.md does not say what status %d means", class)
		}
	}
	if rows := len(regexp.MustCompile(`(?m)^\| \d+ \|`).FindAllString(table, -1)); rows != int(fault.Found)+1 {
		t.Errorf("docs/reference.md has %d statuses, the code %d", rows, fault.Found+1)
	}
}

// TestHosts: every host that the pages' own policies lead to is in the table of docs/reference.md.
func TestHosts(t *testing.T) {
	t.Parallel()
	all := pages(t)
	_, table, _ := strings.Cut(all["../docs/reference.md"], "## Hosts that are contacted\n")
	table, _, _ = strings.Cut(table, "\n## ")
	seen := map[string]bool{}
	for path, text := range all {
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
				seen[target.Provider()] = true
				_, row, ok := strings.Cut(table, "\n| `"+target.Provider()+"` | ")
				row, _, _ = strings.Cut(row, "\n")
				if !ok {
					t.Errorf("docs/reference.md has no hosts of provider %q", target.Provider())
				}
				var w credential.Warehouse
				if dbt := target.DBT(); dbt.Block != nil {
					if w, err = adapter.Warehouse(dbt.Type, target.Provider(), dbt.Block); err != nil {
						t.Fatal(err)
					}
				}
				for _, endpoint := range provider.Endpoints(target.Provider(), target.Exchange(), w) {
					u, err := url.Parse(endpoint)
					if err != nil {
						t.Fatal(err)
					}
					host := u.Host
					if r := target.Exchange().Get("region"); r != "" {
						host = strings.ReplaceAll(host, r, "REGION")
					}
					if target.Provider() == "login" { // the region is the warehouse's host's
						host = strings.ReplaceAll(host, "eu-central-1", "REGION")
					}
					if !strings.Contains(row, "`"+host+"`") {
						t.Errorf("docs/reference.md does not name the host %s of provider %q", host, target.Provider())
					}
				}
			}
		}
	}
	if len(seen) != len(provider.Names()) {
		t.Errorf("the pages have policies for %v, want all of %q", seen, provider.Names())
	}
}

// TestKeysOfProviders holds the tables of docs/policy.md to the code.
func TestKeysOfProviders(t *testing.T) {
	t.Parallel()
	for _, name := range provider.Names() {
		golden.Table(t, "policy.md", name, keyTable(name, provider.Specs()[name]))
	}
}

// TestRemovedVariables holds the table of docs/variables.md to the code.
func TestRemovedVariables(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| credential or route | variables |\n| --- | --- |\n")
	removed := process.Outranking()
	for _, kind := range slices.Sorted(maps.Keys(removed)) {
		names := slices.Sorted(slices.Values(removed[kind]))
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", kind, strings.Join(names, "`, `"))
	}
	golden.Table(t, "variables.md", "removed", b.String())
}

func keyTable(name string, spec policy.Provider) string {
	var b strings.Builder
	b.WriteString("| key | | meaning |\n| --- | --- | --- |\n")
	var rows func(prefix string, keys []policy.Key)
	rows = func(prefix string, keys []policy.Key) {
		for _, k := range keys {
			var notes []string
			for _, n := range []struct {
				is   bool
				word string
			}{{k.Required, "required"}, {k.List, "list"}, {k.Names != nil, "mapping"}, {k.Bool, "true or false"}, {k.Claims, "may hold `${claim}`"}} {
				if n.is {
					notes = append(notes, n.word)
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", prefix+k.Name, strings.Join(notes, ", "), k.Doc)
			rows(prefix+k.Name+".", k.Keys)
		}
	}
	rows("", spec.Keys)
	b.WriteString("\n" + lifetimes("`lifetime`", spec.Lifetimes))
	for _, dbtType := range adapter.Types() {
		if l, ok := spec.Logins[adapter.Specs()[dbtType].Logins[name]]; ok {
			b.WriteString("\n" + lifetimes("`lifetime` at type "+dbtType, l))
		}
	}
	return b.String()
}

func lifetimes(what string, l *policy.Lifetimes) string {
	if l == nil {
		return what + " is an error: this provider cannot be asked for one.\n"
	}
	return fmt.Sprintf("%s: %s to %s, %s when it is left out.\n", what, short(l.Min), short(l.Max), short(l.Default))
}

// short writes 15m0s as a policy would.
func short(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// TestAuditFields: the page names fields that records have.
func TestAuditFields(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../internal/audit/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no records: %v", err)
	}
	fields := map[string]bool{}
	var collect func(path string, v any)
	collect = func(path string, v any) {
		fields[path] = true
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				collect(strings.TrimPrefix(path+"."+k, "."), e)
			}
		case []any:
			for _, e := range v {
				collect(path, e)
			}
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var record any
		if err := json.Unmarshal(text, &record); err != nil {
			t.Fatal(err)
		}
		collect("", record)
	}
	rows := regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(pages(t)["../docs/audit.md"], -1)
	if len(rows) < 10 {
		t.Errorf("docs/audit.md has %d rows of fields", len(rows))
	}
	for _, row := range rows {
		for _, m := range regexp.MustCompile("`([\\w.]+)`").FindAllStringSubmatch(row[1], -1) {
			if !fields[m[1]] {
				t.Errorf("docs/audit.md names the field %q, which no record has", m[1])
			}
		}
	}
}

func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := pages(t)["../docs/dependencies.md"]
	direct := 0
	for lines := bufio.NewScanner(bytes.NewReader(mod)); lines.Scan(); {
		line := lines.Text()
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") || len(fields) < 2 || strings.Contains(line, "// indirect") {
			continue
		}
		direct++
		if !strings.Contains(text, "| `"+fields[0]+"` |") {
			t.Errorf("docs/dependencies.md gives no reason for %s", fields[0])
		}
	}
	if rows := strings.Count(text, "| `"); rows != direct {
		t.Errorf("docs/dependencies.md has %d rows, go.mod has %d direct dependencies", rows, direct)
	}
}

// TestEveryPageIsReachable: from the README, over links.
func TestEveryPageIsReachable(t *testing.T) {
	t.Parallel()
	all := pages(t)
	link := regexp.MustCompile(`\]\(([^)#]+\.md)`)
	reached := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		if text, ok := all[path]; ok && !reached[path] {
			reached[path] = true
			for _, m := range link.FindAllStringSubmatch(text, -1) {
				visit(filepath.ToSlash(filepath.Join(filepath.Dir(path), m[1])))
			}
		}
	}
	visit("../README.md")
	for path := range all {
		if !reached[path] && !strings.HasPrefix(path, "../.github/") {
			t.Errorf("no link leads from README.md to %s: give it a line in docs/README.md", strings.TrimPrefix(path, "../"))
		}
	}
}
