package trust

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A box is what bound claims can say: each claim has a list of values, and every
// combination of them is admitted.
type box struct {
	rule   Rule
	claims map[string][]string // patterns of the policy
	from   map[string]string   // the condition of the rule that a claim comes from
}

func (b box) set(claim, from string, patterns ...string) {
	b.claims[claim] = patterns
	b.from[claim] = from
}

func (b box) clone() box {
	return box{b.rule, maps.Clone(b.claims), maps.Clone(b.from)}
}

// boxesOf returns what a rule comes to as bound claims, and notes what they
// cannot say.
func (d Demand) boxesOf(r Rule, globs bool, out *RuleReport) []box {
	b := box{rule: r, claims: map[string][]string{}, from: map[string]string{}}
	for _, c := range r.Conditions {
		switch {
		case c.Claim == "actor_kind":
			out.wider(c.Claim, "Vault has no such claim: it is derived from the actor's name", "name actor or actor_id in the rule"+orCEL)
		case c.Claim == "pull_number" && r.Names("ref"):
			out.wider(c.Claim, "it is a part of ref, which the rule names as well", "name only one of the two"+orCEL)
		case c.Claim == "pull_number":
			var refs []string
			for _, p := range c.Patterns {
				refs = append(refs, "refs/pull/"+p+"/merge")
			}
			b.set("ref", c.Claim, refs...)
			out.enforces(c.Claim)
		default:
			b.set(c.Claim, c.Claim, c.Patterns...)
			out.enforces(c.Claim)
		}
	}
	if c := r.Of("sub"); c.Claim != "" && r.Identity.Kind == "github" {
		return d.subjectBoxes(b, c, globs, out)
	}
	return []box{b}
}

// subjectBoxes are a rule's boxes by the subjects that it names: a subject with
// ids is also one without them, of tokens with these ids.
func (d Demand) subjectBoxes(b box, c Condition, globs bool, out *RuleReport) (list []box) {
	made := &subjectBuilder{d: d, r: b.rule, wild: globs}
	var plain []string
	for _, p := range c.Patterns {
		s, ok := policy.SubjectOf(p)
		if ok && s.OwnerID != "" {
			own := b.clone()
			own.set("sub", "sub", p, "repo:"+s.Owner+"/"+s.Repo+":"+s.Rest)
			if !own.narrow("repository_owner_id", s.OwnerID) || !own.narrow("repository_id", s.RepoID) {
				own = b.clone() // the rule wants other ids of a token without them in the subject
				own.set("sub", "sub", p)
			}
			list = append(list, own)
			continue
		}
		plain = append(plain, p)
		if ok {
			for _, prefix := range made.withIDs(s.Owner, s.Repo) {
				plain = append(plain, prefix+":"+s.Rest)
			}
			d.otherIDs(b.rule, s, globs, out)
		}
	}
	if len(plain) > 0 {
		b.set("sub", "sub", plain...)
		list = append(list, b)
	}
	return list
}

// otherIDs notes that the subjects have the ids that are known, where the rule
// admits others.
func (d Demand) otherIDs(r Rule, s policy.Subject, globs bool, out *RuleReport) {
	every := func(claim string, given bool) bool {
		_, literal := r.Of(claim).Literals()
		return given || globs || literal
	}
	given := slices.Contains(slices.Collect(maps.Values(d.Options.Repositories)), s.Owner+"/"+s.Repo)
	if !every("repository_owner_id", d.Options.OwnerIDs[s.Owner] != "") || !every("repository_id", given) {
		out.narrower("sub", "the rule admits this subject with other ids as well, which repositories that were created, renamed or "+
			"transferred after 15 July 2026 have in it", "name repository_id and repository_owner_id in the rule")
	}
}

// narrow binds a claim to a pattern where it is free, and reports whether the
// pattern is one of those that it is bound to already.
func (b box) narrow(claim, pattern string) bool {
	if _, bound := b.claims[claim]; !bound {
		b.set(claim, "sub", pattern)
		return true
	}
	if !slices.Contains(b.claims[claim], pattern) {
		return false
	}
	b.claims[claim] = []string{pattern}
	return true
}

// merged unites boxes that differ in one claim, and drops those that are in another one.
func merged(boxes []box) []box {
	boxes = slices.Clone(boxes)
	for i := 0; i < len(boxes); i++ {
		for j := 0; j < len(boxes); j++ {
			if i == j {
				continue
			}
			if united, ok := unite(boxes[i], boxes[j]); ok {
				boxes[min(i, j)] = united
				boxes = slices.Delete(boxes, max(i, j), max(i, j)+1)
				i, j = -1, len(boxes) // from the beginning
			}
		}
	}
	return boxes
}

func unite(a, b box) (box, bool) {
	if a.contains(b.claims) {
		return a, true
	}
	differ := ""
	for claim := range a.claims {
		switch {
		case b.claims[claim] == nil, !sameTexts(a.claims[claim], b.claims[claim]) && differ != "":
			return box{}, false
		case !sameTexts(a.claims[claim], b.claims[claim]):
			differ = claim
		}
	}
	if len(a.claims) != len(b.claims) || differ == "" {
		return box{}, false
	}
	a = a.clone()
	a.claims[differ] = both(a.claims[differ], b.claims[differ])
	return a, true
}

func sameTexts(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func both(a, b []string) []string {
	out := slices.Clone(a)
	for _, text := range b {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// contains reports whether all that other bound claims admit is in the box.
func (b box) contains(other map[string][]string) bool {
	for claim, patterns := range b.claims {
		if other[claim] == nil {
			return false
		}
		for _, q := range other[claim] {
			if !slices.ContainsFunc(patterns, func(p string) bool { return covers(claim, p, q) }) {
				return false
			}
		}
	}
	return true
}

// covers reports whether a pattern matches all that another one does, where that
// is easy to see.
func covers(claim, pattern, other string) bool {
	return pattern == other || strings.Contains(pattern, "*") && !strings.Contains(other, "*") && patternOf(claim, pattern).Contains(other)
}

// hull is the smallest box around some: of claims that one of them leaves free
// it says nothing.
func hull(boxes []box) map[string][]string {
	out := map[string][]string{}
	for claim := range boxes[0].claims {
		var patterns []string
		for _, b := range boxes {
			if b.claims[claim] == nil {
				patterns = nil
				break
			}
			patterns = both(patterns, b.claims[claim])
		}
		if patterns != nil {
			out[claim] = patterns
		}
	}
	return out
}

// mixed returns the claims of a box by which the hull admits more than the
// boxes do together: with another value of the claim, all else as it is.
func (b box) mixed(hull map[string][]string, boxes []box) (claims []string) {
	for _, claim := range slices.Sorted(maps.Keys(b.claims)) {
		if b.mixes(claim, hull[claim], boxes) {
			claims = append(claims, claim)
		}
	}
	return claims
}

func (b box) mixes(claim string, patterns []string, boxes []box) bool {
	with := maps.Clone(b.claims)
	inSome := func() bool {
		return slices.ContainsFunc(boxes, func(other box) bool { return other.contains(with) })
	}
	if patterns == nil {
		delete(with, claim)
		return !inSome()
	}
	for _, p := range patterns {
		with[claim] = []string{p}
		if !inSome() {
			return true
		}
	}
	return false
}

// globbed is met by what bound claims admit in glob mode: `*` is any run of
// characters there. (ryanuber/go-glob)
func globbed(claims map[string][]string) logic.Formula {
	var all []logic.Formula
	for _, claim := range slices.Sorted(maps.Keys(claims)) {
		var some []logic.Formula
		for _, p := range claims[claim] {
			some = append(some, logic.Is(claim, logic.Glob(p, false)))
		}
		all = append(all, logic.Or(some...))
	}
	return logic.And(all...)
}

// crosses returns the conditions of a box's rule whose `*` admits, as a glob,
// what the policy's does not.
func (d Demand) crosses(b box) (conditions []string) {
	for _, c := range b.rule.Conditions {
		own := map[string][]string{}
		wild := false
		for claim, patterns := range b.claims {
			if b.from[claim] == c.Claim {
				own[claim] = patterns
				wild = wild || slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "*") })
			}
		}
		if !wild {
			continue
		}
		more := logic.And(globbed(own), logic.Not(b.rule.Condition(c)))
		token, decided := logic.NewFinder(more, []logic.World{d.alone(b.rule.Identity)}).Find(more)
		if token != nil || !decided {
			conditions = append(conditions, c.Claim)
		}
	}
	return conditions
}

// githubAlone is what each claim of a token of GitHub's may be, whatever the
// others are.
var githubAlone = sync.OnceValue(func() map[string]logic.Language {
	const owner, repo, number = `[A-Za-z0-9][A-Za-z0-9-]*`, `[A-Za-z0-9._-]+`, `[1-9][0-9]*`
	const id, environment = `(?:@` + number + `)?`, `[^:` + printables + `]+`
	all := maps.Clone(githubDomains)
	for claim, expr := range map[string]string{
		"repository": owner + "/" + repo, "repository_owner": owner, "repository_id": number, "repository_owner_id": number,
		"environment": environment, "ref": anyRef,
		"sub": `repo:` + owner + id + `/` + repo + id + `:(?:environment:` + environment + `|pull_request|ref:` + anyRef + `)`,
	} {
		all[claim] = whole(expr)
	}
	return all
})

var anyRef = `refs/(?:(?:heads|tags)/` + refName + `|pull/[1-9][0-9]*/merge)`

// alone are the tokens of an issuer whose claims have nothing to do with each other.
func (d Demand) alone(id policy.Identity) logic.World {
	if id.Kind != "github" {
		return logic.World{}
	}
	w := logic.World{Domain: githubAlone()}
	if len(d.Options.SubTemplate) > 0 {
		w.Domain = maps.Clone(githubAlone())
		delete(w.Domain, "sub")
	}
	return w
}

// loose are the tokens of an issuer by what their subjects are made of: any
// event may have any ref.
func (d Demand) loose(id policy.Identity) (list []logic.World) {
	if id.Kind != "github" {
		return []logic.World{{Fixed: map[string]string{"iss": id.Issuer}}}
	}
	for _, events := range []string{"[a-z_]+", pullEvent} {
		for _, environment := range []bool{true, false} {
			for _, ids := range []bool{false, true} {
				w := githubWorld(id.Issuer, refWorld{anyRef, "", events}, environment, ids, d.Options.SubTemplate)
				delete(w.Fixed, "ref_type")
				list = append(list, w)
			}
		}
	}
	return list
}
