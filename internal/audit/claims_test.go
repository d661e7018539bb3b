package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// verified returns the claims of a token that a real issuer signed.
func verified(t *testing.T, changes map[string]any) idtoken.Claims {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	claims, err := issuer.Claims(t.Context(), "sts.amazonaws.com", changes)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// TestGolden holds every kind of record and the summary, with the claims of a
// run on GitHub. What differs from run to run (the issuer's port, the token's
// id and expiry) is replaced.
func TestGolden(t *testing.T) {
	t.Parallel()
	r := run()
	r.Claims = verified(t, map[string]any{"jti": "4a57", "act": map[string]any{"sub": "agent:1", "act": map[string]any{"sub": "agent:2"}}})
	r.ActorKind, r.ActorKindSource, r.AgentHint = "user", "name", "CLAUDECODE"
	records := everyRecord(r)
	got := map[string]string{}
	for kind, record := range records {
		o := decode(t, record)
		expires := o["actor"].(map[string]any)["session"].(map[string]any)
		if expires["expiration_time"] != float64(r.Claims.Expiry().UnixMilli()) {
			t.Errorf("%s: the ID token's expiry is %v, want %d", kind, expires["expiration_time"], r.Claims.Expiry().UnixMilli())
		}
		expires["expiration_time"] = 0
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(o); err != nil {
			t.Fatal(err)
		}
		got[kind+".json"] = b.String()
	}
	issued := records["issued"]
	got["allowed.md"] = audit.Summary(records["allowed"], &issued)
	got["denied.md"] = audit.Summary(records["denied"], nil)

	for name, text := range got {
		for _, issuer := range []string{r.Claims.Issuer(), escaped(r.Claims.Issuer())} {
			text = strings.ReplaceAll(text, issuer, "ISSUER")
		}
		golden.Compare(t, filepath.Join("testdata", name), text)
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := got[e.Name()]; !ok && !e.IsDir() {
			t.Errorf("testdata/%s: no test reads it", e.Name())
		}
	}
}

func escaped(url string) string { return strings.ReplaceAll(url, ":", "&#58;") }

func TestActorKinds(t *testing.T) {
	t.Parallel()
	claims := verified(t, nil)
	tests := []struct {
		kind string
		id   float64
		name string
	}{
		{"user", 1, "User"},
		{"bot", 99, "bot"},
		{"agent", 99, "agent"},
		{"", 0, "Unknown"},
	}
	for _, tt := range tests {
		r := run()
		r.Claims, r.ActorKind = claims, tt.kind
		actor := decode(t, r.Allowed(noon, 0, 1))["actor"].(map[string]any)["user"].(map[string]any)
		if actor["type_id"] != tt.id || actor["type"] != tt.name || actor["name"] != "octocat" || actor["uid"] != "583231" {
			t.Errorf("actor kind %q: got %v", tt.kind, actor)
		}
	}
}

// TestClaimsStayInTheirStrings: a claim is a text of the repository's or the workflow's author.
func TestClaimsStayInTheirStrings(t *testing.T) {
	t.Parallel()
	const hostile = "x|y<b>`z`\n::set-output name=decision::allowed\n##[add-mask]w"
	changes := map[string]any{"sub": hostile, "jti": hostile}
	for _, name := range []string{"actor", "actor_id", "repository", "environment", "ref", "workflow_ref", "job_workflow_ref", "run_id"} {
		changes[name] = hostile
	}
	changes["sha"] = 7.0                                // not a string: not recorded
	changes["run_attempt"] = strings.Repeat("1", 20000) // cut
	changes["repo_property_secret"] = "PROPERTY"        // not asked for
	r := run()
	r.Claims = verified(t, changes)
	allowed, issued := r.Allowed(noon, 0, 1), r.Issued(noon, session(), nil)
	line := text(t, allowed)
	if strings.Contains(line, "##[") || len(line) > 32<<10 || strings.Contains(line, "PROPERTY") {
		t.Errorf("got %.500s", line)
	}
	claims := decode(t, allowed)["unmapped"].(map[string]any)["claims"].(map[string]any)
	if claims["repository"] != hostile {
		t.Errorf("repository: got %q", claims["repository"])
	}
	if got, ok := claims["sha"]; ok {
		t.Errorf("sha: got %v, want nothing", got)
	}
	summary := audit.Summary(allowed, &issued)
	for _, bad := range []string{"<b>", "`", "::", "##["} {
		if strings.Contains(summary, bad) {
			t.Errorf("summary holds %q:\n%s", bad, summary)
		}
	}
	for line := range strings.Lines(summary) {
		if n := strings.Count(line, "|"); n != 0 && n != 3 {
			t.Errorf("a row with %d bars: %s", n, fmt.Sprintf("%.200s", line))
		}
	}
}
