package job

import (
	"context"
	"io"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// Policy finds and parses the policy as a run does. Errors are of class Usage.
func Policy(ctx context.Context, env Env, s Settings) (*policy.Policy, error) {
	_, p, _, _, err := settle(ctx, env, s)
	return p, err
}

// HasToken reports whether an ID token may be had here without signing in: in a
// job of a CI system, where the policy or the user names a source, or of a
// person who is signed in.
func HasToken(env Env, s Settings, p *policy.Policy) bool {
	if s.TokenSource.Identity != "" || source.Here(env.Getenv) != "" || env.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" {
		return true
	}
	logins := newPeople(env, s)
	return slices.ContainsFunc(p.Identities(), func(id policy.Identity) bool {
		return !id.Source.IsZero() || id.Kind == "people" && id.AWSSSO == nil && logins.account(id).SignedIn()
	})
}

// LiveClaims returns the verified claims of an ID token of this job, for the
// target of the settings or, if they name none, for whichever it may have.
// Errors are those of a run.
func LiveClaims(ctx context.Context, env Env, s Settings) (idtoken.Claims, explain.Source, error) {
	claims, err := liveClaims(ctx, env, s)
	return claims, live(env), err
}

// live says of claims that they are those of this run.
func live(env Env) explain.Source {
	return explain.Source{Kind: "live", AgentHint: source.AgentHint(env.Getenv)}
}

func liveClaims(ctx context.Context, env Env, s Settings) (idtoken.Claims, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, timeoutError(s.Timeout))
	defer cancel()
	if err := env.Transport.Network().Check(); err != nil {
		return idtoken.Claims{}, err
	}
	a, err := readOnly(ctx, env, s)
	if err != nil {
		return idtoken.Claims{}, err
	}
	if s.Target != "" {
		t, err := a.policy.Target(s.Target)
		if err != nil {
			return idtoken.Claims{}, err
		}
		a.target = t
	}
	candidates, err := a.candidates()
	if err != nil {
		return idtoken.Claims{}, err
	}
	verifiers, err := a.choose(ctx, candidates)
	if err != nil {
		return idtoken.Claims{}, err
	}
	for _, v := range verifiers {
		v.Prefetch(ctx)
	}
	if _, err = a.verified(ctx, verifiers, a.audience(candidates...)); err != nil {
		return idtoken.Claims{}, interrupted(ctx, err)
	}
	return a.claims, nil
}

// readOnly prepares an attempt that ends with claims: no credential comes of it.
func readOnly(ctx context.Context, env Env, s Settings) (*attempt, error) {
	s, p, _, _, err := settle(ctx, env, s)
	if err != nil {
		return nil, err
	}
	return &attempt{
		env: env, settings: s, policy: p, people: newPeople(env, s),
		runner: runner.New(runner.Env{Getenv: env.Getenv, Stdout: io.Discard, HTTP: env.Client()}),
		mask:   func(secret.Value) error { return nil }, // the token does not leave this process
	}, nil
}

// explanation returns, for the step summary, how the policy decided of a
// request that ended with the decision; "" where no token was verified.
func (a *attempt) explanation() string {
	if a.claims.IsZero() {
		return ""
	}
	target := ""
	if a.target != nil {
		target = a.target.Name()
	}
	report, err := explain.New(a.policy, a.claims, a.env.Now(), target, live(a.env))
	if err != nil {
		return "" // the target is the policy's
	}
	return report.Markdown()
}
