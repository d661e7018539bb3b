package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Catalog is what a policy may name: the providers and the adapters that
// this build has. Parse checks a policy against it, so the action and every
// command accept the same policies.
type Catalog struct {
	Providers map[string]Provider // by the name under `exchange`
	Adapters  map[string]Adapter  // by dbt's `type`
	Now       time.Time           // when the policy is read: no review can be later; zero where that is not to be judged
	Version   string              // this build's, such as v1.2.3; another text is a development build, which reads every policy
}

// A Provider describes one block under `exchange`.
type Provider struct {
	Doc  string // one sentence, for the JSON Schema
	Keys []Key
	// Audience returns the audience to ask the ID token for; v holds the block's literal values.
	Audience func(v Values) string
	// Check returns what is wrong with the block as a whole (a vendor's
	// audience with a foreign endpoint, say), each error at one of its keys.
	// lifetime is the target's `lifetime`, 0 where it is left out.
	Check func(v Values, lifetime time.Duration) []KeyError
	// People reports whether only people can have the credential; nil for a
	// provider that takes the tokens of every kind of identity.
	People func(v Values) bool
	// OwnLogin is set where the credential comes of the person's login and not of
	// the ID token: of one with a client an access token, and where an adapter has
	// a login of its own (Adapter.Logins), of one with aws_sso the session of a role.
	OwnLogin bool
	// NeedsDBT is set where the credential is for a warehouse only:
	// a target of this provider has a `dbt:` block.
	NeedsDBT bool
	// Lifetimes is the range that may be asked for; nil for a provider that cannot be asked.
	Lifetimes *Lifetimes
	// Logins has the range of each login of a warehouse's own that the usual
	// credential is exchanged for, by its name in Adapter.Logins.
	Logins map[string]*Lifetimes
}

// LifetimesFor returns the range that may be asked for of a login, "" for the
// provider's usual credential; nil where none may.
func (p Provider) LifetimesFor(login string) *Lifetimes {
	if l, ok := p.Logins[login]; ok {
		return l
	}
	return p.Lifetimes
}

// check returns the check of a key, also of one in a mapping ("a.b").
func (p Provider) check(name string) func(string) error {
	keys := p.Keys
	for {
		head, rest, nested := strings.Cut(name, ".")
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == head })
		switch {
		case i < 0:
			return nil
		case !nested, keys[i].Names != nil:
			return keys[i].Check
		}
		keys, name = keys[i].Keys, rest
	}
}

// Lifetimes is the range of lifetimes that a provider can be asked for.
type Lifetimes struct{ Min, Max, Default time.Duration }

// A Key is one key of a provider's block.
type Key struct {
	Name     string
	Doc      string // one sentence, for the JSON Schema and the documentation
	Example  string // a value, for the JSON Schema, where the form is not obvious
	Required bool
	List     bool     // a list of strings; a lone string is a list of one
	Bool     bool     // true or false; Values has it as "true", and not at all where it is false
	Claims   bool     // ${claim} may stand in the value (never for a host, URL, account or audience)
	Choices  []string // the values that it may have; nil for any
	// Check says what is wrong with one value, nil for anything that is not
	// empty. A value with ${claim} is checked after the claim is filled in.
	Check func(value string) error
	// Keys makes the key a mapping of further keys, whose values are under
	// "name.key" in Values; List, Claims and Check are then theirs.
	Keys []Key
	// Names makes the key a mapping whose keys are the user's own, and says what
	// is wrong with one. They are the key's List, and each value is under
	// "name.ONE" in Values; Claims and Check are then the values'.
	Names func(name string) error
}

// A KeyError is a fault of the value at Key ("name" or "name.key").
type KeyError struct {
	Key string
	Err error
}

// An Adapter describes what a `dbt:` block of one type may hold.
type Adapter struct {
	Providers []string // the providers that it works with
	Required  []string // keys without which the warehouse cannot be found
	Written   []string // authentication keys that the product writes: an error inline, replaced under `from`
	Secret    []string // further keys that hold secrets, at any depth, next to those common to all adapters
	Literal   []string // keys that choose server or identity: no Jinja
	NoClaims  []string // keys of host, URL, account or authority: no ${claim}
	// Needed are, by provider, further keys that the login is made from: no Jinja.
	Needed map[string][]string
	// Given are, by provider, keys whose values come with the credential.
	Given map[string][]string
	// Logins are, by provider, the login of the warehouse's own that the
	// provider gives; those that give their usual credential are left out.
	Logins map[string]string
	// Client are the keys by which a target without `dbt:` names the place to
	// other clients of the warehouse, the first of them the one that the others
	// need; nil where there are no such targets.
	Client []string
	// Nested are further logins below a key of the block, each as that key, `.`
	// and the login's own key, wherever below it that is; Names are keys of the
	// same form that hold a name where another adapter has a secret.
	Nested, Names []string
	// Guarded are the providers with which every statement goes through a proxy
	// that reads it, so that a guard can be held; Native is what limits a run
	// where there is none.
	Guarded []string
	Native  string
	// Unscanned is what limits the bytes that a statement reads where a guard
	// cannot. Unheld says what to do where a session may change its own limit;
	// "" where the proxy fixes it.
	Unscanned, Unheld string
	// Aliases are the other names that dbt takes for keys of the block.
	Aliases map[string]string
}

// CheckProvider returns an error unless the adapter supports a provider; it
// lists those that it does. what names the adapter: `type "trino"`.
func (a Adapter) CheckProvider(what, provider string) error {
	if slices.Contains(a.Providers, provider) {
		return nil
	}
	return fmt.Errorf("%s does not support provider %q, valid providers are %q", what, provider, a.Providers)
}

// Canonical returns the name of a key of the block, which may be an alias.
func (a Adapter) Canonical(key string) string {
	if name, ok := a.Aliases[key]; ok {
		return name
	}
	return key
}

// NamesOf returns a key's name and, sorted, its aliases.
func (a Adapter) NamesOf(key string) []string {
	names := []string{key}
	for _, alias := range slices.Sorted(maps.Keys(a.Aliases)) {
		if a.Aliases[alias] == key {
			names = append(names, alias)
		}
	}
	return names
}

// Values are the values of a provider's block.
type Values struct {
	m     map[string][]string
	lines map[string]int
	// fixed is the audience of every token that the target's rules admit, where
	// their kind has no other; "" where a job chooses the audience.
	fixed string
}

// CheckAudience is CheckAudience for a token of the target: one whose kind has no
// other audience goes where the policy says, which repeats that audience.
func (v Values) CheckAudience(audience, endpoint string) error {
	if v.onlyAudience(audience) {
		return nil
	}
	return CheckAudience(audience, endpoint)
}

// CheckHost is CheckHost for a token of the target, as CheckAudience is.
func (v Values) CheckHost(audience, host string) error {
	if v.onlyAudience(audience) {
		return nil
	}
	return CheckHost(audience, host)
}

// CheckLogin is CheckLogin for a token of the target, as CheckAudience is.
func (v Values) CheckLogin(audience string) error {
	if v.onlyAudience(audience) {
		return nil
	}
	return CheckLogin(audience)
}

func (v Values) onlyAudience(audience string) bool { return v.fixed != "" && v.fixed == audience }

// Line returns the line of a key's value in the policy, 0 where it was left out.
func (v Values) Line(key string) int { return v.lines[key] }

// Get returns the value of a key, "" where it was left out.
func (v Values) Get(key string) string {
	if l := v.m[key]; len(l) > 0 {
		return l[0]
	}
	return ""
}

// List returns the values of a list key, nil where it was left out.
func (v Values) List(key string) []string { return slices.Clone(v.m[key]) }

// WantsLiteral reports whether a key of a block, or one below the key top of
// it, chooses server or identity, so that Jinja is refused in its value.
func (a Adapter) WantsLiteral(provider, top, key string) bool {
	return a.literal(provider, top, key) != ""
}
