// Package policy decides who may have a credential: it parses a policy strictly, and only its Authorize gives a Grant.
//
// The action and every command use the same Parse, so they cannot disagree.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// MaxSize bounds a policy: 10,000 rules in block style are 1.2 MiB.
const MaxSize = 4 << 20

// A Policy is parsed once and never changes.
type Policy struct {
	name       string
	sha256     string
	identities []*Identity
	targets    []*Target
	agents     []string
	maps       map[string]*claimMap // by name
	deny       []rule               // of every target
	jitter     time.Duration        // before a run's first request
	audit      Audit
	warnings   []string
}

// A Target is one credential that the policy gives.
type Target struct {
	name          string
	provider      string
	exchange      Values
	audience      string
	dbt           DBT
	lifetime      time.Duration
	maxLifetime   time.Duration
	maxLifetimes  map[string]time.Duration // by the kind of actor; nil where all have the same
	agents        string                   // "refuse", "only"; "" where agents are like others
	direct        bool
	guard         *Guard // of rules that have none of their own; nil for none
	faultyGuard   bool   // guard has an error, so that nothing can be compared with it
	trustReviewed time.Time
	trustMaxAge   time.Duration
	rules         []rule
	maps          map[string]*claimMap // the policy's
	identities    []Identity
	spec          Provider
	origin        origin
}

// An origin is what a target was parsed from, for faults that show later.
type origin struct {
	name    string
	src     []byte
	catalog Catalog
}

// Name returns the target's name.
func (t *Target) Name() string { return t.name }

// File returns how errors name the file that the target is in.
func (t *Target) File() string { return t.origin.name }

// Provider returns the name of the provider under `exchange`.
func (t *Target) Provider() string { return t.provider }

// Audience returns the audience that the ID token must have.
func (t *Target) Audience() string { return t.audience }

// GuardedAudience is the audience whose owner's hosts are the only ones that may
// get the target's tokens; "" where their kind has no other, so that it guards nothing.
func (t *Target) GuardedAudience() string { return guarded(t.audience, t.exchange) }

func guarded(audience string, exchange Values) string {
	if exchange.onlyAudience(audience) {
		return ""
	}
	return audience
}

// Exchange returns the provider's block, claims not filled in.
func (t *Target) Exchange() Values { return t.exchange }

// DBT returns the dbt block, claims not filled in.
func (t *Target) DBT() DBT { return t.dbt.filled(func(text string) string { return text }) }

// Direct reports whether dbt is to connect to the warehouse itself, and to no
// proxy of a broker.
func (t *Target) Direct() bool { return t.direct }

// Identities returns the identities that the target's rules name, each once.
func (t *Target) Identities() []Identity { return slices.Clone(t.identities) }

// SHA256 returns the hex SHA-256 of the policy's text.
func (p *Policy) SHA256() string { return p.sha256 }

// Warnings returns what is allowed but unwise in any run.
func (p *Policy) Warnings() []string { return slices.Clone(p.warnings) }

// StartJitter returns how long a run may wait, by chance, before its first
// request; 0 for not at all.
func (p *Policy) StartJitter() time.Duration { return p.jitter }

// File returns how errors name the policy's file.
func (p *Policy) File() string { return p.name }

// Text returns what was parsed.
func (p *Policy) Text() string { return string(p.targets[0].origin.src) } // there is a target in every policy

// Targets returns the targets' names in the order of the file.
func (p *Policy) Targets() []string {
	names := make([]string, len(p.targets))
	for i, t := range p.targets {
		names[i] = t.name
	}
	return names
}

// Candidates returns the names of the targets that claims may choose from: all
// but the one that writes the audit bucket, which is never a run's own.
func (p *Policy) Candidates() (names []string) {
	for _, t := range p.candidates() {
		names = append(names, t.name)
	}
	return names
}

func (p *Policy) candidates() []*Target {
	if p.audit.Bucket.Target == "" {
		return p.targets
	}
	return slices.DeleteFunc(slices.Clone(p.targets), func(t *Target) bool { return t.name == p.audit.Bucket.Target })
}

// Target returns a target by its name. The error lists the targets; it is of class Usage.
func (p *Policy) Target(name string) (*Target, error) {
	for _, t := range p.targets {
		if t.name == name {
			return t, nil
		}
	}
	return nil, fault.New(fault.Usage,
		fmt.Errorf("unknown target %q, %s has %q%s", name, p.name, p.Targets(), otherNames.DidYouMean(name, p.Targets())), "")
}

// Identity returns an identity by its name.
func (p *Policy) Identity(name string) (id Identity, ok bool) {
	for _, id := range p.identities {
		if id.Name == name {
			return *id, true
		}
	}
	return Identity{}, false
}

// Parse parses and checks a policy; name is how errors call it. An error is
// of class Usage and holds every fault with its place; that of a policy for a
// newer build says which, and nothing else.
func Parse(name string, src []byte, cat Catalog) (*Policy, error) {
	d := newDocument(parsePolicy, name, src, cat)
	sum := sha256.Sum256(src)
	p := &Policy{name: name, sha256: hex.EncodeToString(sum[:])}
	root, err := d.Load(d.readable)
	if err != nil {
		return nil, fault.New(fault.Usage, err, "") // what else seems wrong may be right for a newer build
	}
	if root != nil {
		d.policy(p, root)
	}
	if err := d.Err(); err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	return p, nil
}
