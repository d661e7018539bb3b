package job

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// people are the logins that a run uses, from its first token to its last.
type people struct {
	env      Env
	settings Settings

	mu       sync.Mutex
	accounts map[string]*login.Account // by identity
}

func newPeople(env Env, s Settings) *people {
	return &people{env: env, settings: s, accounts: map[string]*login.Account{}}
}

// account returns the login of an identity.
func (p *people) account(id policy.Identity) *login.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts[id.Name] == nil {
		say := p.settings.Say
		if say == nil {
			say = func(string) {}
		}
		p.accounts[id.Name] = login.New(login.Env{
			HTTP: p.env.Client(), Now: p.env.Now, State: p.settings.StateDir, AWS: awsCache(p.env), Say: say,
			PolicyFlag: p.settings.policyFlag(), Open: login.Browser(p.env.Getenv, p.env.Environ),
		}, id)
	}
	return p.accounts[id.Name]
}

// awsCache is the folder in which AWS's tools keep their sign-ins. None of their
// variables chooses another, nor their configuration a profile.
func awsCache(env Env) string {
	home := env.Getenv("HOME")
	if home == "" {
		home = env.Getenv("USERPROFILE") // Windows
	}
	if !filepath.IsAbs(home) {
		return "" // a relative one is what a clone says
	}
	return filepath.Join(home, ".aws", "sso", "cache")
}

// AccessToken implements exchange.Login.
func (p *people) AccessToken(ctx context.Context, id policy.Identity, scope string) (secret.Value, time.Time, error) {
	if id.AWSSSO != nil {
		return secret.Value{}, time.Time{}, fault.New(fault.Usage,
			fmt.Errorf("request access token: identity %q signs in through IAM Identity Center (aws_sso), which has none for a warehouse", id.Name),
			"at athena, redshift and duckdb use `login: {}`, which takes the role's credentials")
	}
	return p.account(id).AccessToken(ctx, scope)
}

// RoleCredentials implements exchange.Login.
func (p *people) RoleCredentials(ctx context.Context, id policy.Identity) (credential.Credential, error) {
	return p.account(id).RoleCredentials(ctx)
}

// stored is what source.Choose asks for a person's tokens.
func (p *people) stored(id policy.Identity) source.Source {
	return source.Stored(id, func(ctx context.Context) (secret.Value, error) {
		a := p.account(id)
		if p.settings.TokenStore != login.Memory || a.InMemory() {
			token, err := a.Token(ctx)
			if err == nil || !p.settings.SignIn || !login.Away(err) {
				return token, err
			}
		}
		if !p.settings.SignIn {
			return a.Token(ctx)
		}
		if err := p.settings.personIsHere(id); err != nil {
			return secret.Value{}, err
		}
		v, err := verifier(ctx, p.env, p.settings, id)
		if err == nil {
			_, err = a.SignIn(ctx, v, id.Flow == "device", p.settings.TokenStore)
		}
		if err != nil {
			return secret.Value{}, err
		}
		return a.Token(ctx)
	})
}

// A Person is an identity of people with the policy that has it.
type Person struct {
	Identity policy.Identity
	Policy   *policy.Policy
	account  *login.Account
	attempt  *attempt
}

// FindPerson returns an identity of people by its name, or the policy's only
// one. Errors are of class Usage.
func FindPerson(ctx context.Context, env Env, s Settings, name string) (Person, error) {
	a, err := readOnly(ctx, env, s)
	if err != nil {
		return Person{}, err
	}
	var names []string
	for _, id := range a.policy.Identities() {
		if id.Kind == "people" {
			names = append(names, id.Name)
		}
	}
	switch {
	case len(names) == 0:
		return Person{}, fault.New(fault.Usage, fmt.Errorf("policy %q has no identity of kind people", a.policy.File()),
			"add one, with the issuer and the client_id of your company's identity provider: see "+login.ClientPage)
	case name == "" && len(names) > 1:
		return Person{}, fault.New(fault.Usage, fmt.Errorf("policy %q has several identities of kind people: %q", a.policy.File(), names),
			"name one of them")
	case name == "":
		name = names[0]
	case !slices.Contains(names, name):
		return Person{}, fault.New(fault.Usage,
			fmt.Errorf("policy %q has no identity %q of kind people, it has %q", a.policy.File(), name, names), "")
	}
	id, _ := a.policy.Identity(name)
	return Person{Identity: id, Policy: a.policy, account: a.people.account(id), attempt: a}, nil
}

// SignIn signs the person in, where the policy is approved, and keeps the login.
func (p Person) SignIn(ctx context.Context, device bool, store string) (idtoken.Claims, error) {
	if err := p.attempt.settings.personIsHere(p.Identity); err != nil {
		return idtoken.Claims{}, err
	}
	if err := p.attempt.approved(ctx, p.Identity); err != nil {
		return idtoken.Claims{}, err
	}
	v, err := verifier(ctx, p.attempt.env, p.attempt.settings, p.Identity)
	if err != nil {
		return idtoken.Claims{}, err
	}
	return p.account.SignIn(ctx, v, device, store)
}

// personIsHere returns an error of class NoIdentity in a job, which would wait
// for a person until its time is over.
func (s Settings) personIsHere(id policy.Identity) error {
	if s.job.Kind == "" {
		return nil
	}
	which := fmt.Sprintf("of kind %q", s.job.Kind)
	if s.job.Kind == source.UnknownCI {
		which = "of a CI system, by the variable CI"
	}
	return fault.New(fault.NoIdentity,
		fmt.Errorf("sign in as identity %q: this is a job %s, and people sign in at a terminal", id.Name, which),
		"let a rule name an identity of the job's own kind; at a terminal, remove the variables of the CI system")
}

// SignOut ends the login here and, where the provider offers that, there.
func (p Person) SignOut(ctx context.Context) (was, revoked bool, err error) {
	return p.account.SignOut(ctx)
}

// Claims returns the verified claims of the person's current ID token.
func (p Person) Claims(ctx context.Context) (claims idtoken.Claims, err error) {
	a := p.attempt
	if err := a.approved(ctx, p.Identity); err != nil {
		return claims, err
	}
	a.source = a.people.stored(p.Identity)
	v, err := verifier(ctx, a.env, a.settings, p.Identity)
	if err != nil {
		return claims, err
	}
	_, err = a.verified(ctx, []*idtoken.Verifier{v}, p.Identity.Audience)
	return a.claims, err
}
