package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
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
	stops   string // characters that `*` stops at
	parts   []part // of a pattern with wildcards
}

// part is a wildcard or the text between two.
type part struct {
	text string
	wild int // 0: text; 1: `*`; 2: `**`
}

// maxPattern bounds a pattern; the longest real value, job_workflow_ref with a
// branch, is under 512 bytes.
const maxPattern = 1024

func compilePattern(claim, text string) (pattern, error) {
	switch {
	case text == "":
		return pattern{}, errors.New("is empty")
	case len(text) > maxPattern:
		return pattern{}, fmt.Errorf("is %d bytes long, want at most %d", len(text), maxPattern)
	case strings.Trim(text, "*/:@") == "":
		return pattern{}, errors.New("is only wildcards and would match anything: name what is meant, or leave the claim out")
	}
	p := pattern{text: text, literal: !strings.Contains(text, "*"), stops: "/"}
	if claim == "sub" {
		p.stops = "/:"
	}
	if isWorkflow(claim) {
		if err := checkWorkflow(text); err != nil {
			return pattern{}, err
		}
	}
	if claim == "event_name" && !p.literal {
		return pattern{}, errors.New("has a wildcard: each event must be named")
	}
	p.parts = split(text)
	return p, nil
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

func isWorkflow(claim string) bool { return claim == "workflow_ref" || claim == "job_workflow_ref" }

// checkWorkflow holds the place of the ref: with `dbt.yml@**` anybody who can
// push a branch writes the workflow.
func checkWorkflow(text string) error {
	_, ref, ok := strings.Cut(text, "@")
	switch {
	case !ok:
		return errors.New("has no @: want OWNER/REPO/PATH@REF")
	case !strings.Contains(ref, "*"), strings.HasPrefix(ref, "refs/heads/"), strings.HasPrefix(ref, "refs/tags/"):
		return nil
	}
	return errors.New("has a wildcard right behind the @: want a literal ref, or one that starts with refs/heads/ or refs/tags/")
}

// match reports whether the pattern matches the whole value.
func (p pattern) match(claim, value string) bool {
	if p.literal {
		return value == p.text
	}
	if isWorkflow(claim) {
		// The first @ ends the path: a branch named x@refs/tags/v3 must not
		// let a wildcard in the path reach over it.
		path, ref, ok := strings.Cut(p.text, "@")
		valuePath, valueRef, valueOK := strings.Cut(value, "@")
		return ok && valueOK && p.sub(path).glob(valuePath) && p.sub(ref).glob(valueRef)
	}
	return p.glob(value)
}

// sub returns a piece of the pattern as a pattern.
func (p pattern) sub(text string) pattern {
	return pattern{stops: p.stops, parts: split(text)}
}

// glob matches by keeping the set of positions that the parts so far may end
// at: its time is bounded by pattern times value, whatever the wildcards.
func (p pattern) glob(value string) bool {
	ends := make([]bool, len(value)+1)
	ends[0] = true
	for _, part := range p.parts {
		next := make([]bool, len(value)+1)
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
			for j := i; ; j++ {
				if next[j] {
					break // the rest was marked from an earlier start
				}
				next[j] = true
				if j == len(value) || value[j] < ' ' || value[j] == 0x7f || part.wild == 1 && strings.IndexByte(p.stops, value[j]) >= 0 {
					break
				}
			}
		}
		ends = next
	}
	return ends[len(value)]
}

// matches reports whether the claim of the token matches any of the patterns.
func (m matcher) matches(claims view) bool {
	for _, value := range claims.values(m.claim) {
		for _, p := range m.patterns {
			if p.match(m.claim, value) || m.claim == "sub" && p.matchSubject(value, claims) {
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
	claims idtoken.Claims
	kind   string // of the identity
	actor  string // actor_kind
}

// values returns what a matcher may match: one value; for people also each
// element of a list (groups); none when the claim is absent or of another type.
func (v view) values(claim string) []string {
	switch claim {
	case "actor_kind":
		return []string{v.actor} // derived; a claim of this name in the token counts for nothing
	case "pull_number":
		if n := pullNumber(v.claims); n != "" {
			return []string{n}
		}
		return nil
	}
	if s, ok := v.claims.String(claim); ok {
		return []string{s}
	}
	if v.kind == "people" {
		list, _ := v.claims.Strings(claim)
		return list
	}
	return nil
}

// pullNumber derives the pull request's number from a ref of the form refs/pull/N/merge.
func pullNumber(claims idtoken.Claims) string {
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

// A subject is a sub claim, or a pattern of one, in GitHub's form.
type subject struct {
	owner, ownerID, repo, repoID string
	rest                         string // with its leading colon
}

// parseSubject takes repo:OWNER/REPO:… and repo:OWNER@ID/REPO@ID:… apart.
func parseSubject(s string) (subject, bool) {
	s, ok := strings.CutPrefix(s, "repo:")
	if !ok {
		return subject{}, false
	}
	name, rest, ok := strings.Cut(s, ":")
	owner, repo, slash := strings.Cut(name, "/")
	if !ok || !slash || strings.Contains(repo, "/") {
		return subject{}, false
	}
	sub := subject{rest: ":" + rest}
	var ownerIDs, repoIDs bool
	sub.owner, sub.ownerID, ownerIDs = strings.Cut(owner, "@")
	sub.repo, sub.repoID, repoIDs = strings.Cut(repo, "@")
	return sub, ownerIDs == repoIDs && sub.owner != "" && sub.repo != ""
}

// matchSubject matches a pattern in one of GitHub's forms against a subject
// in the other: repositories that are created or renamed get the form with
// ids, and trust that was written before must not break, nor widen. The names
// must match in both; where the pattern has ids, the token's id claims must too.
func (p pattern) matchSubject(value string, claims view) bool {
	if claims.kind != "github" {
		return false
	}
	want, ok := parseSubject(p.text)
	got, gotOK := parseSubject(value)
	if !ok || !gotOK || (want.ownerID == "") == (got.ownerID == "") {
		return false
	}
	if want.ownerID != "" {
		ownerID, _ := claims.claims.String("repository_owner_id")
		repoID, _ := claims.claims.String("repository_id")
		if !p.sub(want.ownerID).glob(ownerID) || !p.sub(want.repoID).glob(repoID) || ownerID == "" || repoID == "" {
			return false
		}
	}
	plain := func(s subject) string { return "repo:" + s.owner + "/" + s.repo + s.rest }
	return p.sub(plain(want)).glob(plain(got))
}
