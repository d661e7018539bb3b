package sample

import (
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// githubKind is GitHub Actions. (GitHub: OpenID Connect reference)
var githubKind = kind{
	names: map[string]string{
		repository: "repository", repositoryID: "repository_id", ownerID: "repository_owner_id",
		environment: "environment", ref: "ref", event: "event_name",
	},
	follow: followGitHub,
	always: []string{
		"actor", "actor_id", "base_ref", "check_run_id", "event_name", "head_ref", "job_workflow_ref", "job_workflow_sha",
		"ref", "ref_protected", "ref_type", "repository", "repository_id", "repository_owner", "repository_owner_id",
		"repository_visibility", "run_attempt", "run_id", "run_number", "runner_environment", "sha", "sub", "workflow",
		"workflow_ref", "workflow_sha",
	},
}

var (
	fullName  = lazy.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$`)
	eventName = lazy.MustCompile(`^[a-z][a-z_]*$`)
	pullRef   = lazy.MustCompile(`^refs/pull/[0-9]+/(?:merge|head)$`)
)

func followGitHub(c *claims) {
	if c.check("repository", fullName, "OWNER/REPOSITORY") {
		owner, _, _ := strings.Cut(c.get("repository"), "/")
		c.set("repository_owner", owner)
	}
	for _, id := range []string{"repository_id", "repository_owner_id"} {
		c.check(id, digits, "a number")
	}
	c.check("event_name", eventName, "an event of GitHub's, which has lower case and _ only")
	followRef(c)
	followWorkflow(c)
	followSubject(c)
}

// followRef: a ref tells its type, and often the event.
func followRef(c *claims) {
	ref := c.get("ref")
	switch {
	case !c.has("ref"):
		c.suppose("event_name", "push")
		if c.get("event_name") == "release" {
			c.suppose("ref_type", "tag")
		}
	case !strings.HasPrefix(ref, "refs/"):
		if c.err == nil {
			c.err = notFull("ref", ref)
		}
		return
	case pullRef.MatchString(ref):
		c.set("ref_type", "branch")
		c.suppose("event_name", "pull_request")
		if event := c.get("event_name"); !strings.HasPrefix(event, "pull_request") {
			c.odd = append(c.odd, fmt.Sprintf("ref is %q, and event_name %q: such a ref comes with pull_request", ref, event))
		}
	case strings.HasPrefix(ref, "refs/tags/"):
		c.set("ref_type", "tag")
		c.suppose("event_name", "push")
	case strings.HasPrefix(ref, "refs/heads/gh-readonly-queue/"):
		c.set("ref_type", "branch")
		c.suppose("event_name", "merge_group")
	default:
		c.set("ref_type", "branch")
		c.suppose("event_name", "push")
	}
	switch event := c.get("event_name"); {
	case event == "pull_request" && strings.HasPrefix(ref, "refs/") && !pullRef.MatchString(ref):
		c.odd = append(c.odd, fmt.Sprintf("event_name is %q, and ref %q: its ref has the form refs/pull/N/merge", event, ref))
	case event == "pull_request_target" && strings.HasPrefix(ref, "refs/heads/"):
		c.suppose("base_ref", strings.TrimPrefix(ref, "refs/heads/")) // it runs on the base branch
	case !strings.HasPrefix(event, "pull_request"):
		c.suppose("base_ref", "")
		c.suppose("head_ref", "")
	}
}

// followWorkflow: a job that calls no reusable workflow has the same path in
// both claims. A workflow of another repository is called by one that is not known.
func followWorkflow(c *claims) {
	if c.has("workflow_ref") && c.get("workflow_ref") != "" {
		c.suppose("job_workflow_ref", c.get("workflow_ref"))
	}
	for _, name := range []string{"workflow_ref", "job_workflow_ref"} {
		if text := c.get(name); text != "" && !strings.Contains(text, "@") && c.err == nil {
			c.err = fmt.Errorf("%s is %q, want OWNER/REPOSITORY/.github/workflows/FILE.yml@REF", name, text)
		}
	}
}

// followSubject makes sub in the default form. What it is for events of pull
// requests other than pull_request is not documented.
func followSubject(c *claims) {
	repository, event := c.get("repository"), c.get("event_name")
	rest := ""
	switch {
	case c.get("environment") != "":
		rest = "environment:" + strings.ReplaceAll(c.get("environment"), ":", "%3A")
	case event == "pull_request":
		rest = "pull_request"
	case strings.HasPrefix(event, "pull_request"):
		return
	case c.get("ref") != "":
		rest = "ref:" + c.get("ref")
	}
	owner, name, ok := strings.Cut(repository, "/")
	if !ok || rest == "" {
		return
	}
	plain := "repo:" + repository + ":" + rest
	withIDs := ""
	if c.get("repository_owner_id") != "" && c.get("repository_id") != "" {
		withIDs = fmt.Sprintf("repo:%s@%s/%s@%s:%s", owner, c.get("repository_owner_id"), name, c.get("repository_id"), rest)
	}
	if have, given := c.given["sub"]; given {
		if text, ok := have.(string); ok && strings.HasPrefix(text, "repo:") && text != plain && text != withIDs {
			c.odd = append(c.odd,
				fmt.Sprintf("sub is %q, and with the other claims it would be %q, unless it is customised", text, plain))
		}
		return
	}
	c.values["sub"] = plain
	c.otherSubject = withIDs
}
