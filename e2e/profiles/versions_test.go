//go:build e2e

package profiles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// A set is versions of dbt and its adapters that go together: those of a list of
// requirements in the folder versions. A set "-before" has the last versions that
// lack something, and "-since" the first ones that have it.
const (
	newestSet = "newest" // that of all end-to-end tests
	engineSet = "engine" // dbt's second engine
)

// few are the sets that are small: every run has them. A nightly one has all.
var few = []string{"1.9-before", "1.9-since", newestSet}

// A setResult is what loading the profiles showed; docs/versions.md is made of it.
type setResult struct {
	Set      string                `json:"set"`
	Versions map[string]string     `json:"versions"` // by package: dbt-core, and the adapters
	Pairs    map[string]pairResult `json:"pairs"`    // by type and provider
}

type pairResult struct {
	Fails string `json:"fails,omitempty"` // why it does not work, "" if it does
	Needs string `json:"needs,omitempty"` // a key with which it does
}

const resultsFile = "versions/results.json"

// TestVersions loads the profile of every pair in each set of versions, and
// holds what the product says of the installed adapter to what loading shows.
func TestVersions(t *testing.T) {
	t.Parallel()
	all := os.Getenv("OIDC_DBT_VERSIONS") == "all"
	var recorded, got []setResult
	text, err := os.ReadFile(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	cases := pairCases(t)
	names := setNames(t)
	got = make([]setResult, len(names))
	for i, name := range names {
		at := slices.IndexFunc(recorded, func(r setResult) bool { return r.Set == name })
		if !all && !slices.Contains(few, name) && at >= 0 {
			got[i] = recorded[at]
			continue
		}
		// One after the other: each is a few hundred megabytes, and two processors' work.
		t.Run(name, func(t *testing.T) {
			if name == engineSet {
				got[i] = loadWithEngine(t, cases)
			} else {
				got[i] = loadSet(t, name, cases)
			}
		})
	}
	if t.Failed() {
		return
	}
	out, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, resultsFile, string(out)+"\n")
}

func setNames(t *testing.T) (names []string) {
	t.Helper()
	lists, err := filepath.Glob("versions/*.txt")
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists of requirements: %v", err)
	}
	for _, path := range lists {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".txt"))
	}
	return append(names, newestSet, engineSet)
}

// ofUsers are cases of more than a pair's keys.
var ofUsers = []string{"duckdb-secrets", "words", "redshift"}

// pairCases returns one case for each pair.
func pairCases(t *testing.T) (cases []goldenCase) {
	t.Helper()
	have := map[string]bool{}
	for _, c := range goldenCases(t) {
		if c.block == nil || slices.Contains(ofUsers, c.name) {
			continue
		}
		if pair := typeOf(t, c) + " " + c.provider; have[pair] {
			t.Fatalf("there are two cases of %s", pair)
		} else {
			have[pair] = true
		}
		cases = append(cases, c)
	}
	for name, spec := range adapter.Specs() {
		for _, provider := range spec.Providers {
			if !have[name+" "+provider] {
				t.Errorf("there is no case of %s %s", name, provider)
			}
		}
	}
	return cases
}

func typeOf(t *testing.T, c goldenCase) string {
	t.Helper()
	var block struct{ Type string }
	if err := yaml.Unmarshal(c.block, &block); err != nil {
		t.Fatal(err)
	}
	return block.Type
}

// environment returns the environment of a set, and the versions of dbt-core and
// the adapters in it. The lists have hashes for Python 3.12 only, the newest that
// dbt-core 1.8 runs on.
func environment(t *testing.T, name string) (pyenv.Python, map[string]string) {
	t.Helper()
	path := filepath.Join("versions", name+".txt")
	if name == newestSet {
		path = "../requirements.txt"
	}
	requirements, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range distribution.FindAllStringSubmatch(string(requirements), -1) {
		name := strings.TrimSuffix(m[1], "-community")
		if name == "core" || slices.Contains(adapter.Types(), name) {
			versions["dbt-"+name] = m[2]
		}
	}
	if name == newestSet {
		return setup.Python(t), versions
	}
	p, err := pyenv.EnsureOn(t.Context(), 12, "versions-"+name, requirements, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return p, versions
}

var distribution = regexp.MustCompile(`(?m)^dbt-([a-z-]+)(?:\[.*\])?==([0-9.]+)`)

// needed are keys that older adapters require of the user's output, and newer
// ones do not.
var needed = map[string][2]string{
	"fabric":    {"driver", "ODBC Driver 18 for SQL Server"},
	"snowflake": {"user", "DBT"},
	"sqlserver": {"driver", "ODBC Driver 18 for SQL Server"},
}

func loadSet(t *testing.T, name string, cases []goldenCase) setResult {
	p, versions := environment(t, name)
	r := setResult{name, versions, map[string]pairResult{}}
	// A small set has some of the adapters.
	here := slices.DeleteFunc(slices.Clone(cases), func(c goldenCase) bool { return r.Versions["dbt-"+typeOf(t, c)] == "" })
	var tried []goldenCase
	for _, c := range here {
		tried = append(tried, c, withNeeded(t, c))
	}
	results := load(t, p, tried)
	for i, c := range here {
		pair := typeOf(t, c) + " " + c.provider
		found := pairResult{Fails: verdict(t, pair, results[2*i])}
		if further := verdict(t, pair, results[2*i+1]); found.Fails != "" && further == "" {
			found.Needs = needed[typeOf(t, c)][0]
		} else if found.Fails != "" {
			found.Fails = further // the key is not all that is missing
		}
		r.Pairs[pair] = found
		checkProduct(t, p, c, found, r.Versions["dbt-"+typeOf(t, c)])
	}
	return r
}

// withNeeded returns the case with a further key in the output.
func withNeeded(t *testing.T, c goldenCase) goldenCase {
	t.Helper()
	key, ok := needed[typeOf(t, c)]
	text, err := os.ReadFile(c.After)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("\n      %s: %q\n", key[0], key[1])
	if !ok || bytes.Contains(text, []byte("\n      "+key[0]+":")) {
		return c
	}
	head, tail, _ := strings.Cut(string(text), "\n    prod:\n")
	c.After = setup.Write(t, t.TempDir(), "profiles.yml", head+"\n    prod:"+line+tail)
	return c
}

// harmless are keys that older versions ignore, and that are no login: tags of
// queries, when a token expires (dbt asks for none), and what the user chose.
var harmless = []string{"query_tags", "query_group", "access_token_expires_on", "backend"}

// verdict returns what is wrong with a loaded profile, "" for nothing.
func verdict(t *testing.T, pair string, got loaded) string {
	t.Helper()
	if got.Error != "" {
		lines := strings.Split(strings.TrimSpace(got.Error), "\n")
		_, what, invalid := strings.Cut(lines[len(lines)-1], " invalid: ")
		if !invalid {
			what = strings.TrimSpace(lines[len(lines)-1])
		}
		return "dbt says: " + strings.ReplaceAll(what, "'", "`")
	}
	for _, o := range got.Outputs {
		unknown := slices.DeleteFunc(slices.Clone(o.Unknown), func(key string) bool { return slices.Contains(harmless, key) })
		if len(unknown) > 0 {
			return "it ignores `" + strings.Join(unknown, "`, `") + "`"
		}
		without := slices.DeleteFunc(differing(loginOf(t, pair), o.Login), func(key string) bool {
			return key == "tags" && slices.Contains(o.Unknown, "query_tags")
		})
		if len(without) > 0 {
			return "it logs in with another `" + strings.Join(without, "`, `") + "`"
		}
	}
	return ""
}

// noVariables is an environment in which nothing leads Python elsewhere.
func noVariables(string) string { return "" }

// checkProduct: where a version fails, the product says so before, and where it
// works it is silent.
func checkProduct(t *testing.T, p pyenv.Python, c goldenCase, found pairResult, version string) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(c.block, &doc); err != nil {
		t.Fatal(err)
	}
	block, dbtType := doc.Content[0], typeOf(t, c)
	old, tooOld := adapter.CheckInstalled(noVariables, p.Program("dbt"), dbtType, c.provider, false, block)
	again := dbtType == "trino" && version == "1.8.4" // lacks what 1.8.3 has, and dbt says so
	if (found.Fails != "") != tooOld && !again {
		t.Errorf("%s × %s with %s: the product says %+v, and loading %q", dbtType, c.provider, version, old, found.Fails)
	}
	if tooOld && old.Version != version {
		t.Errorf("%s × %s: the product finds %s, want %s", dbtType, c.provider, old.Version, version)
	}
	if key := needed[dbtType]; found.Needs != "" {
		block.Content = append(block.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key[0]}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key[1]})
		if old, tooOld := adapter.CheckInstalled(noVariables, p.Program("dbt"), dbtType, c.provider, false, block); tooOld {
			t.Errorf("%s × %s with %s and %s: the product says %+v, and loading nothing", dbtType, c.provider, version, key[0], old)
		}
	}
}

var (
	engineError   = regexp.MustCompile(`(?s)(?:error was returned:|Failed to parse profiles\.yml:)\s*(.+?)(?:, expected one of|\n| Check your| at line)`)
	engineMissing = regexp.MustCompile(`not yet implemented: \w+`)
)

// loadWithEngine has dbt's second engine look at each profile: it refuses a key
// or a login before it looks for the driver of the warehouse, which is not there.
func loadWithEngine(t *testing.T, cases []goldenCase) setResult {
	requirements, err := os.ReadFile("../engine2/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := setup.Engine(t)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "VALUE_TOKEN", "token_type": "Bearer", "expires_in": 300}`)
	}))
	t.Cleanup(tokens.Close)
	r := setResult{engineSet, map[string]string{}, map[string]pairResult{}}
	if m := regexp.MustCompile(`(?m)^dbt==(\S+)`).FindSubmatch(requirements); m != nil {
		r.Versions["dbt"] = string(m[1])
	}
	for _, c := range cases {
		r.Pairs[typeOf(t, c)+" "+c.provider] = pairResult{Fails: engineVerdict(t, p, c, tokens.URL)}
	}
	return r
}

func engineVerdict(t *testing.T, p pyenv.Python, c goldenCase, tokens string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(c.After)
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, dir, "profiles.yml", strings.ReplaceAll(string(text), "http://127.0.0.1:20001", tokens))
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nversion: '1.0'\nprofile: "+c.Profiles[0]+"\nflags: {send_anonymous_usage_stats: false}\n")
	cmd := exec.CommandContext(t.Context(), p.Program("dbt"), "debug", "--profiles-dir", dir)
	cmd.Dir = dir
	// Nothing is behind the proxy: a driver is not downloaded.
	cmd.Env = append(append(p.Environ(), stepVariables(t)...), "DBT_ALLOW_EXPERIMENTAL_ADAPTERS=true", "NO_COLOR=1", "XDG_CACHE_HOME="+dir,
		"HTTPS_PROXY=http://127.0.0.1:9", "https_proxy=http://127.0.0.1:9", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	out, _ := cmd.CombinedOutput()
	if m := engineMissing.Find(out); m != nil {
		return "dbt says: " + string(m)
	}
	m := engineError.FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s: dbt said neither that it lacks a driver nor what is wrong:\n%s", c.name, out)
	}
	what := strings.TrimSpace(string(m[1]))
	if strings.HasPrefix(what, "HTTP error:") || strings.HasPrefix(what, "Failed to load `duckdb` driver") {
		return ""
	}
	return "dbt says: " + strings.TrimPrefix(what, "Configuration Error: ")
}
