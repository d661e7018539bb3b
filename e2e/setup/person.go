package setup

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A Person is an engineer at a terminal who has signed in, with a dbt project
// whose target prod takes the engineer's own access token.
type Person struct {
	Workspace string

	provider *standin.People
	env      []string
}

// SignedIn signs a person in by the device flow, at a stand-in whose client may
// have tokens for a scope. dbt is the target's block. env is added to the
// environment of commands ("NAME=value").
func SignedIn(t testing.TB, scope, dbt string, env ...string) *Person {
	t.Helper()
	provider, err := standin.StartPeople(standin.PeopleConfig{
		ClientID: "dbt-cli", Interval: 1, Approves: true, Scopes: []string{scope}, Claims: map[string]any{"sub": "00u1ann"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	p := &Person{provider: provider, Workspace: Project(t, Issuer(t), dbt, "{login: {}}")}
	p.env = slices.Concat(AtTerminal(Python(t).Environ()), []string{"XDG_STATE_HOME=" + t.TempDir(), "NO_COLOR=1"}, env)
	Write(t, p.Workspace, ".github/oidc-dbt.yml", fmt.Sprintf("version: 1\n"+
		"identities:\n  engineers: {kind: people, issuer: %q, client_id: dbt-cli}\n"+
		"targets:\n  prod:\n    dbt: %s\n    exchange: {login: {}}\n"+
		"    allow:\n      - {identity: engineers, sub: 00u1ann}\n", provider.URL(), dbt))
	for _, args := range [][]string{{"approve", "--yes"}, {"login", "--device", "--token-store", "file"}} {
		if out, err := p.run(t, args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return p
}

// AtTerminal returns an environment without what says that this is a job: tests run in jobs, too, in which no person
// can sign in.
func AtTerminal(env []string) []string {
	prefixes := []string{"CI=", "GITHUB_", "ACTIONS_", "RUNNER_"}
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// Valid reports whether a token is an access token of the person's for a scope,
// and not another one of the sign-in.
func (p *Person) Valid(token, scope string) bool {
	return slices.Contains(strings.Fields(p.provider.Access()[token]), scope)
}

// Exec runs a command with the person's token, and returns what both printed,
// in which there must be none of the person's tokens.
func (p *Person) Exec(t testing.TB, command ...string) (out string, err error) {
	t.Helper()
	out, err = p.run(t, slices.Concat([]string{"exec", "--target", "prod", "--"}, command)...)
	tokens := append(p.provider.Issued(), p.provider.Secrets()...)
	for token := range p.provider.Access() {
		tokens = append(tokens, token)
	}
	for _, token := range tokens {
		if strings.Contains(out, token) {
			t.Errorf("a token is in what is printed:\n%s", out)
		}
	}
	return out, err
}

func (p *Person) run(t testing.TB, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(t), args...)
	cmd.Dir, cmd.Env = p.Workspace, p.env
	text, err := cmd.CombinedOutput()
	return string(text), err
}
