package wall

import (
	"maps"
	"testing"
)

// gitHubClaims are the claims of a job in an environment, with changes; nil removes one.
func gitHubClaims(changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com",
		"sub": "repo:acme/analytics:environment:production", "environment": "production", "ref": "refs/heads/main",
		"repository": "acme/analytics", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "65",
		"event_name": "push", "actor": "octocat", "actor_id": "1", "workflow": "dbt",
		"job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/tags/v3", "enterprise_id": "9", "run_attempt": "1",
	}
	maps.Copy(claims, changes)
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// wantWall compares one decision.
func wantWall(t *testing.T, wall Wall, claims map[string]any, want bool, wantErr string) {
	t.Helper()
	got, err := wall(claims)
	if got != want || message(err) != wantErr {
		t.Errorf("got %v, error %q; want %v, error %q", got, message(err), want, wantErr)
	}
}

// TestJSON is about documents that are not one plain JSON value.
func TestJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ doc, err string }{
		{`{"a":1,"b":[{"a":1},{"a":2}]}`, ""},
		{`{"a":1,"b":{"c":1,"c":2}}`, `invalid JSON: duplicate key "c"`},
		{`{"a":1}{}`, "invalid JSON: more than one value"},
		{`{"a":`, "invalid JSON: EOF"},
		{``, "invalid JSON: EOF"},
	} {
		if err := checkJSON([]byte(tt.doc)); message(err) != tt.err {
			t.Errorf("%s: got %q, want %q", tt.doc, message(err), tt.err)
		}
	}
}
