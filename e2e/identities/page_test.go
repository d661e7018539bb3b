//go:build e2e && linux && amd64

package identities

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A page is the YAML blocks of a page of docs/identities.
type page []string

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

func readPage(t *testing.T, name string) (p page) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "identities", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
		p = append(p, m[1])
	}
	return p
}

// block returns the first block that has these texts.
func (p page) block(t *testing.T, texts ...string) string {
	t.Helper()
next:
	for _, b := range p {
		for _, text := range texts {
			if !strings.Contains(b, text) {
				continue next
			}
		}
		return b
	}
	t.Fatalf("the page has no block with %q", texts)
	return ""
}

var (
	inScript = regexp.MustCompile(`(?m)(oidc-dbt exec .*)$`)
	inList   = regexp.MustCompile(`command: \[(oidc-dbt, exec, .*)\]`)
)

// command returns the command of the page's job, or the usual one where it shows no job.
func (p page) command(usual string) string {
	for _, b := range p {
		if m := inScript.FindStringSubmatch(b); m != nil {
			return m[1]
		}
		if m := inList.FindStringSubmatch(b); m != nil {
			return strings.ReplaceAll(m[1], ", ", " ")
		}
	}
	return usual
}

// issuers are those that a policy may leave out.
var issuers = map[string]string{
	"github": "https://token.actions.githubusercontent.com", "buildkite": "https://agent.buildkite.com",
	"google": "https://accounts.google.com", "cursor": "https://api.cursor.com",
}

// issuerOf returns the issuer of a policy's identity.
func issuerOf(document map[string]any, identity string) string {
	identities, _ := document["identities"].(map[string]any)
	keys, _ := identities[identity].(map[string]any)
	if issuer, ok := keys["issuer"].(string); ok {
		return issuer
	}
	if kind, ok := keys["kind"].(string); ok {
		return issuers[kind]
	}
	return issuers[identity]
}
