package sample

import "strings"

// forgejoKind is Forgejo Actions, whose tokens have GitHub's claims. The
// subject is not made up: older repositories have one of another form.
var forgejoKind = kind{
	names: githubKind.names,
	follow: func(c *claims) {
		if c.check("repository", fullName, "OWNER/REPOSITORY") {
			owner, _, _ := strings.Cut(c.get("repository"), "/")
			c.set("repository_owner", owner)
		}
		c.check("event_name", eventName, "an event, which has lower case and _ only")
		followRef(c)
	},
	always: []string{"actor", "event_name", "ref", "repository", "repository_owner", "run_id", "sha", "sub", "workflow"},
}

// awsKind is a workload of AWS: its subject is the ARN of its role. (AWS IAM: outbound identity federation)
var awsKind = kind{
	names:  map[string]string{repository: "sub"},
	follow: func(*claims) {},
	always: []string{"aud", "https://sts.amazonaws.com/", "sub"},
}

// googleKind is a workload of Google Cloud: its subject is its service account's number.
var googleKind = kind{
	names:  map[string]string{repositoryID: "sub"},
	follow: func(c *claims) { c.check("sub", digits, "the number of a service account") },
	always: []string{"aud", "azp", "email", "sub"},
}

// workloadKind is any other system's: only what the identity itself says is known.
var workloadKind = kind{
	follow: func(c *claims) {
		if c.identity.Audience != "" {
			c.set("aud", c.identity.Audience)
		}
	},
	always: []string{"sub"},
}

// cursorKind is a Cursor Cloud Agent. (Cursor: Cloud agent identity)
var cursorKind = kind{
	names:  map[string]string{ownerID: "team_id"},
	follow: func(*claims) {},
	always: []string{"agent_runtime", "cloud_agent_id", "owner_user_id", "sub", "team_id"},
}

// claudeKind is a session of Claude Code in a self-hosted environment.
var claudeKind = kind{
	follow: func(c *claims) {
		if c.identity.Audience != "" {
			c.set("aud", c.identity.Audience)
		}
		c.suppose("role", "session_worker")
	},
	always: []string{"act", "sub"},
}

// warpKind is an agent of Warp's.
var warpKind = kind{follow: func(*claims) {}, always: []string{"sub"}}
