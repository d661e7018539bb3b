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
// once: one fault a place, since what else is wrong with a value may be the
// same. Each is a policy.BlockError.
type faults struct {
	list  []error
	where map[string]bool
}

// add adds a fault of the value of a block's own key (place.fault).
func (f *faults) add(key, format string, args ...any) { f.join(top(key).fault(format, args...)) }

// missing adds that a key is required; the rest of the text says why.
func (f *faults) missing(key, format string, args ...any) {
	text := "requires " + key + fmt.Sprintf(format, args...)
	f.join(&policy.BlockError{Path: []string{key}, Kind: policy.Missing, Text: text})
}

// duplicate adds that dbt takes two keys of the block for the same one.
func (f *faults) duplicate(first, second string) {
	f.join(&policy.BlockError{Path: []string{first}, Kind: policy.Duplicate, Text: policy.DuplicateKey(first, second)})
}

// join adds what another check has found. What that has no place for is about
// the block as a whole.
func (f *faults) join(err error) {
	for _, err := range fault.Each(err) {
		var found *policy.BlockError
		if !errors.As(err, &found) {
			found = &policy.BlockError{Text: err.Error()}
		}
		if f.where[found.Where()] {
			continue
		}
		if f.where == nil {
			f.where = map[string]bool{}
		}
		f.where[found.Where()] = true
		f.list = append(f.list, found)
	}
}

// literals adds a fault for each key whose value only dbt will know.
func (f *faults) literals(block *yaml.Node, why string, keys ...string) {
	for _, key := range keys {
		if policy.IsJinja(scalar(block, key)) {
			f.add(key, " must be a literal: %s", why)
		}
	}
}

func (f *faults) err() error { return errors.Join(f.list...) }

// fault returns what is wrong with the value at a place, whose name the text
// begins with. A login in front of a host is not repeated.
func (p place) fault(format string, args ...any) error {
	login := false
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			shown, cut := policy.WithoutLogin(text)
			args[i], login = shown, login || cut
		}
	}
	return &policy.BlockError{Path: p.path, Text: p.shown + fmt.Sprintf(format, args...), Login: login}
}

// misshapen returns that the value at a place has another shape than dbt takes.
func (p place) misshapen(v *yaml.Node, want string) error {
	text := fmt.Sprintf("%s is %s, want %s", p.shown, shape(v), want)
	return &policy.BlockError{Path: p.path, Kind: policy.Misshapen, Text: text}
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
