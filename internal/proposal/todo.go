package proposal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

const pages = "https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/"

// leftToDo lists what the user does next, in order.
func leftToDo(repo *repository, targets []*target, p *Proposal, notes []string, removed []secretUse) (list []Step) {
	if repo.id == "" {
		list = append(list, Step{Text: "Fill in the repository's number, which outlives its name:",
			Commands: []string{"gh api repos/" + repo.name + " --jq .id"},
			Details:  []string{"in " + policyPath + " and " + testPath + ", or by `oidc-dbt init --repository-id NUMBER`"}})
	}
	if lines := marked(p.Files); len(lines) > 0 {
		list = append(list, Step{Text: "Fill in and check what could only be guessed:", Details: lines})
	}
	list = append(list, trustSteps(repo, targets, "")...)
	list = append(list, repo.environmentSteps(targets)...)
	if len(p.Diffs) > 0 {
		list = append(list, Step{Text: "Apply the change of " + p.changed() + ":", Commands: []string{
			"git apply " + patchPath + " && rm " + patchPath}})
	}
	if len(notes) > 0 {
		list = append(list, Step{Text: "Change by hand:", Details: notes})
	}
	list = append(list, Step{Text: "Put the commit and the version of a release into each `uses: oidc-dbt/oidc-dbt@…`.",
		Page: "https://github.com/oidc-dbt/oidc-dbt/releases"},
		Step{Text: "Check the policy:", Commands: []string{"oidc-dbt lint", "oidc-dbt test-policy"}})
	if s := superfluous(repo, removed); len(s.Details) > 0 {
		list = append(list, s)
	}
	return list
}

// trustSteps has the warehouses trust the jobs, one step for each type. The
// policy is that of the repository called platform, where that is not "".
func trustSteps(repo *repository, targets []*target, platform string) (list []Step) {
	for _, t := range targets {
		page := pages + "warehouses/" + t.dbtType + ".md#set-up"
		if slices.ContainsFunc(list, func(s Step) bool { return s.Page == page }) {
			continue
		}
		step := Step{
			Text: fmt.Sprintf("Have the warehouse trust these jobs (%s by %s):", t.dbtType, t.provider), Page: page,
			Commands: generators(repo, targets, t, platform),
			Details:  append(subjects(repo, targets, t), sharedUsers(repo, targets, t)...),
		}
		if platform != "" && len(step.Commands) > 0 {
			step.Details = slices.Insert(step.Details, 0, "in a checkout of "+platform+", once its policy has this repository")
		}
		list = append(list, step)
	}
	return list
}

// generators are the commands that print what the provider of a type's targets
// must be told.
func generators(repo *repository, targets []*target, like *target, platform string) (lines []string) {
	owner, _, _ := strings.Cut(repo.name, "/")
	for _, t := range targets {
		if t.dbtType != like.dbtType || t.provider != like.provider {
			continue
		}
		if t.provider == "token_exchange" && t.dbtType != "snowflake" && !strings.Contains(t.tokenURL(), "/realms/") {
			continue // of the authorization servers only Keycloak can be told
		}
		line := "oidc-dbt trust generate --target " + t.name
		if repo.host == publicHost {
			line += fmt.Sprintf(` --owner-id "%s=$(gh api users/%s --jq .id)"`, owner, owner)
		}
		if platform != "" {
			line += fmt.Sprintf(` --repository "$(gh api repos/%s --jq .id)=%s"`, repo.name, repo.name)
		}
		lines = append(lines, line)
	}
	return lines
}

// tokenURL is where the target's authorization server takes the ID token.
func (t *target) tokenURL() string {
	i := slices.IndexFunc(t.exchange, func(f field) bool { return f.key == "token_url" })
	if i < 0 {
		return ""
	}
	return t.exchange[i].value
}

// changed names the workflows that change.
func (p *Proposal) changed() string {
	var paths []string
	for _, d := range p.Diffs {
		paths = append(paths, d.Path)
	}
	return strings.Join(paths, ", ")
}

// marks begin the comments that ask for a look.
var marks = lazy.MustCompile(`# (?:guess|fill in|fix)`)

// marked returns the lines of files that are to be looked at.
func marked(files []File) (lines []string) {
	for _, f := range files {
		n := 0
		for line := range strings.Lines(f.Text) {
			n++
			if n <= 2 || !marks.MatchString(line) {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s:%d: %s", f.Path, n, strings.TrimSpace(line)))
		}
	}
	return lines
}

// subjects are the ID tokens that a type's targets admit, in both of GitHub's forms.
func subjects(repo *repository, targets []*target, like *target) (lines []string) {
	for _, t := range targets {
		if t.dbtType != like.dbtType || t.provider != like.provider {
			continue
		}
		for _, r := range t.rules {
			if line := t.name + ": the subject is " + r.subject(repo); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return append(
		lines,
		"repositories created, renamed or transferred after 15 July 2026 have ids in it: repo:OWNER@ID/NAME@ID:…",
	)
}

// subject returns the one of the rule's ID tokens, in GitHub's form without ids.
func (r rule) subject(repo *repository) string {
	context := "ref:refs/heads/" + repo.branch
	if r.environment != "" {
		context = "environment:" + strings.ReplaceAll(r.environment, ":", "%3A")
	} else if r.event != "" {
		context = r.event
	}
	return "repo:" + repo.name + ":" + context
}

// sharedUsers tells of Snowflake users that a type's targets want to log in as
// with several subjects, each of which gets what the others get.
func sharedUsers(repo *repository, targets []*target, like *target) (lines []string) {
	if like.dbtType != "snowflake" || like.provider != "oidc" {
		return nil
	}
	subjects := map[string][]string{}
	var users []string
	for _, t := range targets {
		if t.dbtType != like.dbtType || t.provider != like.provider || t.user == "" {
			continue
		}
		if !slices.Contains(users, t.user) {
			users = append(users, t.user)
		}
		for _, r := range t.rules {
			if s := r.subject(repo); !slices.Contains(subjects[t.user], s) {
				subjects[t.user] = append(subjects[t.user], s)
			}
		}
	}
	for _, user := range users {
		if n := len(subjects[user]); n > 1 {
			lines = append(lines, fmt.Sprintf("the user %s would log in with %d subjects, so that one job could log in as the "+
				"other: give each a user (in the policy `user:`, or `with: {user: …}` after `from:`)", user, n))
		}
	}
	return lines
}

// environmentSteps create the environments, each with the default branch as the only one.
func (r *repository) environmentSteps(targets []*target) (list []Step) {
	for _, t := range targets {
		for _, rule := range t.rules {
			if rule.environment == "" {
				continue
			}
			branch, flag := r.branch, ""
			switch {
			case rule.event != "":
				continue // its branches are other people's
			case rule.release:
				branch, flag = "v*", " -f type=tag"
			case rule.ref != "":
				branch = strings.TrimPrefix(rule.ref, "refs/heads/")
			}
			text := fmt.Sprintf("Protect the environment %q: reviewers, and deployments only from %s:", rule.environment, branch)
			if slices.ContainsFunc(list, func(s Step) bool { return s.Text == text }) {
				continue
			}
			path := "repos/" + r.name + "/environments/" + strings.NewReplacer("/", "%2F", " ", "%20").Replace(rule.environment)
			list = append(list, Step{Text: text, Commands: []string{
				"gh api --method PUT " + path + " -F 'deployment_branch_policy[protected_branches]=false'" +
					" -F 'deployment_branch_policy[custom_branch_policies]=true'",
				fmt.Sprintf(`gh api --method POST %s/deployment-branch-policies -f name='%s'%s`, path, branch, flag),
			}, Details: append([]string{"reviewers are chosen in the repository's settings, under Environments"},
				scheduled(targets, rule.environment)...)})
		}
	}
	return list
}

// scheduled tells of workflows that start by the clock and use an environment.
func scheduled(targets []*target, environment string) (lines []string) {
	for _, t := range targets {
		if !slices.ContainsFunc(t.rules, func(r rule) bool { return r.environment == environment && r.event == "" }) {
			continue
		}
		for _, u := range t.uses {
			line := u.workflow.path + " starts by schedule too: with reviewers, each of those runs waits until one approves it"
			if u.workflow.starts("schedule") && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// superfluous names the secrets that the action replaces, with each place that
// reads them.
func superfluous(repo *repository, removed []secretUse) Step {
	s := Step{Text: "After the first green run, delete the secrets that nothing reads any more:"}
	var seen []string
	for _, use := range removed {
		if slices.Contains(seen, use.name) {
			continue
		}
		seen = append(seen, use.name)
		s.Details = append(s.Details, use.name+": "+strings.Join(repo.readers(use.name), ", "))
		s.Commands = append(s.Commands, "gh secret delete "+use.name+" --repo "+repo.name)
	}
	return s
}
