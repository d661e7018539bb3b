package proposal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const schemas = "https://raw.githubusercontent.com/oidc-dbt/oidc-dbt/main/"

// policyText returns the policy.
func policyText(repo *repository, targets []*target) string {
	var out strings.Builder
	out.WriteString("# yaml-language-server: $schema=" + schemas + "policy.schema.json\n" +
		"# Proposed by `oidc-dbt init`. Check each line with \"guess\", and replace each value with \"fill in\".\n" +
		"version: 1\n")
	if issuer := repo.issuer(); issuer != "" {
		out.WriteString("\nidentities:\n")
		write(
			&out,
			2,
			[]field{
				{key: "github", fields: []field{{key: "issuer", value: scalar(issuer), comment: "guess: by the remote's host"}}},
			},
		)
	}
	out.WriteString("\ntargets:\n")
	for _, t := range targets {
		write(&out, 2, []field{{key: t.name, fields: t.fields()}})
		t.writeRules(&out, repo, t.rules, field{})
	}
	return out.String()
}

// fields returns all of a target but its rules.
func (t *target) fields() (fields []field) {
	for _, line := range t.about {
		fields = append(fields, field{comment: line})
	}
	for _, fix := range t.fixes {
		fields = append(fields, field{comment: "fix: " + fix})
	}
	fields = append(fields, field{key: "dbt", fields: t.block},
		field{key: "exchange", fields: []field{{key: t.provider, fields: t.exchange}}})
	if t.lifetime != "" {
		fields = append(fields, field{key: "lifetime", value: t.lifetime})
	}
	return fields
}

// writeRules writes a target's `allow`; workflow is the matcher of the only
// workflow that may be the job's, without a key for any.
func (t *target) writeRules(out *strings.Builder, repo *repository, rules []rule, workflow field) {
	out.WriteString("    allow:\n")
	for _, r := range rules {
		rule := []field{}
		if repo.id != "" {
			rule = append(rule, field{key: "repository_id", value: `"` + repo.id + `"`})
		} else {
			rule = append(rule, field{
				comment: "repository_id: fill in what `gh api repos/" + repo.name + " --jq .id` prints, in quotes"})
		}
		if r.environment != "" {
			rule = append(rule, field{key: "environment", value: scalar(r.environment), comment: r.guess})
		}
		ref := field{key: "ref", value: scalar(r.ref)}
		switch {
		case r.release:
			ref.comment = "guess: the tag of a release"
		case r.ref == "":
			ref.value = scalar("refs/heads/" + repo.branch)
			if !repo.known {
				ref.comment = "guess: the default branch"
			}
		}
		rule = append(rule, ref)
		if r.event != "" {
			rule = append(rule, field{key: "event_name", value: r.event})
		}
		if r.hosted {
			rule = append(rule, field{key: "runner_environment", value: hosted})
		}
		if workflow.key != "" {
			rule = append(rule, workflow)
		}
		fmt.Fprintf(out, "      - repository: %s\n", repo.name)
		write(out, 8, rule)
	}
}

// claims are those of a case.
type claims struct{ repository, id, environment, ref, event, runner string }

// hosted is the claim of a job on one of GitHub's own runners.
const hosted = "github-hosted"

// matches reports whether a proposed rule admits claims.
func (r rule) matches(repo *repository, c claims) bool {
	ref := cmpOr(r.ref, "refs/heads/"+repo.branch)
	sameRef := c.ref == ref || ref == pullRequestRef && strings.HasPrefix(c.ref, "refs/pull/") ||
		ref == releaseRef && strings.HasPrefix(c.ref, "refs/tags/v")
	sameEvent := c.event == r.event || c.event == "release" && r.event == "" // one that needs no listing
	return c.repository == repo.name && c.id == repo.id && (r.environment == "" || c.environment == r.environment) &&
		sameRef && sameEvent && (!r.hosted || c.runner == hosted)
}

// claims returns those of a job that a rule is for.
func (r rule) claims(repo *repository) claims {
	c := claims{repository: repo.name, id: repo.id, environment: r.environment,
		ref: cmpOr(r.ref, "refs/heads/"+repo.branch), event: r.event}
	if r.hosted {
		c.runner = hosted
	}
	switch {
	case c.ref == pullRequestRef:
		c.ref = "refs/pull/7/merge"
	case r.release:
		c.ref, c.event = "refs/tags/v1.0.0", "release"
	}
	return c
}

// admitted returns the targets that claims open.
func admitted(repo *repository, targets []*target, c claims) (list []string) {
	for _, t := range targets {
		if slices.ContainsFunc(t.rules, func(r rule) bool { return r.matches(repo, c) }) {
			list = append(list, t.name)
		}
	}
	return list
}

// A testCase is one of the policy's tests.
type testCase struct {
	name    string
	claims  claims
	allow   []string
	deny    string
	because []string
}

// testText returns the tests of the policy.
func testText(repo *repository, targets []*target) string {
	var out strings.Builder
	out.WriteString("# yaml-language-server: $schema=" + schemas + "policy-test.schema.json\n" +
		"# Proposed by `oidc-dbt init`. Run it with `oidc-dbt test-policy`.\n")
	if repo.id == "" {
		out.WriteString("# When the policy has a repository_id, each case of this repository needs it too.\n")
	}
	out.WriteString("version: 1\npolicy: oidc-dbt.yml\ncases:\n")
	for _, c := range testCases(repo, targets) {
		fmt.Fprintf(&out, "  - name: %s\n    claims:\n", scalar(c.name))
		write(&out, 6, c.claims.fields())
		switch {
		case len(c.allow) == 1:
			fmt.Fprintf(&out, "    allow: %s\n", scalar(c.allow[0]))
		case len(c.allow) > 1:
			names := make([]string, len(c.allow))
			for i, name := range c.allow {
				names[i] = flowScalar(name)
			}
			fmt.Fprintf(&out, "    allow: [%s]\n", strings.Join(names, ", "))
		default:
			name := scalar(c.deny)
			if name == "all" { // by itself it means every target
				name = "[all]"
			}
			fmt.Fprintf(&out, "    deny: %s\n    because: [%s]\n", name, strings.Join(c.because, ", "))
		}
	}
	out.WriteString("coverage: rules\n")
	return out.String()
}

// fields returns the claims that a case names.
func (c claims) fields() []field {
	fields := []field{{key: "repository", value: scalar(c.repository)}}
	if c.id != "" {
		fields = append(fields, field{key: "repository_id", value: strconv.Quote(c.id)})
	}
	if c.environment != "" {
		fields = append(fields, field{key: "environment", value: scalar(c.environment)})
	}
	fields = append(fields, field{key: "ref", value: scalar(c.ref)})
	if c.event != "" {
		fields = append(fields, field{key: "event_name", value: scalar(c.event)})
	}
	if c.runner != "" {
		fields = append(fields, field{key: "runner_environment", value: scalar(c.runner)})
	}
	return fields
}

// testCases has each rule admit what it is for, and each target deny what comes near it.
func testCases(repo *repository, targets []*target) (list []testCase) {
	seen := map[claims]bool{}
	for _, t := range targets {
		for _, r := range t.rules {
			c := r.claims(repo)
			if seen[c] {
				continue
			}
			seen[c] = true
			allow := admitted(repo, targets, c)
			list = append(list, testCase{name: strings.Join(allow, " and ") + " for " + c.what(), claims: c, allow: allow})
		}
	}
	for _, t := range targets {
		list = append(list, t.denials(repo)...)
	}
	return list
}

// what says in words what claims are of.
func (c claims) what() string {
	text := "a push to " + strings.TrimPrefix(c.ref, "refs/heads/")
	switch c.event {
	case "pull_request":
		text = "a pull request"
	case "release":
		text = "a release"
	}
	if c.environment != "" {
		text += " in " + c.environment
	}
	return text
}

// denials are cases next to the target's first rule, one claim away each.
func (t *target) denials(repo *repository) (list []testCase) {
	r := t.rules[0]
	base := r.claims(repo)
	add := func(what string, c claims, because ...string) {
		if !slices.ContainsFunc(t.rules, func(r rule) bool { return r.matches(repo, c) }) {
			list = append(list, testCase{name: t.name + " is not for " + what, claims: c, deny: t.name, because: because})
		}
	}
	owner, name, _ := strings.Cut(repo.name, "/")
	other := base
	other.repository = owner + "/not-" + name
	because := []string{"repository"}
	if repo.id != "" {
		other.id, because = "1", append(because, "repository_id")
	}
	add("another repository", other, because...)
	if base.environment != "" {
		c := base
		c.environment = "not-" + base.environment
		add("another environment", c, "environment")
	}
	if r.hosted {
		c := base
		c.runner = "self-hosted"
		add("a self-hosted runner", c, "runner_environment")
	}
	if base.event != "pull_request" {
		c := base
		c.ref, c.event = "refs/heads/not-"+repo.branch, ""
		add("another branch", c, "ref")
		c.ref, c.event = "refs/pull/7/merge", "pull_request"
		add("a pull request", c, "event_name", "ref")
	} else {
		c := base
		c.ref, c.event = "refs/heads/"+repo.branch, ""
		add("a push", c, "event_name", "ref")
	}
	return list
}
