package lint

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

var policyError = check{
	name:     "policy-error",
	severity: Error,
	meaning:  "The policy has an error: every run fails with status 2.",
	lasting:  true,
	find: func(in *files, found report) {
		for _, f := range in.policies {
			if f.err == nil {
				continue
			}
			const fix = "correct it: until then every run fails with status 2"
			places := fault.Places(f.err)
			for _, p := range places {
				found(place{f.file, p.Line, p.Column}, fix, "%s", p.Text)
			}
			if len(places) == 0 {
				text, _, _ := strings.Cut(f.err.Error(), "\n")
				found(place{f.file, 1, 1}, fix, "%s", text)
			}
		}
	},
}
