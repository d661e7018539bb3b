package trust

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// apiVersion is that of GitHub's REST API which the commands are for.
const apiVersion = "X-GitHub-Api-Version: 2026-03-10"

// githubScript is GitHub's part of the wall: the subject's template, and the
// protection of the environments that the rules name.
func (d Demand) githubScript() (s Script) {
	repositories := d.repositories()
	if len(d.Options.SubTemplate) > 0 {
		d.customiseSubject(&s, repositories)
	}
	for _, e := range d.environments() {
		for _, full := range repositories {
			protect(&s, full, e.name, e.refs)
		}
	}
	return s
}

// repositories are the full names that the rules name by literals, or the
// options by their ids.
func (d Demand) repositories() (names []string) {
	for _, r := range d.Rules {
		if r.Identity.Kind != "github" {
			continue
		}
		list, _ := r.Of("repository").Literals()
		ids, _ := r.Of("repository_id").Literals()
		for _, id := range ids {
			if name := d.Options.Repositories[id]; name != "" {
				list = append(slices.Clip(list), name)
			}
		}
		names = append(names, list...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

type environment struct {
	name string
	refs []string
}

// environments are those that the rules name by literals, with the refs that
// may reach them.
func (d Demand) environments() (list []environment) {
	for _, r := range d.Rules {
		names, _ := r.Of("environment").Literals()
		for _, name := range names {
			if r.Identity.Kind != "github" {
				continue
			}
			i := slices.IndexFunc(list, func(e environment) bool { return e.name == name })
			if i < 0 {
				i = len(list)
				list = append(list, environment{name: name})
			}
			for _, ref := range r.Of("ref").Patterns {
				if !slices.Contains(list[i].refs, ref) {
					list[i].refs = append(list[i].refs, ref)
				}
			}
		}
	}
	return list
}

// customiseSubject sets the template. It changes the subject for everything
// that trusts the repository's tokens, so it comes after all new trust.
func (d Demand) customiseSubject(s *Script, repositories []string) {
	body, _ := json.Marshal(map[string]any{"use_default": false, "include_claim_keys": d.Options.SubTemplate})
	doc := "Customise the subject of the repository's ID tokens. This changes `sub` for everything that trusts them\n" +
		"(other clouds, npm, PyPI …): give each of those its new trust first, then switch, then remove the old trust."
	for _, full := range repositories {
		at := "repos/" + full + "/actions/oidc/customization/sub"
		s.run("What the subject is now, and its prefix:", command("gh", "api", "-H", apiVersion, at))
		s.run(doc, feed(command("gh", "api", "-H", apiVersion, "--method", "PUT", at, "--input", "-"), string(body)))
	}
	if len(repositories) == 0 {
		repository := s.needs(Variable{Name: "REPOSITORY", Doc: "OWNER/REPOSITORY whose jobs log in"})
		at := shellText(`"repos/$` + string(repository) + `/actions/oidc/customization/sub"`)
		s.run("What the subject is now, and its prefix:", command("gh", "api", "-H", apiVersion, at))
		s.run(doc, feed(command("gh", "api", "-H", apiVersion, "--method", "PUT", at, "--input", "-"), string(body)))
	}
}

// protect protects an environment: reviewers that are not the author, and the
// refs that may deploy to it.
func protect(s *Script, full, name string, refs []string) {
	reviewers := s.needs(Variable{Name: "REVIEWER_TEAM_ID", Doc: "the id of the team that approves deployments",
		Find: `gh api "orgs/${ORGANISATION:?}/teams/${TEAM:?}" --jq .id`})
	at := "repos/" + full + "/environments/" + url.PathEscape(name)
	s.run(fmt.Sprintf("The protection of environment %q now; the next command replaces it:", name),
		command("gh", "api", "-H", apiVersion, at)+" || true")
	custom := len(refs) > 0
	body := fmt.Sprintf(`{"prevent_self_review":true,"reviewers":[{"type":"Team","id":'"$%s"'}],`+
		`"deployment_branch_policy":{"protected_branches":%t,"custom_branch_policies":%t}}`, reviewers, !custom, custom)
	s.run("Required reviewers, none of them the author, and only the refs that the policy admits:",
		"printf '%s' '"+body+"' |\n  "+command("gh", "api", "-H", apiVersion, "--method", "PUT", at, "--input", "-"))
	for _, ref := range refs {
		kind, pattern := "branch", strings.TrimPrefix(ref, "refs/heads/")
		if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			kind, pattern = "tag", tag
		}
		if strings.HasPrefix(ref, "refs/pull/") {
			continue
		}
		s.run("", command("gh", "api", "-H", apiVersion, "--method", "POST", at+"/deployment-branch-policies",
			"-f", "name="+pattern, "-f", "type="+kind)+" || true  # it may be there")
	}
}

// environmentFile is what `gh api repos/O/R/environments/E` prints.
type environmentFile struct {
	Name            string `json:"name"`
	ProtectionRules []struct {
		Type              string            `json:"type"`
		PreventSelfReview bool              `json:"prevent_self_review"`
		Reviewers         []json.RawMessage `json:"reviewers"`
	} `json:"protection_rules"`
	DeploymentBranchPolicy *struct {
		ProtectedBranches    bool `json:"protected_branches"`
		CustomBranchPolicies bool `json:"custom_branch_policies"`
	} `json:"deployment_branch_policy"`
}

// isEnvironment reports whether a file is an environment of GitHub's API.
func isEnvironment(text []byte) bool {
	var keys map[string]json.RawMessage
	if json.Unmarshal(text, &keys) != nil {
		return false
	}
	_, rules := keys["protection_rules"]
	_, name := keys["name"]
	return rules && name
}

// checkEnvironment returns what is wrong with the protection of an environment.
func (d Demand) checkEnvironment(f File) (list []Finding, err error) {
	var e environmentFile
	if err := json.Unmarshal(f.Text, &e); err != nil {
		return nil, usage("%s: want what `gh api repos/OWNER/REPOSITORY/environments/NAME` prints: %v", f.Name, err)
	}
	i := slices.IndexFunc(d.environments(), func(have environment) bool { return have.name == e.Name })
	if i < 0 {
		return []Finding{{Name: "environment-unused", Severity: "note",
			Message: fmt.Sprintf("%s: no rule of target %q names environment %q", f.Name, d.Target.Name(), e.Name)}}, nil
	}
	reviewed, self := false, false
	for _, r := range e.ProtectionRules {
		if r.Type == "required_reviewers" && len(r.Reviewers) > 0 {
			reviewed, self = true, !r.PreventSelfReview
		}
	}
	if !reviewed {
		list = append(list, Finding{Name: "environment-unprotected", Severity: "warning",
			Message: fmt.Sprintf("%s: environment %q has no required reviewers: who can start a job in it has its credential; "+
				"add reviewers", f.Name, e.Name)})
	} else if self {
		list = append(list, Finding{Name: "environment-self-review", Severity: "note",
			Message: fmt.Sprintf("%s: the author of a deployment to environment %q may approve it: set prevent_self_review", f.Name, e.Name)})
	}
	if e.DeploymentBranchPolicy == nil {
		list = append(list, Finding{Name: "environment-any-branch", Severity: "warning",
			Message: fmt.Sprintf("%s: any branch and tag may deploy to environment %q: limit it to those that the policy admits", f.Name, e.Name)})
	}
	return list, nil
}
