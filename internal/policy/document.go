package policy

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A document is a policy, or a file that one refers to, while it is read.
type document struct {
	*strictyaml.Document
	name    string
	src     []byte
	catalog Catalog
	// mapNames is the mapping of `maps`, nil for none; allowed are the rules of the target that is read.
	mapNames, allowed *yaml.Node
	bucketAt          *yaml.Node               // where `audit` names the bucket's target; nil for no bucket
	common            *defaults                // nil for none
	reported          map[*yaml.Node]*claimMap // literals that a map was found to have no value for
	names             map[string]bool          // claims' names that were found well-formed: a policy has few, each in every rule
}

// parsePolicy is what errors of a policy say was being done.
const parsePolicy = "parse policy"

func newDocument(doing, name string, src []byte, cat Catalog) *document {
	d := &document{name: name, src: src, catalog: cat, names: map[string]bool{}, reported: map[*yaml.Node]*claimMap{}}
	d.Document = strictyaml.New(name, src, strictyaml.Format{
		Doing: doing, Noun: "policy", Needs: "a policy has `version` and `targets`", MaxSize: MaxSize,
		SecretKey: d.isSecret, SecretValue: hiddenValue, Synonyms: otherNames,
	})
	return d
}

// isSecret reports whether a key is named like a secret, or is one for any adapter.
func (d *document) isSecret(key string) bool {
	if secretName(key) {
		return true
	}
	for _, a := range d.catalog.Adapters {
		if containsFold(a.Secret, key) {
			return true
		}
	}
	return false
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
