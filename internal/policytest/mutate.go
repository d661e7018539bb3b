package policytest

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// Mutate changes the claims of each allowed case one at a time, and returns the
// changes that a target of the case still allows. Claims that follow from the
// changed one change with it.
func (f *File) Mutate(now time.Time) []Mutant {
	survivors := []Mutant{} // not nil: that is said, too
	for _, c := range f.Cases {
		if c.Allow == nil {
			continue
		}
		for _, m := range c.mutations() {
			given := maps.Clone(c.Claims)
			given[m.Claim] = m.Value // nil: it does not follow from others either
			claims, err := f.token(c, given)
			if err != nil {
				continue // no token is like that
			}
			for _, target := range c.Allow {
				if rule, allowed := f.Policy.Decides(target, claims, now); allowed {
					m.Rule, m.Guard = rule, f.guardOf(target, rule)
					survivors = append(survivors, m)
					break
				}
			}
		}
	}
	return survivors
}

// guardOf returns the guard of those whom a rule of the target admits, "" for none.
func (f *File) guardOf(name string, rule policy.Rule) string {
	target, err := f.Policy.Target(name)
	if err != nil {
		return "" // it has decided
	}
	for _, r := range target.Rules() {
		if r.Rule == rule {
			return guardText(r.Guard())
		}
	}
	return ""
}

// mutations are the changes of one case, claim by claim.
func (c Case) mutations() (list []Mutant) {
	for _, claim := range slices.Sorted(maps.Keys(c.Claims)) {
		list = append(list, Mutant{Case: c.Name, Claim: claim})
		text, ok := c.Claims[claim].(string)
		if !ok {
			continue
		}
		for _, value := range slices.Concat([]string{text + "-evil", otherCase(text)}, others(claim, text)) {
			if value != text {
				list = append(list, Mutant{Case: c.Name, Claim: claim, Value: value})
			}
		}
	}
	for _, claim := range []string{"event_name", "environment", "ref"} {
		if _, given := c.Claims[claim]; !given && c.Identity == "github" {
			for _, value := range others(claim, "") {
				list = append(list, Mutant{Case: c.Name, Claim: claim, Value: value})
			}
		}
	}
	return list
}

// others are values that an attacker would try, or a mistake would bring.
func others(claim, text string) []string {
	switch claim {
	case "event_name":
		return []string{"pull_request", "pull_request_target", "workflow_run", "issue_comment"}
	case "environment":
		return []string{"another"}
	case "ref":
		return []string{"refs/heads/another", "refs/tags/another", "refs/pull/1/merge"}
	case "repository", "project_path":
		if _, name, ok := strings.Cut(text, "/"); ok {
			return []string{"another/" + name}
		}
	case "job_workflow_ref", "workflow_ref":
		if path, _, ok := strings.Cut(text, "@"); ok {
			return []string{path + "@refs/heads/another", "another/" + text}
		}
	}
	return nil
}

// otherCase returns the text with its first letter in the other case.
func otherCase(text string) string {
	for i, r := range text {
		if unicode.IsUpper(r) {
			return text[:i] + string(unicode.ToLower(r)) + text[i+len(string(r)):]
		}
		if unicode.IsLower(r) {
			return text[:i] + string(unicode.ToUpper(r)) + text[i+len(string(r)):]
		}
	}
	return text
}
