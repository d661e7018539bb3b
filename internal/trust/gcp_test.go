package trust

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const gcpPool = "projects/123/locations/global/workloadIdentityPools/github"

// googleWall is what Google makes of a document of ours. Every token of GitHub's
// has a run.
func googleWall(document string) (wall.Wall, error) {
	p, err := wall.Google([]byte(document))
	if err != nil {
		return nil, err
	}
	var doc struct {
		Members []string `json:"members"`
	}
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		return nil, err
	}
	admits, err := wall.GoogleWall(p, doc.Members)
	return func(claims map[string]any) (bool, error) {
		claims = maps.Clone(claims)
		claims["run_id"] = "1"
		return admits(claims)
	}, err
}

func TestGCPAgrees(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"plain":    {},
		"template": {SubTemplate: []string{"repo", "context", "ref", "event_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var read string
			var admits wall.Wall
			agreement{
				exchange: `{gcp: {workload_identity_provider: ` + gcpPool + `/providers/acme}}`,
				options:  options, policies: 500, tokens: 100,
				evaluate: func(_ Demand, w Wall, claims map[string]any) (bool, error) {
					if document := w.Documents[0].Text; document != read {
						var err error
						if admits, err = googleWall(document); err != nil {
							return false, err
						}
						read = document
					}
					return admits(claims)
				},
			}.run(t)
		})
	}
}

func TestGCP(t *testing.T) {
	t.Parallel()
	goldens(t, "gcp")
}
