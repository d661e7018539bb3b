package review

import (
	"crypto/sha256"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
)

// rules are what targets have below `allow`: a hash for each, which comments,
// quotes and indentation do not change.
type rules map[string][sha256.Size]byte

// rulesOf reads a version of a policy. It may be one that this build would
// refuse: what cannot be read has no rules.
func rulesOf(src []byte) rules {
	var document yaml.Node
	if err := yaml.Load(src, &document); err != nil || len(document.Content) == 0 {
		return nil
	}
	found := rules{}
	targets := valueOf(document.Content[0], "targets")
	for i := 0; targets != nil && i+1 < len(targets.Content); i += 2 {
		if allow := valueOf(targets.Content[i+1], "allow"); allow != nil {
			h := sha256.New()
			write(h, allow)
			found[targets.Content[i].Value] = [sha256.Size]byte(h.Sum(nil))
		}
	}
	return found
}

// valueOf returns the value of a mapping's key, nil where there is none.
func valueOf(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// write writes a value such that no other value is written so.
func write(w io.Writer, n *yaml.Node) {
	fmt.Fprintf(w, "%d %q %q %d\n", n.Kind, n.Tag, n.Value, len(n.Content))
	for _, c := range n.Content {
		write(w, c)
	}
}
