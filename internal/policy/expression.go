package policy

import (
	"regexp"
	"strings"
)

// Expression returns the RE2 expression that matches from end to end what a
// pattern of a claim matches. That a subject may also be in the other form of
// GitHub's is not in it: SubjectOf tells.
func Expression(claim, text string) string {
	p := newPattern(claim, text)
	if p.literal {
		return regexp.QuoteMeta(text)
	}
	if isWorkflow(claim) {
		path, ref, _ := strings.Cut(text, "@")
		return wildcards(split(path), "/@", "@") + "@" + wildcards(split(ref), "/", "")
	}
	return wildcards(p.parts, p.stops, "")
}

// wildcards writes a pattern's parts: `*` matches none of one set of
// characters, `**` none of the other, neither any that is not printable.
func wildcards(parts []part, one, several string) string {
	var b strings.Builder
	for _, p := range parts {
		switch p.wild {
		case 0:
			b.WriteString(regexp.QuoteMeta(p.text))
		case 1:
			b.WriteString(`[^` + one + `\p{Cc}\x{2028}\x{2029}]*`)
		default:
			b.WriteString(`[^` + several + `\p{Cc}\x{2028}\x{2029}]*`)
		}
	}
	return b.String()
}

// A Subject is a `sub`, or a pattern of one, in one of GitHub's forms:
// repo:OWNER/REPO:REST or repo:OWNER@ID/REPO@ID:REST.
type Subject struct{ Owner, OwnerID, Repo, RepoID, Rest string }

// SubjectOf takes a subject in one of GitHub's forms apart.
func SubjectOf(text string) (Subject, bool) {
	s, ok := parseSubject(text)
	return Subject{s.owner, s.ownerID, s.repo, s.repoID, s.rest}, ok
}

// OtherForm returns the expression that matches the subjects of the other form
// that a pattern in this one matches, and what the id claims of their tokens
// must match then, by name.
func (s Subject) OtherForm() (expr string, ids map[string]string) {
	name := func(text string) string {
		if text != "" && strings.Trim(text, "*") == "" {
			return `[^/:@\p{Cc}\x{2028}\x{2029}]+` // a name is never empty
		}
		return wildcards(split(text), "/:@", "/:@")
	}
	rest := Expression("sub", s.Rest)
	if s.OwnerID == "" {
		id := `@[^/:]+`
		return "repo:" + name(s.Owner) + id + "/" + name(s.Repo) + id + ":" + rest, nil
	}
	return "repo:" + name(s.Owner) + "/" + name(s.Repo) + ":" + rest,
		map[string]string{"repository_owner_id": Expression("sub", s.OwnerID), "repository_id": Expression("sub", s.RepoID)}
}

// RefsOf returns how the refs of an event of GitHub's begin, nil where any may.
func RefsOf(event string) []string { return refsOf[event] }
