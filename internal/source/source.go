// Package source obtains ID tokens: from the CI system whose job this is, or from where the policy says that
// an identity's tokens come from. It never tries a second source after a first.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Env is the world as a source sees it.
type Env struct {
	Getenv  func(string) string
	Environ []string
	HTTP    *http.Client // from web.NewClient
	Now     func() time.Time
	Dir     string // where relative paths of a source start, and where its command runs
	// GitHub requests a token of the runner whose step this is.
	GitHub func(ctx context.Context, audience string) (secret.Value, error)
	Stderr io.Writer // where a source's command writes its own messages
}

// A Source obtains the ID tokens of one identity.
type Source struct {
	identity policy.Identity
	token    func(ctx context.Context, audience string) (secret.Value, error)
}

// Stored returns the source of a person's login.
func Stored(id policy.Identity, token func(context.Context) (secret.Value, error)) Source {
	return Source{identity: id, token: func(ctx context.Context, _ string) (secret.Value, error) { return token(ctx) }}
}

// Identity returns whose tokens they are.
func (s Source) Identity() policy.Identity { return s.identity }

// Token obtains an ID token for the audience; of a source that cannot ask for
// one, verification judges the audience that the token has.
// Errors are of class NoIdentity where there is no token to be had, Unreachable
// where what hands them out does not answer as it should.
func (s Source) Token(ctx context.Context, audience string) (secret.Value, error) {
	return s.token(ctx, audience)
}

// maxToken bounds what a source may hand out: an ID token is under 10 kB.
const maxToken = 64 << 10

// A system is a CI system, a platform or an agent's environment that hands out
// ID tokens in a way of its own.
type system struct {
	// here reports whether this process runs there, by documented variables.
	here func(getenv func(string) string) bool
	// token obtains a token in the system's own way.
	token func(ctx context.Context, env Env, audience string) (secret.Value, error)
	// variables let their holder obtain tokens, or are tokens: commands never get them.
	variables []string
}

// systems are those of each kind of identity that has one.
var systems = map[string]system{
	"github": {
		here:      func(getenv func(string) string) bool { return getenv("GITHUB_ACTIONS") == "true" && !isForgejo(getenv) },
		token:     fromGitHub,
		variables: []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
	},
	"forgejo": {
		here:      isForgejo,
		token:     fromGitHub,
		variables: []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
	},
	"gitlab": {
		here:      isSet("GITLAB_CI"),
		token:     fromVariable("OIDC_DBT_ID_TOKEN", "add it to the job: `id_tokens: {OIDC_DBT_ID_TOKEN: {aud: AUDIENCE}}`"),
		variables: []string{"OIDC_DBT_ID_TOKEN"},
	},
	"circleci": {
		here:      isSet("CIRCLECI"),
		token:     fromCircleCI,
		variables: []string{"CIRCLE_OIDC_TOKEN", "CIRCLE_OIDC_TOKEN_V2"},
	},
	"buildkite": {
		here:      isSet("BUILDKITE"),
		token:     fromBuildkite,
		variables: []string{"BUILDKITE_AGENT_ACCESS_TOKEN"},
	},
	"azure_pipelines": {
		here:      isSet("TF_BUILD"),
		token:     fromAzurePipelines,
		variables: []string{"SYSTEM_ACCESSTOKEN", "SYSTEM_OIDCREQUESTURI"},
	},
	"bitbucket": {
		here:      isSet("BITBUCKET_BUILD_NUMBER"),
		token:     fromVariable("BITBUCKET_STEP_OIDC_TOKEN", "add `oidc: true` to the step, or `oidc: {audiences: [AUDIENCE]}`"),
		variables: []string{"BITBUCKET_STEP_OIDC_TOKEN"},
	},
	"cursor": {
		here:  isSet("CURSOR_AGENT_SOCKET"),
		token: fromCursor,
	},
	"claude_code": {
		here:      isSet("CLAUDE_CODE_SESSION_ACCESS_TOKEN"),
		token:     fromClaudeCode,
		variables: []string{"CLAUDE_CODE_SESSION_ACCESS_TOKEN"},
	},
	// Only where the policy names them: nothing tells for sure that this
	// process runs there, and the network is not probed.
	"aws":    {token: fromAWS},
	"google": {token: fromGoogle},
}

// isSet reports whether a variable says that this process runs in a system.
func isSet(variable string) func(func(string) string) bool {
	return func(getenv func(string) string) bool {
		value := getenv(variable)
		return value != "" && !strings.EqualFold(value, "false")
	}
}

// isForgejo reports whether this is a job of Forgejo's runner, which sets
// GitHub's variables as well.
func isForgejo(getenv func(string) string) bool {
	return getenv("FORGEJO_ACTIONS") == "true" || getenv("GITEA_ACTIONS") == "true" && getenv("FORGEJO_TOKEN") != ""
}

// Withheld returns the variables that commands never get, sorted: they are
// tokens, or let their holder obtain some, at any system or by the identity's
// own source. The zero Identity has none.
func Withheld(id policy.Identity) (names []string) {
	for _, s := range systems {
		names = append(names, s.variables...)
	}
	if id.Source.Env != "" {
		names = append(names, id.Source.Env)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A Choice is a source that was given on the command line: `--token-source
// IDENTITY=env:NAME|file:PATH`, or the identity alone.
type Choice struct {
	Identity string // "" for none
	Source   policy.Source
}

// ParseChoice reads a flag's value.
func ParseChoice(text string) (c Choice, err error) {
	name, from, given := strings.Cut(text, "=")
	if c.Identity = name; name == "" || !given {
		return c, fmt.Errorf("token source %q: want IDENTITY=env:NAME or IDENTITY=file:PATH", text)
	}
	kind, value, _ := strings.Cut(from, ":")
	switch {
	case kind == "env" && value != "":
		c.Source.Env = value
	case kind == "file" && value != "":
		c.Source.File = value
	default:
		return c, fmt.Errorf("token source %q: want env:NAME or file:PATH behind the =", text)
	}
	return c, nil
}

// Choose returns the one source of this run among the identities that the
// policy's rules name: the one that was chosen on the command line, else that
// of the CI system whose job this is, else the only one that the policy names
// a source for, or the only one by which people sign in. stored gives the
// source of a person's login. Errors are of class NoIdentity, or Usage for a
// choice that the policy does not have.
func Choose(env Env, identities []policy.Identity, chosen Choice, stored func(policy.Identity) Source) (Source, error) {
	if chosen.Identity != "" {
		return named(env, identities, chosen, stored)
	}
	here := Here(env.Getenv)
	for _, id := range identities {
		if here != "" && id.Kind == here {
			return of(env, id, stored), nil
		}
	}
	if here != "" && !slices.ContainsFunc(identities, hasSource) {
		return Source{}, fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: this is a job of kind %q, and no rule names an identity of that kind; the rules name %s",
				here, describe(identities)), "add the identity to the policy, and a rule for it")
	}
	var candidates []policy.Identity
	for _, id := range identities {
		if hasSource(id) {
			candidates = append(candidates, id)
		}
	}
	switch len(candidates) {
	case 1:
		return of(env, candidates[0], stored), nil
	case 0:
		return none(env, identities)
	}
	return Source{}, fault.New(fault.NoIdentity,
		fmt.Errorf("request ID token: the identities %s could sign in here", describe(candidates)),
		"choose one of them with --as IDENTITY")
}

// none is the error where no identity has a source here.
func none(env Env, identities []policy.Identity) (Source, error) {
	for _, id := range identities {
		if policy.LikeGitHub(id.Kind) {
			return of(env, id, nil), nil // says itself what is missing
		}
	}
	return Source{}, fault.New(fault.NoIdentity,
		fmt.Errorf("request ID token: no source of ID tokens for the identities that the rules name: %s", describe(identities)),
		"run it as a job of that system, or give the identity a `source`")
}

// hasSource reports whether an identity's tokens can be had outside a CI
// system's job.
func hasSource(id policy.Identity) bool {
	return !id.Source.IsZero() || id.Kind == "people" || id.Kind == "aws" || id.Kind == "google"
}

func named(env Env, identities []policy.Identity, chosen Choice, stored func(policy.Identity) Source) (Source, error) {
	for _, id := range identities {
		if id.Name != chosen.Identity {
			continue
		}
		if !chosen.Source.IsZero() {
			id.Source = chosen.Source
		}
		return of(env, id, stored), nil
	}
	return Source{}, fault.New(fault.Usage,
		fmt.Errorf("request ID token: no rule names identity %q; the rules name %s", chosen.Identity, describe(identities)), "")
}

// of returns the source of an identity.
func of(env Env, id policy.Identity, stored func(policy.Identity) Source) Source {
	s := Source{identity: id}
	switch src := id.Source; {
	case src.Env != "":
		s.token = func(ctx context.Context, _ string) (secret.Value, error) { return variable(env, src.Env, "") }
	case src.File != "":
		s.token = func(ctx context.Context, _ string) (secret.Value, error) { return file(env, id, src.File) }
	case len(src.Command) > 0:
		s.token = func(ctx context.Context, audience string) (secret.Value, error) {
			return command(ctx, env, src.Command, audience)
		}
	case src.UnixSocket != "":
		s.token = func(ctx context.Context, audience string) (secret.Value, error) {
			return overSocket(ctx, env, src.UnixSocket, audience)
		}
	case id.Kind == "people" && stored != nil:
		return stored(id)
	default:
		system, ok := systems[id.Kind]
		if !ok {
			s.token = func(context.Context, string) (secret.Value, error) {
				return secret.Value{}, fault.New(fault.NoIdentity,
					fmt.Errorf("request ID token: kind %q has no source of its own", id.Kind),
					"give identity "+id.Name+" a `source`: env, file, command or unix_socket")
			}
			return s
		}
		s.token = func(ctx context.Context, audience string) (secret.Value, error) {
			return system.token(ctx, env, audience)
		}
	}
	return s
}

// Here returns the kind of the CI system whose job this is, "" for none.
func Here(getenv func(string) string) string {
	if kinds := present(getenv); len(kinds) > 0 {
		return kinds[0]
	}
	return ""
}

// present returns the kinds of the systems whose variables are there. GitHub
// and Forgejo come first: a step can set the variables of any other system for
// later ones, but not those that begin with GITHUB_.
func present(getenv func(string) string) (kinds []string) {
	for kind, s := range systems {
		if s.here != nil && s.here(getenv) {
			kinds = append(kinds, kind)
		}
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if policy.LikeGitHub(a) != policy.LikeGitHub(b) {
			if policy.LikeGitHub(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return kinds
}

func describe(identities []policy.Identity) string {
	texts := make([]string, len(identities))
	for i, id := range identities {
		texts[i] = fmt.Sprintf("%q (kind %q)", id.Name, id.Kind)
	}
	return strings.Join(texts, ", ")
}

// Ceiling returns when nothing can be kept fresh any more for a source with one
// token for the whole job: at its expiry. ok is false for a source of fresh
// tokens. The claims are those of the verified token.
func (s Source) Ceiling(claims idtoken.Claims) (end time.Time, ok bool) {
	if !s.identity.FixedToken() || claims.IsZero() {
		return time.Time{}, false
	}
	return claims.Expiry(), true
}

// tokenOf checks what a source has handed out: one token, on one line.
func tokenOf(text, where string) (secret.Value, error) {
	text = strings.TrimRight(text, "\r\n \t")
	switch {
	case text == "":
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s is empty", where), "")
	case len(text) > maxToken:
		return secret.Value{}, fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: %s is larger than %d bytes", where, maxToken), "")
	case !headerText(text): // RFC 6750, 2.1
		return secret.Value{}, fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: %s contains more than one token, or is none", where), "")
	}
	return secret.New(text), nil
}

// fromGitHub asks the runner.
func fromGitHub(ctx context.Context, env Env, audience string) (secret.Value, error) {
	if env.GitHub == nil {
		return secret.Value{}, fault.New(fault.NoIdentity, errors.New("request ID token: not a step of GitHub Actions"), "")
	}
	return env.GitHub(ctx, audience)
}
