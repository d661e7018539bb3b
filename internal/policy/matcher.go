package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A matcher is one claim of a rule with what it may be: any of the patterns.
type matcher struct {
	claim    string
	patterns []pattern
}

// A pattern matches a whole value by exact case. `*` matches any run of
// characters within one segment, `**` across segments; neither matches
// control characters, so no newline rides along.
type pattern struct {
	text    string
	literal bool
	stops   string   // characters that `*` stops at
	parts   []part   // of a pattern with wildcards
	ref     *pattern // of a workflow: what follows the @, parts being what precedes it
	subject *subject // of a sub in one of GitHub's forms
}

// part is a wildcard or the text between two.
type part struct {
	text string
	wild int // 0: text; 1: `*`; 2: `**`
}

// maxPattern bounds a pattern; the longest real value, job_workflow_ref with a
// branch, is under 512 bytes.
const maxPattern = 1024

var actorKinds = []string{"user", "bot", "agent"}

// compilePattern returns the pattern of a claim. An error says what is wrong
// with the text, which the caller puts in front.
func compilePattern(kind, claim, text string) (pattern, error) {
	p := newPattern(claim, text)
	switch {
	case len(text) > maxPattern:
		return p, fmt.Errorf("is %d bytes long, want at most %d", len(text), maxPattern)
	case !clean(text):
		return p, errors.New("contains a control character")
	case strings.Contains(text, "${"):
		return p, errors.New("has ${…}, which is expanded only under `dbt` and `exchange`")
	case isRegexp(text) && claim != "workflow" && !strings.HasPrefix(claim, "repo_property_"): // those are free texts
		return p, errors.New("is a regular expression, and patterns are not: want `*` (within one segment), " +
			"`**` (across segments), or a list of values")
	case strings.HasPrefix(text, "!") && strings.HasPrefix(strings.TrimLeft(text, "! "), "refs/"):
		return p, errors.New("starts with !, but rules have no negation: name the allowed values")
	case slices.Contains(refClaims, claim) && strings.ContainsAny(text, `?[\^~: `):
		return p, errors.New("contains a character that is not valid in a ref: patterns have only `*` (within one segment) " +
			"and `**` (across segments)")
	case !p.literal && strings.Trim(text, "*/:@") == "":
		return p, errors.New("is only wildcards and would match anything: name a value, or remove the claim")
	case claim == kinds[kind].event.claim && !p.literal:
		return p, errors.New("has a wildcard: each event must be named")
	case claim == "actor_kind" && !slices.Contains(actorKinds, text):
		return p, fmt.Errorf("is not a kind of actor, valid kinds are %q%s", actorKinds, otherNames.DidYouMean(text, actorKinds))
	}
	if isWorkflow(claim) {
		if err := checkWorkflow(text); err != nil {
			return p, err
		}
		if !p.literal {
			path, ref, _ := strings.Cut(text, "@")
			p.parts = split(path)
			p.ref = &pattern{text: ref, stops: p.stops, parts: split(ref)}
		}
	}
	if claim == "sub" && kind == "github" {
		if s, ok := parseSubject(text); ok {
			p.subject = &s
		}
	}
	return p, nil
}

// refClaims hold names that Git made: without `?`, `[` and the like.
// (git-check-ref-format)
var refClaims = []string{"ref", "base_ref", "head_ref"}

// regexpText matches what is meant as a regular expression. A dot before `*`
// may be one (v1.*), and so may brackets (dependabot[bot]), so it wants more:
// an anchor, a class with a range or a quantifier, an escape, alternatives.
var regexpText = lazy.MustCompile(`^\^|\$$|\\[A-Za-z.\-/@*+?()\[\]]|\([^()]*\|[^()]*\)|\(\?|\[\^|\[[^\]]*\w-\w[^\]]*\]|` +
	`\[[^\]]*\][+*?{]|(?:^|[/:@])\.[*+](?:$|[/:@$)])|\)[+*?]`)

func isRegexp(text string) bool {
	if !strings.ContainsAny(text, `^$\([`) && !strings.Contains(text, ".*") && !strings.Contains(text, ".+") {
		return false // nearly all: matching costs as much as the rest of a pattern
	}
	return regexpText.MatchString(text)
}

// newPattern returns a pattern as only its text says.
func newPattern(claim, text string) pattern {
	p := pattern{text: text, literal: !strings.Contains(text, "*"), stops: "/"}
	if claim == "sub" {
		p.stops = "/:"
	}
	if !p.literal {
		p.parts = split(text)
	}
	return p
}

// split takes a pattern's text apart.
func split(text string) (parts []part) {
	for text != "" {
		before, after, found := strings.Cut(text, "*")
		if before != "" {
			parts = append(parts, part{text: before})
		}
		if !found {
			break
		}
		wild := 1
		for strings.HasPrefix(after, "*") {
			after, wild = after[1:], 2
		}
		parts = append(parts, part{wild: wild})
		text = after
	}
	return parts
}

// isWorkflow reports whether a claim is a workflow's path with its ref behind
// an @: GitHub's two, and GitLab's.
func isWorkflow(claim string) bool {
	return claim == "workflow_ref" || claim == "job_workflow_ref" || claim == "ci_config_ref_uri"
}

// checkWorkflow holds the place of the ref: with `dbt.yml@**` anybody who can
// push a branch writes the workflow.
func checkWorkflow(text string) error {
	path, ref, ok := strings.Cut(text, "@")
	switch {
	case !ok || path == "" || ref == "":
		return errors.New("has no path or no ref: want PATH@REF")
	case !strings.Contains(ref, "*"), strings.HasPrefix(ref, "refs/heads/"), strings.HasPrefix(ref, "refs/tags/"):
		return nil
	}
	return errors.New("has a wildcard right behind the @: want a literal ref, or one that starts with refs/heads/ or refs/tags/")
}

// match reports whether the pattern matches the whole value.
func (p pattern) match(value string) bool {
	switch {
	case p.literal:
		return value == p.text
	case p.ref != nil:
		// The first @ ends the path: a branch named x@refs/tags/v3 must not
		// let a wildcard in the path reach over it.
		path, ref, ok := strings.Cut(value, "@")
		return ok && p.glob(path) && p.ref.glob(ref)
	}
	return p.glob(value)
}

// clean reports whether a text has no control characters, no line or
// paragraph separators, and is UTF-8.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return !strings.ContainsFunc(s, func(r rune) bool { return !printable(r) }) && utf8.ValidString(s)
		}
	}
	return true
}

func printable(r rune) bool { return !unicode.IsControl(r) && r != '\u2028' && r != '\u2029' }

// glob matches by keeping the set of positions that the parts so far may end
// at: its time is bounded by pattern times value, with any number of wildcards.
func (p pattern) glob(value string) bool {
	if first := p.parts[0]; first.wild == 0 && !strings.HasPrefix(value, first.text) {
		return false
	}
	if last := p.parts[len(p.parts)-1]; last.wild == 0 && !strings.HasSuffix(value, last.text) {
		return false
	}
	if !clean(value) {
		return false
	}
	var short [2][256]bool // most claims are: no allocation
	ends, next := short[0][:], short[1][:]
	if len(value) >= len(ends) {
		ends, next = make([]bool, len(value)+1), make([]bool, len(value)+1)
	}
	ends, next = ends[:len(value)+1], next[:len(value)+1]
	ends[0] = true
	for _, part := range p.parts {
		clear(next)
		for i, reached := range ends {
			if !reached {
				continue
			}
			if part.wild == 0 {
				if strings.HasPrefix(value[i:], part.text) {
					next[i+len(part.text)] = true
				}
				continue
			}
			for j := i; j <= len(value) && !next[j]; j++ { // the rest of a marked run was marked with it
				next[j] = true
				if j < len(value) && part.wild == 1 && strings.IndexByte(p.stops, value[j]) >= 0 {
					break
				}
			}
		}
		ends, next = next, ends
	}
	return ends[len(value)]
}

// matches reports whether the claim of the token matches any of the patterns.
func (m matcher) matches(claims view) bool {
	for _, value := range claims.values(m.claim) {
		for _, p := range m.patterns {
			if p.match(value) || p.subject != nil && p.subject.match(value, claims) {
				return true
			}
		}
	}
	return false
}

// literals returns the patterns' texts when all are literals.
func (m matcher) literals() ([]string, bool) {
	texts := make([]string, len(m.patterns))
	for i, p := range m.patterns {
		if !p.literal {
			return nil, false
		}
		texts[i] = p.text
	}
	return texts, true
}

// A view is a token's claims as rules see them: with the derived ones.
type view struct {
	claims   ClaimSet
	identity Identity // whose issuer signed them; the zero Identity where the policy has none
	actor    actor
}

// values returns what a matcher may match: one value, or each element of a list
// (groups); none when the claim is absent or of another type.
func (v view) values(claim string) []string {
	switch claim {
	case "actor_kind":
		return []string{v.actor.kind} // derived; a claim of this name in the token counts for nothing
	case "pull_number":
		if n := pullNumber(v.claims); n != "" && v.identity.Kind == "github" {
			return []string{n}
		}
		return nil // derived as well
	}
	if s, ok := v.claims.String(claim); ok {
		return []string{s}
	}
	if v.identity.Kind == "github" {
		return nil // its tokens have no lists: what several claims hold must not look like one of them
	}
	list, _ := v.claims.Strings(claim)
	return list
}

// pullNumber derives the pull request's number from a ref of the form refs/pull/N/merge.
func pullNumber(claims ClaimSet) string {
	ref, _ := claims.String("ref")
	n, ok := strings.CutPrefix(ref, "refs/pull/")
	if !ok {
		return ""
	}
	n, ok = strings.CutSuffix(n, "/merge")
	if !ok || n == "" || strings.Trim(n, "0123456789") != "" {
		return ""
	}
	return n
}

// A subject is a sub claim, or a pattern of one, in one of GitHub's forms:
// repo:OWNER/REPO:… or repo:OWNER@ID/REPO@ID:…
type subject struct {
	owner, ownerID, repo, repoID string
	rest                         string
}

func parseSubject(s string) (subject, bool) {
	s, ok := strings.CutPrefix(s, "repo:")
	name, rest, colon := strings.Cut(s, ":")
	owner, repo, slash := strings.Cut(name, "/")
	if !ok || !colon || !slash || strings.Contains(repo, "/") {
		return subject{}, false
	}
	sub := subject{rest: rest}
	var ownerHas, repoHas bool
	sub.owner, sub.ownerID, ownerHas = strings.Cut(owner, "@")
	sub.repo, sub.repoID, repoHas = strings.Cut(repo, "@")
	return sub, ownerHas == repoHas && ownerHas == (sub.ownerID != "") && repoHas == (sub.repoID != "") && sub.owner != "" && sub.repo != ""
}

func (s subject) hasIDs() bool { return s.ownerID != "" }

// pinsIDs reports whether the ids of a pattern are literal.
func (s subject) pinsIDs() bool { return s.hasIDs() && !strings.Contains(s.ownerID+s.repoID, "*") }

// match matches a pattern in one of GitHub's forms against a subject in the
// other: repositories that are created or renamed get the form with ids, and
// trust that was written before must not break, nor widen. The names must
// match in both; where the pattern has ids, the token's id claims must too.
func (s subject) match(value string, v view) bool {
	got, ok := parseSubject(value)
	if !ok || s.hasIDs() == got.hasIDs() || v.identity.Kind != "github" {
		return false
	}
	fits := func(pattern, value string) bool { return newPattern("sub", pattern).match(value) }
	if s.hasIDs() {
		ownerID, hasOwner := v.claims.String("repository_owner_id")
		repoID, hasRepo := v.claims.String("repository_id")
		if !hasOwner || !hasRepo || !fits(s.ownerID, ownerID) || !fits(s.repoID, repoID) {
			return false
		}
	}
	return fits(s.owner, got.owner) && fits(s.repo, got.repo) && fits(s.rest, got.rest)
}
