package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A clone has the policy of the page about agents, and its tests.
type clone struct{ dir string }

func agentsClone(t *testing.T) (c clone, policy string) {
	t.Helper()
	list := blocks(pages(t)["../docs/identities/agents.md"])
	if len(list) < 2 {
		t.Fatalf("the page has %d blocks of YAML, want the policy and its tests first", len(list))
	}
	c.dir = t.TempDir()
	c.write(t, "oidc-dbt.yml", list[0])
	c.write(t, "oidc-dbt.test.yml", list[1])
	return c, list[0]
}

func (c clone) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, ".github", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs the command in the clone, and wants it to succeed.
func (c clone) run(t *testing.T, into any, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	status := command.Run(t.Context(), job.Env{
		Getenv: func(string) string { return "" }, Now: func() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) },
		Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Dir: c.dir, TempDir: t.TempDir(), Executable: filepath.Join(c.dir, "oidc-dbt"), Version: "v1.2.3",
	}, args)
	err := json.Unmarshal(out.Bytes(), into)
	if status != 0 || err != nil {
		t.Fatalf("%q: status %d, %v\n%s%s", args, status, err, out.String(), errs.String())
	}
}

// trust returns the role's generated trust policy, by target.
func (c clone) trust(t *testing.T) map[string]string {
	t.Helper()
	var out struct{ Targets []printedWall }
	c.run(t, &out, "trust", "generate", "--format", "json")
	policies := map[string]string{}
	for _, target := range out.Targets {
		for _, d := range target.Documents {
			if d.File == target.Target+".aws.json" {
				policies[target.Target] = d.Text
			}
		}
	}
	if names := slices.Sorted(maps.Keys(policies)); !slices.Equal(names, []string{"agent", "dev", "prod"}) {
		t.Fatalf("trust is generated for %q", names)
	}
	return policies
}

// TestAgentsPolicy: the page's policy has the findings that the page names, its tests pass, and no changed token is
// still allowed.
func TestAgentsPolicy(t *testing.T) {
	t.Parallel()
	c, _ := agentsClone(t)
	var found struct {
		Findings []struct{ Name, Severity string }
	}
	c.run(t, &found, "lint", "--format", "json")
	var names []string
	for _, f := range found.Findings {
		names = append(names, f.Severity+" "+f.Name)
	}
	slices.Sort(names)
	if want := []string{"note any-runner", "note unenforceable-claim"}; !slices.Equal(names, want) {
		t.Errorf("lint finds %q, want %q", names, want)
	}
	var tested struct {
		Cases     []struct{ OK bool }
		Uncovered []any
		Mutants   []any
	}
	c.run(t, &tested, "test-policy", "--mutate", "--format", "json")
	if len(tested.Cases) != 8 || len(tested.Uncovered)+len(tested.Mutants) > 0 {
		t.Errorf("test-policy: %+v", tested)
	}
}

// Tokens that ask for a role: what agents have, and what production and an engineer have.
var (
	agentToken = map[string]any{"sub": "service_account:7b1e0c5a", "team_id": "42", "aud": "sts.amazonaws.com"}
	ownerToken = map[string]any{"sub": "user:7b1e0c5a", "team_id": "42", "aud": "sts.amazonaws.com"}
	annsToken  = map[string]any{"sub": "00u1ann", "aud": "dbt-cli"}
	prodToken  = map[string]any{"sub": "repo:acme/analytics:environment:production", "repository": "acme/analytics", "repository_id": "101",
		"repository_owner": "acme", "environment": "production", "ref": "refs/heads/main", "aud": "sts.amazonaws.com"}
	copilotToken = map[string]any{"sub": "repo:acme/analytics:environment:copilot", "repository": "acme/analytics", "repository_id": "101",
		"repository_owner": "acme", "environment": "copilot", "ref": "refs/heads/copilot/fix", "actor_id": "198982749", "aud": "sts.amazonaws.com"}
)

const (
	cursorIssuer = "https://api.cursor.com"
	companysOwn  = "https://id.acme.example/realms/acme"
	githubIssuer = "https://token.actions.githubusercontent.com"
)

// TestAgentsTrust: by AWS's rules, the generated trust admits each token to its own role only.
func TestAgentsTrust(t *testing.T) {
	t.Parallel()
	c, _ := agentsClone(t)
	trust := c.trust(t)
	for _, tt := range []struct {
		name, issuer string
		claims       map[string]any
		admitted     string // the target whose role it gets, "" for none
	}{
		{"the agent", cursorIssuer, agentToken, "agent"},
		{"an agent that a member of the team owns", cursorIssuer, ownerToken, ""},
		{"the agent with the audience of people", cursorIssuer, with(agentToken, "aud", "dbt-cli"), ""},
		{"an engineer, or an agent on her machine", companysOwn, annsToken, "dev"},
		{"an engineer with the audience of jobs", companysOwn, with(annsToken, "aud", "sts.amazonaws.com"), ""},
		{"production", githubIssuer, prodToken, "prod"},
		{"production's claims by Cursor", cursorIssuer, prodToken, ""},
		{"production's claims by the company", companysOwn, prodToken, ""},
		{"Copilot", githubIssuer, copilotToken, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for target, text := range trust {
				admits, err := wall.AWS([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				got, err := admits(with(tt.claims, "iss", tt.issuer))
				if want := target == tt.admitted; err != nil || got != want {
					t.Errorf("the role of %s admits it: %t, %v, want %t", target, got, err, want)
				}
			}
		})
	}
}

func with(claims map[string]any, name string, value any) map[string]any {
	changed := maps.Clone(claims)
	changed[name] = value
	return changed
}

// TestAgentsBypass: an agent that sends its token to the token service itself, without this program, gets the role of
// its schema and never production's.
func TestAgentsBypass(t *testing.T) {
	t.Parallel()
	cursor, err := standin.StartIssuer(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cursor.Close)
	c, policy := agentsClone(t)
	c.write(t, "oidc-dbt.yml", strings.Replace(policy, "cursor: {kind: cursor}", fmt.Sprintf("cursor: {kind: cursor, issuer: %q, jwks_file: keys.json}", cursor.URL()), 1))
	roles := map[string]standin.Role{}
	for target, text := range c.trust(t) {
		roles["arn:aws:iam::123456789012:role/dbt-"+target] = standin.Role{Audience: "sts.amazonaws.com", Trust: text}
	}
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: cursor.URL(), Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	for _, tt := range []struct {
		name, target string
		claims       map[string]any
		status       int
	}{
		{"its own role", "agent", agentToken, http.StatusOK},
		{"production's", "prod", agentToken, http.StatusForbidden},
		{"production's with its claims", "prod", prodToken, http.StatusForbidden},
		{"the engineers'", "dev", agentToken, http.StatusForbidden},
		{"another agent", "agent", ownerToken, http.StatusForbidden},
	} {
		claims := maps.Clone(tt.claims)
		delete(claims, "aud")
		resp, err := http.PostForm(sts.URL(), url.Values{
			"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleSessionName": {"agent"},
			"RoleArn": {"arn:aws:iam::123456789012:role/dbt-" + tt.target}, "WebIdentityToken": {cursor.Sign("sts.amazonaws.com", claims)},
		})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
		}
	}
	if n := len(sts.Sessions()); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// TestAgentsPins: clients start the version of dbt-mcp that the end-to-end tests run.
func TestAgentsPins(t *testing.T) {
	t.Parallel()
	version := versionOf(t, repositoryFile(t, "e2e/mcp/requirements.txt"), "dbt-mcp")
	page := pages(t)["../docs/identities/agents.md"]
	if n := strings.Count(page, "dbt-mcp@"); n != 1 || !strings.Contains(page, `"uvx", "dbt-mcp@`+version+`"`) {
		t.Errorf("the page names dbt-mcp@… %d times, want once, with %s", n, version)
	}
}
