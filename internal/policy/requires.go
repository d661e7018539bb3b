package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"golang.org/x/mod/semver"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// releaseText is what `requires` may be: a whole version: "v1.4" could be
// read as any of v1.4's patches. Precedence is that of semver.org.
var releaseText = lazy.MustCompile(`^v(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-[0-9A-Za-z.-]+)?$`)

// requiresLine finds `requires` in a policy that this build cannot read as YAML.
var requiresLine = lazy.MustCompile(`(?m)^["']?requires["']?[ \t]*:[ \t]*["']?(v[0-9][0-9A-Za-z.-]*)["']?[ \t]*(?:#.*)?\r?$`)

// readable returns an error where the policy, of these documents, asks for a
// newer build than this one.
func (d *document) readable(documents []*yaml.Node) error {
	asked := slices.DeleteFunc(d.asked(documents), func(v string) bool { return !isRelease(v) })
	if len(asked) == 0 || !semver.IsValid(d.catalog.Version) {
		return nil
	}
	if newest := slices.MaxFunc(asked, semver.Compare); semver.Compare(d.catalog.Version, newest) < 0 {
		return fmt.Errorf("policy requires oidc-dbt %s, this is %s", newest, d.catalog.Version)
	}
	return nil
}

// asked returns the values of `requires`, one in a sound policy.
func (d *document) asked(documents []*yaml.Node) (values []string) {
	if len(documents) == 0 {
		for _, m := range requiresLine.FindAllStringSubmatch(strings.TrimPrefix(string(d.src), "\ufeff"), -1) {
			values = append(values, m[1])
		}
		return values
	}
	root := documents[0]
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil
	}
	for i, content := 0, root.Content[0].Content; i+1 < len(content); i += 2 {
		if content[i].Value == "requires" && content[i+1].Kind == yaml.ScalarNode {
			values = append(values, content[i+1].Value)
		}
	}
	return values
}

// maxRelease bounds a version: no release's is nearly as long.
const maxRelease = 256

func isRelease(v string) bool {
	return len(v) <= maxRelease && releaseText.MatchString(v) && semver.IsValid(v)
}

// release checks the value of `requires`.
func (d *document) release(n *yaml.Node) {
	const want = "want the oldest release that reads this policy, such as v1.4.0"
	switch {
	case n.Kind == yaml.ScalarNode && !strictyaml.IsNull(n) && isRelease("v"+n.Value):
		d.Report(n, "requires is %s, %s: did you mean %q?", strictyaml.Shown(n), want, "v"+n.Value)
	case n.Kind != yaml.ScalarNode || n.Tag != "!!str" || !isRelease(n.Value):
		d.Report(n, "requires is %s, %s", strictyaml.Shown(n), want)
	}
}
