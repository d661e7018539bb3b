package docs

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeIsShort: what a newcomer reads first fits on a few screens.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	if n := strings.Count(pages(t)["../README.md"], "\n"); n > 150 {
		t.Errorf("README.md has %d lines, want at most 150: move the rest to a page of docs/", n)
	}
}

// TestReadmeCommands: the two commands that everyone may rely on.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"\ngo run ./demo ", "\ngo test ./... "} {
		if !strings.Contains(pages(t)["../README.md"], want) {
			t.Errorf("README.md lacks the command %q", strings.TrimSpace(want))
		}
	}
}

// TestStatusLine: the README's first words on what was run say what docs/evidence.md says.
func TestStatusLine(t *testing.T) {
	t.Parallel()
	evidence := pages(t)["../docs/evidence.md"]
	line := regexp.MustCompile(`(?m)^> \*\*Status, .*$`).FindString(pages(t)["../README.md"])
	if line == "" {
		t.Fatal("README.md has no status line")
	}
	for _, tt := range []struct{ status, evidence string }{
		{"Run on real clouds: nothing yet.", "No test connects to a cloud"},
		{"Run on GitHub's own runners: not yet.", "or runs on GitHub's own runners"},
		{"for the clouds against stand-ins", "against a stand-in that refuses what the real service refuses"},
	} {
		if strings.Contains(line, tt.status) != strings.Contains(evidence, tt.evidence) {
			t.Errorf("README.md says %q if and only if docs/evidence.md says %q", tt.status, tt.evidence)
		}
	}
	servers := regexp.MustCompile(`against real servers \(([^)]+)\)`).FindStringSubmatch(line)
	if servers == nil {
		t.Fatal("the status line names no real servers")
	}
	for _, name := range strings.Split(servers[1], ", ") {
		if !regexp.MustCompile(`(?m)^\| .* \| real servers?(?::| \|) .*` + name).MatchString(evidence) {
			t.Errorf("the status line names %s, of which docs/evidence.md has no proof with a real server", name)
		}
	}
}

// terms are words of the field that a reader may not know.
var terms = words("adapter attestation audience binding broker claims credential denial environment event exchange " +
	"federation hint issuer lease loopback mask matcher OIDC output pair pin platform policy profile provenance provider " +
	"proxy role route rule runner session shim stand-in subject target trust wall warehouse witness")

// phrases are such terms of several words.
var phrases = []string{
	"audit record", "customised subject", "dry run", "guard rail", "ID token", "request token", "reusable workflow",
	"service account", "service principal", "slim CI", "workload identity",
}

// TestGlossary: the glossary has each term that a page uses, and each of its words is used on a page.
func TestGlossary(t *testing.T) {
	t.Parallel()
	all := pages(t)
	glossary := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \| [^-]`).FindAllStringSubmatch(all["../docs/concepts/glossary.md"], -1) {
		for word := range strings.SplitSeq(m[1], ", ") {
			glossary[word] = word != "word"
		}
	}
	delete(glossary, "word")
	var text strings.Builder
	for path, page := range all {
		if path != "../docs/concepts/glossary.md" && path != "../ARCHITECTURE.md" {
			text.WriteString(page)
		}
	}
	used := func(term string) bool {
		return regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(term) + `s?\b`).MatchString(text.String())
	}
	for _, term := range append(slices.Collect(maps.Keys(terms)), phrases...) {
		if used(term) && !glossary[term] {
			t.Errorf("pages use the term %q, which docs/concepts/glossary.md lacks", term)
		}
	}
	for path, names := range acronyms(all) {
		for _, name := range names {
			if !known[name] && !glossary[name] {
				t.Errorf("%s uses %s: explain it in docs/concepts/glossary.md, or list it in `known` here if every engineer knows it", path, name)
			}
		}
	}
	for term := range glossary {
		if !used(term) {
			t.Errorf("docs/concepts/glossary.md has %q, which no page uses", term)
		}
	}
}

// known are acronyms that every engineer knows, and names of files, values and programs.
var known = words("SSH ACCOUNT ACCOUNTLOCATOR API AI ARCHITECTURE AWS BUCKET CHANGELOG CI CLI CONTAINER CONTRIBUTING COPY CR CRLF CSV DNS EC FILE GB GET PB TB GPL GRANT HTML HTTP " +
	"HTTPS ID JSON LF LICENSE LS MB NAME NEL OWNER PATH PLUS POSIX PREFIX PROVIDER PS PUT README REPOSITORY REST RFC ROLE RSA " +
	"SCHEMATA SECURITY SHA SIGHUP SIGINT SIGKILL SIGTERM SQL SQLSTATE TARGET TCP TLS TRANSFORMER TYPE URI URL UTC UTF XML YAML")

// technical are pages for those who change the code, and pages that quote programs.
var technical = words("../ARCHITECTURE.md ../CHANGELOG.md ../CONTRIBUTING.md ../docs/evidence.md ../docs/performance.md " +
	"../docs/dependencies.md ../docs/adding-a-warehouse.md ../docs/command.md ../docs/troubleshooting.md ../docs/concepts/glossary.md")

// acronyms returns the words in capital letters of each page, without code.
func acronyms(all map[string]string) map[string][]string {
	code := regexp.MustCompile("(?s)```.*?```|``.+?``|`[^`]*`|<!--.*?-->")
	capitals := regexp.MustCompile(`\b[A-Z]{2,}\b`)
	found := map[string][]string{}
	for path, text := range all {
		if technical[path] {
			continue
		}
		names := capitals.FindAllString(code.ReplaceAllString(text, ""), -1)
		slices.Sort(names)
		found[path] = slices.Compact(names)
	}
	return found
}
