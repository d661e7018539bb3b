package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
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
			return "<!-- trust:start " + m[1] + " -->\n" + trustPart(t, path, text, m[1]) + "<!-- trust:end -->"
		})
		if n := strings.Count(text, "<!-- trust:start "); n != strings.Count(text, "<!-- trust:end -->") {
			t.Errorf("%s has %d starts and another number of ends", path, n)
		}
		golden.Compare(t, path, got)
	}
	if count < 20 {
		t.Errorf("found %d parts that are generated, want at least 20", count)
	}
}

// trustPart makes one part of a page.
func trustPart(t *testing.T, path, page, marker string) string {
	t.Helper()
	a := map[string]string{"target": "prod", "policy": "1"}
	for _, m := range attribute.FindAllStringSubmatch(marker, -1) {
		if !slices.Contains(attributes, m[1]) {
			t.Errorf("%s: a marker has %q, valid names are %q", path, m[1], attributes)
		}
		a[m[1]] = m[2] + m[3]
	}
	w := trustOf(t, path, policyOnPage(t, path, page, a), a)
	if a["file"] == "report" {
		return w.markdown()
	}
	for _, d := range w.Documents {
		if d.File != a["file"] {
			continue
		}
		text := withoutHead(d.Text)
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
		if !strings.HasPrefix(b, "version: 1\ntargets:\n") && !strings.HasPrefix(b, "version: 1\nidentities:\n") {
			continue
		}
		p, err := policy.Parse(path, []byte(b), job.Catalog())
		if err != nil {
			t.Fatal(err)
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
		fmt.Fprintf(&b, "%s by the provider: `%s`.", enforced, strings.Join(r.Enforced, "`, `"))
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
func trustOf(t *testing.T, path, text string, a map[string]string) printedWall {
	t.Helper()
	args := append([]string{"trust", "generate", "--policy", text, "--target", a["target"], "--format", "json"}, strings.Fields(a["flags"])...)
	status, stdout, stderr := runTrust(t, args...)
	var out struct{ Targets []printedWall }
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || status != 0 || len(out.Targets) != 1 {
		t.Fatalf("%s: trust generate ends with status %d, %v, %d logins: %s", path, status, err, len(out.Targets), stderr)
	}
	return out.Targets[0]
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
	if !strings.HasPrefix(text, "#") {
		return text
	}
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
// generated on the warehouse's page, or on the page that it leads to.
func TestEveryPageHasItsTrust(t *testing.T) {
	t.Parallel()
	for path, text := range pages(t) {
		if filepath.Dir(path) != "../docs/warehouses" {
			continue
		}
		_, setup, _ := strings.Cut(text, "\n## Set-up\n")
		setup, _, _ = strings.Cut(setup, "\n## ")
		providers := map[string]bool{}
		for _, b := range blocks(text) {
			if !strings.HasPrefix(b, "version: 1\n") {
				continue
			}
			p, err := policy.Parse(path, []byte(b), job.Catalog())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range p.Targets() {
				if target, err := p.Target(name); err == nil {
					providers[target.Provider()] = true
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(providers)) {
			here := strings.Contains(setup, "provider="+name)
			there := regexp.MustCompile(`\((?:\.\./)?(?:\w+)\.md#[\w-]+\)`).MatchString(setup)
			if !here && !there {
				t.Errorf("%s does not show or link the trust of provider %q", path, name)
			}
		}
	}
}

// TestTrustDeadLinks is in TestLinksLeadSomewhere; here: the page about trust
// names every command of `oidc-dbt trust`.
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
