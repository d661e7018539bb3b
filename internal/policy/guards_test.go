package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// TestGuards: what is asked of every token of a kind, whether a rule names it or not.
func TestGuards(t *testing.T) {
	t.Parallel()
	const circle = "oidc.circleci.com/"
	for _, tt := range []struct {
		name, kind, target, rule string
		claims                   map[string]any
		denial                   string // a part of it; "" where the token is admitted
	}{
		{"a push", "gitlab", "", `project_id: "7"`,
			map[string]any{"project_id": "7", "job_project_id": "7", "pipeline_source": "push"}, ""},
		{"an older GitLab", "gitlab", "", `project_id: "7"`,
			map[string]any{"project_id": "7", "pipeline_source": "web"}, ""},
		{"a merge request", "gitlab", "", `project_id: "7"`,
			map[string]any{"project_id": "7", "job_project_id": "7", "pipeline_source": "merge_request_event"},
			`pipeline_source: got "merge_request_event", want one of ["push"`},
		{"a merge request that is named", "gitlab", "", `project_id: "7", pipeline_source: merge_request_event`,
			map[string]any{"project_id": "7", "job_project_id": "7", "pipeline_source": "merge_request_event"}, ""},
		{"a job of a foreign project, with its own environment", "gitlab", "",
			`project_id: "7", environment: production, pipeline_source: merge_request_event`,
			map[string]any{"project_id": "7", "job_project_id": "666", "environment": "production",
				"pipeline_source": "merge_request_event"}, `job_project_id: got "666", want the same as project_id`},
		{"a number in its place", "gitlab", "", `project_id: "7"`,
			map[string]any{"project_id": "7", "job_project_id": 666, "pipeline_source": "push"},
			`job_project_id: got a value that is not a string, want the same as project_id`},
		{"a job of another project that the rule names", "gitlab", "", `project_id: "7", job_project_id: "9"`,
			map[string]any{"project_id": "7", "job_project_id": "9", "pipeline_source": "push"}, ""},
		{"no event", "gitlab", "", `project_id: "7"`,
			map[string]any{"project_id": "7"}, `pipeline_source: got no such claim`},

		{"a job", "circleci", "", circle + `project-id: a`,
			map[string]any{circle + "project-id": "a", circle + "ssh-rerun": false}, ""},
		{"a job with a shell", "circleci", "", circle + `project-id: a`,
			map[string]any{circle + "project-id": "a", circle + "ssh-rerun": true},
			circle + `ssh-rerun: got a value that is not a string, want false`},
		{"a job of which that is not known", "circleci", "", circle + `project-id: a`,
			map[string]any{circle + "project-id": "a"}, circle + `ssh-rerun: got no such claim, want false`},
		{"a context of several", "circleci", "", circle + `project-id: a, ` + circle + `context-ids: prod`,
			map[string]any{circle + "project-id": "a", circle + "ssh-rerun": false,
				circle + "context-ids": []any{"dev", "prod"}}, ""},

		{"a service account by its uid", "kubernetes", "", `kubernetes.io>serviceaccount>uid: a-1`,
			map[string]any{"kubernetes.io": map[string]any{"serviceaccount": map[string]any{"uid": "a-1"}}}, ""},
		{"a name that was made anew", "kubernetes", "",
			`sub: "system:serviceaccount:dbt:runner", kubernetes.io>serviceaccount>uid: a-1`,
			map[string]any{"sub": "system:serviceaccount:dbt:runner",
				"kubernetes.io": map[string]any{"serviceaccount": map[string]any{"name": "runner", "uid": "b-2"}}},
			`kubernetes.io>serviceaccount>uid: got "b-2", want "a-1"`},
		{"an object in the uid's place", "kubernetes", "", `kubernetes.io>serviceaccount>uid: a-1`,
			map[string]any{"kubernetes.io": map[string]any{"serviceaccount": "a-1"}}, `got no such claim, want "a-1"`},

		{"a group", "people, client_id: sts.amazonaws.com", "", `groups: g1`,
			map[string]any{"groups": []any{"g0", "g1"}}, ""},
		{"no groups", "people, client_id: sts.amazonaws.com", "", `groups: g1`, map[string]any{}, `groups: got no such claim, want "g1"` +
			"\nhint: let the identity provider put groups or roles into the client's ID tokens (by a mapper, a claim or a scope), then sign in again"},
		{"too many groups", "people, client_id: sts.amazonaws.com", "", `groups: g1`,
			map[string]any{"_claim_names": map[string]any{"groups": "src1"},
				"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example/getMemberObjects"}}},
			`groups: got no groups, since they are too many for the token, want "g1"`},

		{"an agent", "cursor, jwks_file: keys.json", "", `team_id: "5"`, map[string]any{"team_id": "5"}, ""},
		{"an agent that is refused", "cursor, jwks_file: keys.json", "agents: refuse", `team_id: "5"`,
			map[string]any{"team_id": "5"}, `target "prod" refuses AI agents, and the actor of "s" is one`},
		{"an agent of an account", "gitlab", "agents: refuse", `project_id: "7"`,
			map[string]any{"project_id": "7", "pipeline_source": "push", "user_login": "robo"},
			`target "prod" refuses AI agents, and the actor of "s" is one`},
		{"another party acting for a person", "people, client_id: sts.amazonaws.com", "agents: refuse", `sub: s`,
			map[string]any{"act": map[string]any{"sub": "agent:7"}},
			`target "prod" refuses AI agents, and another party acts for "s" (claim act)`},
		{"a person where only agents may be", "people, client_id: sts.amazonaws.com", "agents: only", `sub: s`,
			map[string]any{"act": map[string]any{"sub": "agent:7"}},
			`target "prod" is for AI agents only, and the actor of "s" is none that is known`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := "version: 1\nagents: robo\nidentities: {ci: {issuer: \"" + issuer.URL() + "\", kind: " + tt.kind + "}}\ntargets:\n  prod:\n" +
				"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow: [{identity: ci, " + tt.rule + "}]\n"
			if tt.target != "" {
				src += "    " + tt.target + "\n"
			}
			if tt.claims["sub"] == nil {
				tt.claims["sub"] = "s"
			}
			for _, name := range []string{"actor", "actor_id", "event_name", "environment"} {
				if tt.claims[name] == nil {
					tt.claims[name] = nil // GitHub's
				}
			}
			reason := ""
			if _, err := parse(t, src).Authorize("prod", claims(t, tt.claims), reviewDay); err != nil {
				reason = err.Error() + "\nhint: " + fault.Hint(err)
			}
			if (tt.denial == "") != (reason == "") || !strings.Contains(reason, tt.denial) {
				t.Errorf("the denial is\n%s\nwant\n%s", reason, tt.denial)
			}
		})
	}
}
