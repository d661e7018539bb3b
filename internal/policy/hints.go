package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// hint returns what to do about the mismatches of a rule, where their cause
// is a known one: what people ask about most with other actions.
func (v view) hint(r rule, mismatches []Mismatch) string {
	if v.identity.Name != r.identity.Name {
		return ""
	}
	if hint := v.hintOther(r, mismatches); hint != "" || r.identity.Kind != "github" {
		return hint
	}
	missed := make([]matcher, 0, len(mismatches))
	for _, m := range r.matchers {
		if !m.matches(v) {
			missed = append(missed, m)
		}
	}
	for _, known := range []func(view, rule, []matcher) string{hintEvent, hintCase, hintEnvironment, hintWorkflow, hintRef, hintSubject} {
		if hint := known(v, r, missed); hint != "" {
			return hint
		}
	}
	return ""
}

// hintOther is hint for kinds other than GitHub's.
func (v view) hintOther(r rule, mismatches []Mismatch) string {
	missed := func(claim string) bool {
		return slices.ContainsFunc(mismatches, func(m Mismatch) bool { return m.Claim == claim })
	}
	absent := func(claims ...string) bool {
		return slices.ContainsFunc(claims, func(c string) bool { return missed(c) && !v.claims.Has(c) })
	}
	switch kind := r.identity.Kind; {
	case kind == "people" && absent("groups") && groupsOverflow(v.claims):
		return "assign the groups to the application in Entra ID, so that only those are in the token, or match app roles (`roles`)"
	case kind == "people" && absent("groups", "roles"):
		return "let the identity provider put groups or roles into the client's ID tokens (by a mapper, a claim or a scope), then sign in again"
	case kind == "buildkite" && absent("pipeline_id", "organization_id", "cluster_id", "queue_id", "build_id"):
		return "a token of Buildkite has ids only if they are asked for: let oidc-dbt request it, or add " +
			"`--claim organization_id,pipeline_id,build_id,cluster_id,queue_id` to `buildkite-agent oidc request-token`"
	case kind == "circleci" && missed(circleci+"ssh-rerun"):
		return "a person has a shell in a job that was run again with SSH: run it again without"
	case kind == "gitlab" && missed("job_project_id"):
		return "the job runs in another project than the pipeline's source, as for a merge request: " +
			"if the rule is to admit it, name job_project_id in the rule"
	case kind == "gitlab" && missed("pipeline_source") && !r.namesEvent():
		return "a rule admits merge requests and other sources only when it lists them under pipeline_source"
	}
	return ""
}

// find returns the matcher of a claim.
func find(list []matcher, claim string) (m matcher, ok bool) {
	i := slices.IndexFunc(list, func(m matcher) bool { return m.claim == claim })
	if i < 0 {
		return m, false
	}
	return list[i], true
}

// literal returns a value that the matcher wants, "" when it is all wildcards.
func (m matcher) literal() string {
	for _, p := range m.patterns {
		if p.literal {
			return p.text
		}
	}
	return ""
}

func hintEvent(v view, r rule, missed []matcher) string {
	event, _ := v.claims.String("event_name")
	_, missedEvent := find(missed, "event_name")
	_, missedRef := find(missed, "ref")
	_, missedSubject := find(missed, "sub")
	switch refused := missedEvent || !r.admits(v); {
	case strings.HasPrefix(event, "pull_request") && (refused || missedRef || missedSubject):
		return fmt.Sprintf("this is a pull request, whose author controls its workflow; to admit it all the same, "+
			"give it a rule of its own with event_name: %s", event)
	case refused && !missedEvent:
		return fmt.Sprintf("a rule admits an event such as %q only when it lists it under event_name", strictyaml.Cut(event))
	}
	return ""
}

func hintCase(v view, _ rule, missed []matcher) string {
	for _, m := range missed {
		got, ok := v.claims.String(m.claim)
		ok = ok && m.claim != "actor_kind" // derived: the token's own counts for nothing
		for _, p := range m.patterns {
			if folded := newPattern(m.claim, strings.ToLower(p.text)); ok && folded.match(strings.ToLower(got)) {
				return fmt.Sprintf("%s differs only in letter case: write %q in the policy", m.claim, strictyaml.Cut(got))
			}
		}
	}
	return ""
}

func hintEnvironment(v view, _ rule, missed []matcher) string {
	if v.claims.Has("environment") {
		return ""
	}
	want := ""
	if m, ok := find(missed, "environment"); ok {
		want = m.literal()
	} else if m, ok := find(missed, "sub"); ok {
		if _, name, ok := strings.Cut(m.patterns[0].text, ":environment:"); ok && !strings.Contains(name, "*") {
			want = name
		}
		if want == "" {
			return ""
		}
	} else {
		return ""
	}
	if want == "" {
		return "the job names no environment: add `environment: …` to the job"
	}
	return fmt.Sprintf("the job names no environment: add `environment: %s` to the job", want)
}

func hintWorkflow(v view, _ rule, missed []matcher) string {
	m, ok := find(missed, "job_workflow_ref")
	if !ok {
		return ""
	}
	got, _ := v.claims.String("job_workflow_ref")
	caller, _ := v.claims.String("workflow_ref")
	path, _, _ := strings.Cut(got, "@")
	for _, p := range m.patterns {
		if want, _, _ := strings.Cut(p.text, "@"); want == path {
			return "the job runs in the right workflow at another ref: what follows the @ of `uses:` in the caller decides"
		}
	}
	if got == caller {
		return "the job does not run in the reusable workflow that the rule names: call that with `uses:`"
	}
	return "job_workflow_ref is the innermost reusable workflow, the one whose job asks for the token"
}

func hintRef(v view, _ rule, missed []matcher) string {
	m, ok := find(missed, "ref")
	if !ok {
		return ""
	}
	got, _ := v.claims.String("ref")
	for _, p := range m.patterns {
		if !strings.HasPrefix(p.text, "refs/") && strings.HasSuffix(got, "/"+p.text) {
			return fmt.Sprintf("ref is a whole ref: write %q in the policy", strictyaml.Cut(got))
		}
	}
	return ""
}

func hintSubject(v view, _ rule, missed []matcher) string {
	m, ok := find(missed, "sub")
	if !ok {
		return ""
	}
	got, gotOK := parseSubject(v.claims.Subject())
	for _, p := range m.patterns {
		if p.subject != nil && gotOK && p.subject.hasIDs() != got.hasIDs() && newPattern("sub", p.subject.rest).match(got.rest) {
			return "the token's subject is of GitHub's other form (with immutable ids, or without); both match where owner, " +
				"repository and their ids are equal: compare them with the claims repository, repository_owner_id and repository_id"
		}
	}
	if environment, has := v.claims.String("environment"); has && !strings.Contains(m.patterns[0].text, ":environment:") {
		return fmt.Sprintf("the job names the environment %q, which takes the ref's place in the subject", strictyaml.Cut(environment))
	}
	return ""
}
