package review

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v4"
)

// rules are what a version of a policy has, as hashes that comments, quotes and
// indentation do not change.
type rules struct {
	sha256  string            // of the text, in hex
	targets map[string]sum    // what each has below `allow`
	gives   map[string]sum    // what each gives: all of it but `allow` and the dates of reviews
	single  map[string][]rule // each rule of a target, and of denyTarget
}

// A rule is one of a version's. sum is also of its identity, parts are its claims, each with its patterns.
type rule struct {
	sum   sum
	parts []sum // sorted
}

// A sum is as much of a SHA-256 as tells texts of one file apart.
type sum [16]byte

// denyTarget is the target of rules that come before every target; no target
// can be called so.
const denyTarget = "(deny)"

// datesOfReview are the keys of a target, and of defaults, that are no access.
var datesOfReview = []string{"trust_reviewed", "trust_max_age"}

// rulesOf reads a version of a policy. It may be one that this build would
// refuse: what cannot be read has no rules.
func rulesOf(src []byte) rules {
	whole := sha256.Sum256(src)
	found := rules{
		sha256: hex.EncodeToString(whole[:]), targets: map[string]sum{}, gives: map[string]sum{}, single: map[string][]rule{},
	}
	var document yaml.Node
	if err := yaml.Load(src, &document); err != nil || len(document.Content) == 0 {
		return found
	}
	root := document.Content[0]
	identities := valueOf(root, "identities")
	if deny := valueOf(root, "deny"); deny != nil {
		found.single[denyTarget] = listOf(deny, identities)
	}
	var shared bytes.Buffer // what each target also depends on
	if n := valueOf(root, "defaults"); n != nil {
		writeBut(&shared, n, datesOfReview)
	}
	if n := valueOf(root, "maps"); n != nil {
		shared.WriteString("maps\n")
		write(&shared, n) // a map may have the name of a date
	}
	targets := valueOf(root, "targets")
	for i := 0; targets != nil && i+1 < len(targets.Content); i += 2 {
		name, n := targets.Content[i].Value, targets.Content[i+1]
		var gives bytes.Buffer
		writeBut(&gives, n, append([]string{"allow"}, datesOfReview...))
		found.gives[name] = sumOf(append(gives.Bytes(), shared.Bytes()...))
		if allow := valueOf(n, "allow"); allow != nil {
			var b bytes.Buffer
			write(&b, allow)
			found.targets[name], found.single[name] = sumOf(b.Bytes()), listOf(allow, identities)
		}
	}
	return found
}

// defaultIdentity is whose tokens a rule is for that names no identity.
const defaultIdentity = "github"

// listOf returns the rules of a list. To a rule belongs whose tokens it takes:
// another key of the issuer's is another issuer.
func listOf(n, identities *yaml.Node) (list []rule) {
	for _, e := range n.Content {
		var r rule
		identity := defaultIdentity
		if named := valueOf(e, "identity"); named != nil {
			identity = named.Value
		}
		for i := 0; i+1 < len(e.Content); i += 2 {
			var b bytes.Buffer
			write(&b, e.Content[i])
			write(&b, e.Content[i+1])
			r.parts = append(r.parts, sumOf(b.Bytes()))
		}
		slices.SortFunc(r.parts, func(a, b sum) int { return bytes.Compare(a[:], b[:]) })
		var all []byte
		for _, p := range r.parts {
			all = append(all, p[:]...)
		}
		if identities != nil {
			if of := valueOf(identities, identity); of != nil {
				b := bytes.NewBufferString("identity\n")
				write(b, of)
				all = append(all, b.Bytes()...)
			}
		}
		r.sum = sumOf(all)
		list = append(list, r)
	}
	return list
}

func sumOf(b []byte) sum {
	whole := sha256.Sum256(b)
	return sum(whole[:len(sum{})])
}

// has reports whether the version has a rule of a target.
func (r rules) has(target string, want sum) bool {
	return slices.ContainsFunc(r.single[target], func(have rule) bool { return have.sum == want })
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

// writeBut writes a mapping without some of its keys.
func writeBut(w io.Writer, n *yaml.Node, keys []string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !slices.Contains(keys, n.Content[i].Value) {
			write(w, n.Content[i])
			write(w, n.Content[i+1])
		}
	}
}

// write writes a value such that no other value is written so.
func write(w io.Writer, n *yaml.Node) {
	fmt.Fprintf(w, "%d %q %q %d\n", n.Kind, n.Tag, n.Value, len(n.Content))
	for _, c := range n.Content {
		write(w, c)
	}
}
