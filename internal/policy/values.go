package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// impossible says why a claim's value never has the form of a pattern, so that
// a rule with it would admit no token, and what to write; "" where it may. A
// pattern that begins with a wildcard is judged by less than a literal.
func impossible(kind, claim string, p pattern) string {
	if slices.Contains(kinds[kind].numeric, claim) && !numeric.MatchString(p.text) {
		return "is not a number, which this claim always is"
	}
	if kind != "github" {
		return ""
	}
	if values, ok := fixedValues[claim]; ok && p.literal && !slices.Contains(values, p.text) {
		return fmt.Sprintf("is never a value of this claim, valid values are %q", values)
	}
	if form, ok := githubForms[claim]; ok {
		return form(p)
	}
	return ""
}

var (
	numeric     = lazy.MustCompile(`^[0-9*]+$`)
	hexadecimal = lazy.MustCompile(`^[0-9a-f*]+$`)
	ownerText   = lazy.MustCompile(`^[A-Za-z0-9_.*-]+$`)
	repoText    = lazy.MustCompile(`^[A-Za-z0-9_.*-]+/[A-Za-z0-9_.*-]+$`)
	eventText   = lazy.MustCompile(`^[a-z_*]+$`)
)

// fixedValues are claims of GitHub with few values. (GitHub: OpenID Connect
// reference)
var fixedValues = map[string][]string{
	"ref_type":              {"branch", "tag"},
	"ref_protected":         {"true", "false"},
	"runner_environment":    {"github-hosted", "self-hosted"},
	"repository_visibility": {"public", "private", "internal"},
}

// githubForms say, by claim, why a pattern matches none of GitHub's values.
var githubForms = map[string]func(pattern) string{
	"repository": func(p pattern) string {
		switch {
		case isAddress(p.text):
			return "is a URL: write only OWNER/REPOSITORY"
		case p.literal && !repoText.MatchString(p.text):
			return "is not a repository's full name: write OWNER/REPOSITORY"
		}
		return ""
	},
	"repository_owner": func(p pattern) string {
		if isAddress(p.text) || !ownerText.MatchString(p.text) {
			return "is not an owner's name: write only the name, without / or an address"
		}
		return ""
	},
	"ref":              refForm,
	"base_ref":         branchForm,
	"head_ref":         branchForm,
	"job_workflow_ref": workflowForm,
	"workflow_ref":     workflowForm,
	"sha":              shaForm,
	"job_workflow_sha": shaForm,
	"workflow_sha":     shaForm,
	"event_name": func(p pattern) string {
		if !eventText.MatchString(p.text) {
			return fmt.Sprintf("is not an event name, which has lower case and _ only: write %q",
				cmp.Or(otherNames.Meant(p.text, events), strings.ReplaceAll(strings.ToLower(p.text), "-", "_")))
		}
		return eventForm(p.text)
	},
	"sub": subjectForm,
}

// eventForm says why an event is none, as far as that is known: GitHub adds some.
func eventForm(event string) string {
	switch {
	case event == "workflow_call":
		return "is never the event of an ID token: a called workflow has its caller's event"
	case slices.Contains(events, event):
		return ""
	}
	if name := otherNames.Meant(event, events); name != "" {
		return fmt.Sprintf("is not an event that starts a workflow: did you mean %q?", name)
	}
	return ""
}

// isAddress reports whether a text leads to a repository over the network.
func isAddress(text string) bool {
	return strings.Contains(text, "://") || strings.HasPrefix(text, "git@") || strings.HasPrefix(text, "github.com/") ||
		strings.HasSuffix(text, ".git")
}

func refForm(p pattern) string {
	before, _, _ := strings.Cut(p.text, "*")
	if strings.HasPrefix(before, "refs/") || !p.literal && strings.HasPrefix("refs/", before) {
		return ""
	}
	name := strings.TrimPrefix(strings.TrimPrefix(p.text, "heads/"), "tags/")
	if strings.HasPrefix(p.text, "tags/") {
		return fmt.Sprintf("is not a full ref: write %q", "refs/tags/"+name)
	}
	return fmt.Sprintf("is not a full ref: write %q, or %q for a tag", "refs/heads/"+name, "refs/tags/"+name)
}

func branchForm(p pattern) string {
	if strings.HasPrefix(p.text, "refs/") {
		return fmt.Sprintf("is a full ref, and this claim is only a branch name: write %q", strings.TrimPrefix(p.text, "refs/heads/"))
	}
	return ""
}

func workflowForm(p pattern) string {
	if isAddress(p.text) {
		return "is an address: write OWNER/REPOSITORY/.github/workflows/FILE.yml@REF"
	}
	if strings.HasPrefix(p.text, ".github/") || strings.HasPrefix(p.text, "./") || strings.HasPrefix(p.text, "/") {
		return "does not name a repository: write OWNER/REPOSITORY/.github/workflows/FILE.yml@REF"
	}
	// `uses: …@v3` becomes …@refs/tags/v3 in the claim.
	_, ref, _ := strings.Cut(p.text, "@")
	if ref == "" || strings.Contains(ref, "*") || strings.HasPrefix(ref, "refs/") ||
		hexadecimal.MatchString(ref) && (len(ref) == 40 || len(ref) == 64) {
		return ""
	}
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "heads/"), "tags/")
	return fmt.Sprintf("has no full ref behind the @: write %q, %q for a branch, or all digits of a commit id",
		"refs/tags/"+name, "refs/heads/"+name)
}

func shaForm(p pattern) string {
	if !hexadecimal.MatchString(p.text) || p.literal && len(p.text) != 40 && len(p.text) != 64 {
		return "is not a full commit ID: write all 40 digits, in lower case"
	}
	return ""
}

// subjectForm holds what follows the repository in a subject to how GitHub
// writes it: KEY:VALUE, again and again, with a colon in a value as %3A.
// (GitHub: OpenID Connect, customizing the token claims)
func subjectForm(p pattern) string {
	rest, ok := strings.CutPrefix(p.text, "repo:")
	if !ok {
		return ""
	}
	repository, context, _ := strings.Cut(rest, ":")
	if isAddress(p.text) || p.literal && !strings.Contains(repository, "/") {
		return "does not name a repository: write repo:OWNER/REPOSITORY:…"
	}
	switch key, value, _ := strings.Cut(context, ":"); key {
	case "environment":
		_, more, _ := strings.Cut(value, ":")
		if more != "" && !isClaimList(more) {
			return fmt.Sprintf("has a colon in the environment's name, which GitHub writes as %%3A: write %q",
				"repo:"+repository+":environment:"+strings.ReplaceAll(value, ":", "%3A"))
		}
	case "ref":
		ref, _, _ := strings.Cut(value, ":")
		if why := refForm(newPattern("ref", ref)); why != "" {
			return "has a ref in it that " + why
		}
	case "pull-request", "pull_requests":
		return fmt.Sprintf("never matches: write %q", "repo:"+repository+":pull_request")
	}
	return ""
}

// isClaimList reports whether a text may be the rest of a customized subject:
// KEY:VALUE pairs, or a wildcard that matches some.
func isClaimList(text string) bool {
	fields := strings.Split(text, ":")
	for i := 0; i < len(fields); i += 2 {
		key := fields[i]
		if strings.Contains(key, "*") {
			return true
		}
		if i+1 == len(fields) || !claimText.MatchString(key) || !inSubject(key) {
			return false
		}
	}
	return true
}

// inSubject reports whether a customized subject may be made of a claim, or of
// the two keys that are none.
func inSubject(key string) bool {
	switch key {
	case "context", "repo":
		return true
	case "actor_kind", "aud", "iss", "jti", "pull_number", "sub":
		return false // ours, or about the token itself
	}
	return slices.Contains(kinds["github"].claims, key) || strings.HasPrefix(key, "repo_property_")
}

// InSubject reports whether a customised subject of GitHub's may be made of a
// claim, or of one of the two keys that are none.
func InSubject(key string) bool { return inSubject(key) }
