// Package sample makes up the claims of a token from a few facts about a job: what follows from them in every
// token of that kind, and nothing that does not.
package sample

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// Facts are what is known of a job. They are claims by the words that all
// kinds of identities share; what has none is in Claims, which take precedence.
type Facts struct {
	Repository   string // OWNER/REPOSITORY, or what takes its place: see Uses
	RepositoryID string
	OwnerID      string
	Environment  string
	Ref          string // a full ref
	Event        string
	Claims       map[string]any // by name; nil for a claim that the token is not to have
}

// Claims are made up.
type Claims struct {
	idtoken.Unverified
	// OtherSubject is the subject in GitHub's other form (with the ids of
	// owner and repository), which the same job may as well have; "" where
	// the ids are not known, or sub was given.
	OtherSubject string
	// Missing are claims that every such token has, and that do not follow.
	Missing []string
	// Odd says which of the given claims no token has together.
	Odd []string
}

// A kind says how tokens of one kind of identity look.
type kind struct {
	// names are the claims of the facts, by the names of the fields' flags.
	names map[string]string
	// follow adds to the claims what follows from them.
	follow func(c *claims)
	// always are claims that every token has.
	always []string
}

// The facts' names, which are those of the flags.
const (
	repository   = "repository"
	repositoryID = "repository-id"
	ownerID      = "owner-id"
	environment  = "environment"
	ref          = "ref"
	event        = "event"
)

var kinds = map[string]kind{
	"github":          githubKind,
	"gitlab":          gitlabKind,
	"circleci":        circleciKind,
	"buildkite":       buildkiteKind,
	"azure_pipelines": azureKind,
	"bitbucket":       bitbucketKind,
	"kubernetes":      kubernetesKind,
	"people":          peopleKind,
	"forgejo":         forgejoKind,
	"aws":             awsKind,
	"google":          googleKind,
	"workload":        workloadKind,
	"cursor":          cursorKind,
	"claude_code":     claudeKind,
	"warp":            warpKind,
}

// Make returns the claims of a token of an identity. The error says which fact
// no such token can have; it is of no class.
func Make(id policy.Identity, facts Facts) (Claims, error) {
	k, ok := kinds[id.Kind]
	if !ok {
		return Claims{}, fmt.Errorf("make up claims: identity %q is of kind %q, whose tokens are not known: give all claims",
			id.Name, id.Kind)
	}
	given, err := k.given(id.Kind, facts)
	if err != nil {
		return Claims{}, err
	}
	c := &claims{identity: id, values: map[string]any{}, given: given}
	for name, value := range given {
		if value != nil {
			c.values[name] = value
		}
	}
	c.set("iss", id.Issuer)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if meant := policy.MeantClaim(id.Kind, name); meant != "" {
			c.odd = append(c.odd, fmt.Sprintf("no token of kind %q has the claim %q: did you mean %q?", id.Kind, name, meant))
		}
	}
	k.follow(c)
	if c.err != nil {
		return Claims{}, c.err
	}
	unverified, err := idtoken.NewUnverified(c.values)
	if err != nil {
		return Claims{}, err
	}
	made := Claims{Unverified: unverified, OtherSubject: c.otherSubject, Odd: c.odd}
	for _, name := range k.always {
		if _, left := given[name]; !left && !unverified.Has(name) {
			made.Missing = append(made.Missing, name)
		}
	}
	return made, nil
}

// given returns the facts as claims.
func (k kind) given(name string, facts Facts) (map[string]any, error) {
	given := map[string]any{}
	for _, fact := range []struct{ name, value string }{
		{repository, facts.Repository}, {repositoryID, facts.RepositoryID}, {ownerID, facts.OwnerID},
		{environment, facts.Environment}, {ref, facts.Ref}, {event, facts.Event},
	} {
		claim, ok := k.names[fact.name]
		switch {
		case fact.value == "":
		case !ok:
			return nil, fmt.Errorf("tokens of kind %q say nothing of the %s: give a claim that they have by its name",
				name, spaced(fact.name))
		default:
			given[claim] = fact.value
		}
	}
	for claim, value := range facts.Claims {
		if from := policy.DerivedFrom(claim); from != "" {
			return nil, fmt.Errorf("%s is made from %s, and no token has it: give %s", claim, from, from)
		}
		if _, twice := given[claim]; twice {
			return nil, fmt.Errorf("claim %q is given twice", claim)
		}
		given[claim] = value
	}
	for claim, value := range given {
		if text, ok := value.(string); ok && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, fmt.Errorf("claim %q is %q, which has a control character", claim, text)
		}
	}
	return given, nil
}

func spaced(name string) string { return strings.ReplaceAll(name, "-", " ") }

// claims are in the making.
type claims struct {
	identity     policy.Identity
	values       map[string]any // so far
	given        map[string]any // of the caller; nil values are to stay absent
	otherSubject string
	odd          []string
	err          error // the first fact that no token can have
}

// get returns a claim that is a string, "" for none.
func (c *claims) get(name string) string { s, _ := c.values[name].(string); return s }

func (c *claims) has(name string) bool { _, ok := c.values[name]; return ok }

// set gives a claim the value that follows; what was given stays.
func (c *claims) set(name string, value any) {
	if have, given := c.given[name]; given {
		if text, ok := have.(string); ok && text != value {
			c.odd = append(c.odd, fmt.Sprintf("%s is %q, and with the other claims it would be %q", name, text, value))
		}
		return
	}
	c.values[name] = value
}

// suppose gives a claim the value that it most often has.
func (c *claims) suppose(name string, value any) {
	if _, given := c.given[name]; !given && !c.has(name) {
		c.values[name] = value
	}
}

// check holds a claim to its form where it is given as a string.
func (c *claims) check(name string, form *lazy.Regexp, want string) bool {
	text, given := c.values[name].(string)
	if !given || c.err != nil {
		return given && c.err == nil
	}
	if !form.MatchString(text) {
		c.err = fmt.Errorf("%s is %q, want %s", name, text, want)
		return false
	}
	return true
}

var digits = lazy.MustCompile(`^[0-9]+$`)

// Kinds returns the kinds whose tokens are known, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// notFull says what is wrong with a branch's name in the place of a ref.
func notFull(name, ref string) error {
	if ref == "" {
		return errors.New(name + " is empty, want a full ref")
	}
	return fmt.Errorf("%s is %q, which is not a full ref: want %q, or %q for a tag",
		name, ref, "refs/heads/"+ref, "refs/tags/"+ref)
}
