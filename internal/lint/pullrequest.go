package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// productionText matches names of what production is.
var productionText = lazy.MustCompile(`(?i)(?:^|[^a-z])prod(?:uction)?(?:$|[^a-z])`)

// othersEvents are events that outsiders can trigger.
var othersEvents = []string{
	"pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "issue_comment", "issues",
	"discussion", "discussion_comment", "fork", "watch", "gollum", "workflow_run",
}

var pullRequestToProduction = check{
	name:     "pull-request-to-production",
	severity: Warning,
	meaning: "A rule opens a production target to pull requests, or to other events that outsiders can " +
		"trigger.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			i := slices.IndexFunc(r.Patterns("event_name"), isOthers)
			if i < 0 {
				return
			}
			production := productionText.MatchString(r.Target.Name()) || productionText.MatchString(r.DBT().Output) ||
				slices.ContainsFunc(r.Patterns("environment"), productionText.MatchString)
			if production {
				event := r.Patterns("event_name")[i]
				found(r.pattern("event_name", i), "remove the event, and give pull requests their own target",
					"%s opens production to %s: %s", r, event, whoseRun(event))
			}
		})
	},
}

func isOthers(event string) bool { return slices.Contains(othersEvents, event) }

// whoseRun says who controls a run that an event started.
func whoseRun(event string) string {
	if event == "pull_request" {
		return "the author of a pull request controls the code and the workflow of its run"
	}
	if strings.HasPrefix(event, "pull_request") || event == "workflow_run" {
		return "such a run handles input of outsiders with the rights of the default branch"
	}
	return "anyone can trigger it"
}
