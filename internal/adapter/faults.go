package adapter

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// faults are what is wrong with a block, so that a user meets all of it at
// once: one fault a key, since what else is wrong with a value may be the same.
type faults struct {
	list []error
	keys map[string]bool
}

// add adds a fault, whose text begins with the key that it is about.
func (f *faults) add(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	key := FaultKey(err.Error())
	if f.keys[key] {
		return
	}
	if f.keys == nil {
		f.keys = map[string]bool{}
	}
	f.keys[key] = true
	f.list = append(f.list, err)
}

// join adds what another check has found.
func (f *faults) join(err error) {
	for _, err := range fault.Each(err) {
		f.add("%w", err)
	}
}

// literals adds a fault for each key whose value only dbt will know.
func (f *faults) literals(block *yaml.Node, why string, keys ...string) {
	for _, key := range keys {
		if policy.IsJinja(scalar(block, key)) {
			f.add("%s must be a literal: %s", key, why)
		}
	}
}

func (f *faults) err() error { return errors.Join(f.list...) }

// FaultKey returns what a fault's text begins with: its place in the block.
func FaultKey(text string) string {
	text = strings.TrimPrefix(text, "it has no ")
	if end := strings.IndexAny(text, " :,"); end >= 0 && !strings.HasPrefix(text, "secrets of type ") {
		return text[:end]
	}
	return text
}

// bareHost returns the name in what may be the URL of a host.
func bareHost(host string) string {
	_, rest, isURL := strings.Cut(host, "://")
	if !isURL {
		return host
	}
	rest, _, _ = strings.Cut(rest, "/")
	name, port, ok := strings.Cut(rest, ":")
	if ok && portText.MatchString(port) {
		return name
	}
	return rest
}

// isLoopback reports whether a host is this machine, though it be a URL, whose
// own fault that is; of one that only dbt will know nothing is said.
func isLoopback(host string) bool {
	return policy.IsJinja(host) || policy.IsLoopback(bareHost(host))
}

// insteadOf says what to write for a host that is a URL, "" for another.
func insteadOf(host string) string {
	if name := bareHost(host); name != host && hostText.MatchString(name) {
		return fmt.Sprintf(": write %q, without %s://", name, host[:strings.Index(host, "://")])
	}
	return ""
}
