// Package job runs the steps in their order: policy, ID token, verification, decision, audit
// record, exchange, profile, audit record. Nothing is handed on before all of it is done.
package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Env is the world as a run sees it.
type Env struct {
	Getenv     func(string) string
	Environ    []string
	Now        func() time.Time
	Transport  *web.Transport
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Masks      func() io.Writer // where masks reach the runner and nobody else, nil for nowhere; not for the action, which has Stdout
	Dir        string           // the working directory
	TempDir    string           // for what exec writes
	Executable string           // the path of this binary
	Version    string
	Commit     string // that this binary was built from, "" where the build does not say
}

// auditLog is the log's path, absolute.
func (s Settings) auditLog() string { return s.path(s.AuditLog) }

// path returns p, from Root where it is relative.
func (s Settings) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.Root, p)
}

func (e Env) client() *http.Client { return web.NewClient(e.Transport) }

func (e Env) provider() exchange.Env {
	return exchange.Env{HTTP: e.client(), Network: e.Transport.Network(), Now: e.Now}
}

// Settings are what the user asked for. Relative paths start at Root.
type Settings struct {
	Target        string   // "": chosen by the claims
	Policy        string   // a path, or the policy itself when it has more than one line; "" for the default path
	SearchUpwards bool     // look for the default policy from Root upwards
	ProjectDirs   []string // of dbt projects; none means Root
	Profiles      []string // further profile names
	AuditLog      string
	DryRun        bool
	ProfileOnly   bool         // ask for no identity: the profile has placeholders
	Broker        bool         // keep the credential fresh for as long as the command runs
	Dir           string       // this step's or command's own folder, which only the user may enter
	StateDir      string       // a folder of this user's that stays between runs; "" for none
	AllowUIDs     []int        // other users who may use the broker, on Linux
	Program       string       // that will run, looked for before anything is asked for; "" for none
	CommandDir    string       // where the command runs; what its profile names is relative to it
	Say           func(string) // one line for the user, at any time; called by several at once
	// Renewed is told of each session of AWS that takes the place of the first
	// one; nil for nobody.
	Renewed   func(target string, c credential.Credential) error
	Timeout   time.Duration // for everything before a command; Action has its own
	dbtArgs   []string      // the command's, where dbt may be told its project
	Root      string
	Workspace string // the CI job's checkout, "" elsewhere

	policyDir string // where relative paths of the policy start
	inline    bool   // the policy is no file
}

// Result is what a run came to. After an error it holds what was known by then.
type Result struct {
	Decision     string // "allowed", "denied", "" when it did not come to one
	Allowed      string // who was allowed what by which rule, in one line; "" unless the policy allowed it
	Target       string
	Type         string // dbt's adapter type, "" for a credentials-only target
	Subject      string
	Credential   credential.Credential
	Profile      []byte   // profiles.yml, nil for a credentials-only target
	ProfileNames []string // the profiles in it, the first project's first
	Variables    []adapter.Variable
	PolicyText   []byte
	policyDir    string // where relative paths of the policy start, "" where it has none
	Warnings     []fault.Warning
	Summary      string         // Markdown
	Broker       *broker.Broker // what the profile leads to, nil for none; the caller closes it
	output       string         // the profile's output that holds the credential
	route        route.Route    // the broker's
	client       string         // the warehouse whose clients, dbt apart, read Variables; "" for none
	ceiling      ceiling        // of what the broker keeps fresh
	refused      func(int)      // records callers without the secret
	leases       *leases        // what ends with the run
}

func (res *Result) warn(format string, args ...any) {
	res.Warnings = append(res.Warnings, fault.Warning{Text: fmt.Sprintf(format, args...)})
}

// discovery is the audience of a token that only chooses the target, where
// the candidates' own audiences differ.
const discovery = "oidc-dbt"

// Catalog is what a policy may name in this build.
func Catalog() policy.Catalog {
	return policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()}
}

// authenticate runs the steps, and comes back when ctx has ended, though a
// call may not. Its errors carry the class that is the exit status. Secrets are
// masked as soon as they are known; nothing else is printed.
func authenticate(ctx context.Context, env Env, s Settings, r *runner.Runner) (Result, error) {
	type end struct {
		Result
		err error
	}
	e, ok := process.Bounded(ctx, process.Grace, func(ctx context.Context) (e end) {
		if s.ProfileOnly {
			e.Result, e.err = profileOnly(ctx, env, s)
			return e
		}
		e.Result, e.err = steps(ctx, env, s, r)
		return e
	})
	if !ok {
		return Result{}, interrupted(ctx, errors.New("get the credential: a file or a stream does not answer"))
	}
	return e.Result, e.err
}

func steps(ctx context.Context, env Env, s Settings, r *runner.Runner) (res Result, err error) {
	defer func() { err = interrupted(ctx, err) }()

	if err := web.CheckRootFiles(env.Getenv); err != nil {
		return res, err
	}
	pol, text, origin, err := readPolicy(ctx, env, s)
	if err != nil {
		return res, err
	}
	s.policyDir, s.inline = s.home(env, origin)
	res.PolicyText, res.Warnings = text, fault.Warnings(pol.Warnings()...)
	a := attempt{env: env, settings: s, runner: r, mask: r.Mask, policy: pol, leases: &leases{dir: folder{path: s.Dir}}}
	res.leases, res.refused, res.ceiling = a.leases, a.refused, ceilingOf(r, env.Now())
	if s.Target != "" {
		if a.target, err = pol.Target(s.Target); err != nil {
			return res, err
		}
		if a.project, err = readProject(ctx, env, s, a.target); err != nil {
			return res, err // before the network: a typing error must not cost a token
		}
	}
	if err := env.Transport.Network().Check(); err != nil {
		return res, err // no request may go another way than was meant
	}
	if s.Program != "" {
		if _, err := process.Find(s.Program); err != nil {
			return res, err
		}
	}
	if a.records, err = openRecords(env, s, pol, origin); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, a.records.close()) }()

	grant, idToken, err := a.decide(ctx)
	res.Subject = a.claims.Subject()
	if a.target != nil {
		res.Target, res.Type = a.target.Name(), a.project.dbtType
	}
	if !a.claims.IsZero() {
		res.Decision = "allowed"
		if fault.ClassOf(err) == fault.Denied && err != nil {
			res.Decision = "denied"
		}
	}
	if err := a.records.decision(a, grant, err); err != nil {
		return res, err // an unrecorded credential is not issued
	}
	if err == nil {
		rule := grant.Rule()
		res.Allowed = fmt.Sprintf("allowed: target %s by rule %d (line %d) for %s", res.Target, rule.Index+1, rule.Line, res.Subject)
		res.Warnings = append(res.Warnings, fault.Warnings(grant.Warnings()...)...)
		res.Warnings = append(append(res.Warnings, a.project.warnings...), a.project.identities(grant)...)
	}
	if err != nil || s.DryRun {
		res.Summary = a.records.summary()
		return res, err
	}

	c, err := a.exchange(ctx, grant, idToken)
	for _, v := range c.Secrets() {
		err = errors.Join(err, r.Mask(v))
	}
	defer func() {
		if err != nil {
			res.Broker.Close()
			err = errors.Join(err, res.leases.end(ctx, env))
		}
	}()
	if err == nil {
		var ends error
		if c, ends = a.hold(ctx, grant, c); ends != nil {
			res.warn("%s", withHint(ends))
			if fault.ClassOf(ends) == fault.Refused { // else the server may be back by the first renewal
				res.ceiling = res.ceiling.under(c)
			}
		}
		if res.Broker, err = a.serve(c); res.Broker != nil {
			res.route = a.project.route
		}
	}
	if a.project.relative {
		res.policyDir = s.policyDir
	}
	if err == nil {
		if err = a.project.render(&res, grant, c, res.Broker.Address()); a.project.dbtType != "" {
			res.Variables = append(res.Variables, profile.Environment(grant)...)
		}
	}
	for _, v := range res.Variables {
		if v.Secret {
			err = errors.Join(err, r.Mask(v.Value)) // a route's may hold more than its secret
		}
	}
	if rerr := a.records.outcome(c, err); rerr != nil {
		return res, errors.Join(err, rerr)
	}
	res.Summary = a.records.summary()
	if err != nil {
		return res, err
	}
	if c.Static {
		res.warn("the secret of target %q has no lease (`static: true`): it is not this run's alone, "+
			"and the end of the run does not end it", res.Target)
	}
	life, limit := c.Expiry.Sub(env.Now()), grant.MaxLifetime()
	if !c.Expiry.Equal(credential.Never()) && limit > 0 && life > limit+time.Minute { // a minute for the clocks
		// One that could be asked for a shorter life has been refused by now.
		res.warn("the credential of target %q lives %s, longer than max_lifetime, which is %s: provider %q cannot be asked for a shorter one",
			res.Target, life.Round(time.Second), limit, grant.Provider())
	}
	res.Credential = c
	return res, nil
}

// An attempt is one run on its way to a grant: what is known so far.
type attempt struct {
	env      Env
	settings Settings
	runner   *runner.Runner
	mask     func(secret.Value) error
	policy   *policy.Policy
	target   *policy.Target // nil until the claims have chosen one
	project  project
	claims   idtoken.Claims // zero until a token was verified
	records  *records
	leases   *leases                // of every renewal too
	held     *credential.Credential // whose lease is renewed; nil for none
	afresh   bool                   // what is held was refused by the warehouse
}

// decide asks for the ID token, verifies it and authorises its claims. Keys
// and connections are fetched while the token is asked for.
func (a *attempt) decide(ctx context.Context) (policy.Grant, secret.Value, error) {
	none := secret.Value{}
	candidates, err := a.candidates()
	if err != nil {
		return policy.Grant{}, none, err
	}
	verifiers, err := a.verifiers(candidates)
	if err != nil {
		return policy.Grant{}, none, err
	}
	for _, v := range verifiers {
		v.Prefetch(ctx)
	}
	audience := candidates[0].Audience()
	for _, t := range candidates {
		if t.Audience() != audience {
			audience = discovery
		}
	}
	if len(candidates) == 1 && !a.handsOut() {
		a.env.Transport.Preconnect(ctx, provider.Endpoints(candidates[0].Provider(), candidates[0].Exchange(), a.project.warehouse)...)
	}
	idToken, err := a.verified(ctx, verifiers, audience)
	if err != nil {
		return policy.Grant{}, none, err
	}
	if a.target == nil {
		if a.target, err = a.policy.Choose(a.claims); err != nil {
			return policy.Grant{}, none, err
		}
		if a.project, err = readProject(ctx, a.env, a.settings, a.target); err != nil {
			return policy.Grant{}, none, err
		}
		if a.target.Audience() != audience {
			if idToken, err = a.verified(ctx, verifiers, a.target.Audience()); err != nil {
				return policy.Grant{}, none, err
			}
		}
	}
	grant, err := a.policy.Authorize(a.target.Name(), a.claims, a.env.Now())
	if err == nil {
		err = a.project.granted(grant)
	}
	return grant, idToken, err
}

// candidates are the targets that this run may turn out to be for.
func (a *attempt) candidates() (targets []*policy.Target, err error) {
	if a.target != nil {
		return []*policy.Target{a.target}, nil
	}
	for _, name := range a.policy.Targets() {
		t, err := a.policy.Target(name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// verifiers returns one verifier for each identity of GitHub's kind that the
// targets' rules name: the issuer comes from the policy, never from the token.
func (a *attempt) verifiers(targets []*policy.Target) (verifiers []*idtoken.Verifier, err error) {
	seen := map[string]bool{}
	for _, t := range targets {
		for _, id := range t.Identities() {
			if id.Kind != "github" || seen[id.Name] {
				continue
			}
			seen[id.Name] = true
			verifiers = append(verifiers, idtoken.NewVerifier(a.env.client(), a.env.Now, idtoken.Issuer{URL: id.Issuer, JWKS: id.JWKS}))
		}
	}
	if len(verifiers) == 0 {
		return nil, fault.New(fault.NoIdentity,
			errors.New("find a token source: no rule names an identity of kind \"github\", and this build has no other source"),
			"only jobs of GitHub Actions can ask for an ID token")
	}
	return verifiers, nil
}

// verified asks for an ID token and sets a.claims from it.
func (a *attempt) verified(ctx context.Context, verifiers []*idtoken.Verifier, audience string) (secret.Value, error) {
	idToken, err := a.runner.IDToken(ctx, audience)
	if err != nil {
		return idToken, err
	}
	if err := a.mask(idToken); err != nil {
		return idToken, err
	}
	a.claims = idtoken.Claims{}
	var first error
	for _, v := range verifiers {
		claims, err := v.Verify(ctx, idToken, audience)
		if err == nil {
			err = sameEvent(a.env, claims)
		}
		if err == nil {
			a.claims = claims
			return idToken, nil
		}
		if first == nil {
			first = err
		}
	}
	return idToken, first
}

// sameEvent returns an error of class Rejected when the ID token is of another
// event than the one by which the policy's file was trusted: the variable is
// the job's to change, the token is not.
func sameEvent(env Env, c idtoken.Claims) error {
	const variable = "GITHUB_EVENT_NAME"
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		return nil // a variable of somebody else's, if any
	}
	said, ok := c.String("event_name")
	switch is := env.Getenv(variable); {
	case !ok:
		return fault.New(fault.Rejected, fmt.Errorf("verify ID token: it has no event_name, and %s is %q", variable, is), "")
	case said != is:
		return fault.New(fault.Rejected, fmt.Errorf("verify ID token: event_name is %q in the ID token and %q in %s", said, is, variable),
			"leave "+variable+" as the runner sets it")
	}
	return nil
}

func errTimeout(d time.Duration) error { return timeoutError(d) }

// timeoutError is the cause of a context that the `timeout` input ended.
type timeoutError time.Duration

func (d timeoutError) Error() string {
	return fmt.Sprintf("not done after %s, the time that `timeout` allows", time.Duration(d))
}

// interrupted puts the reason in the place of an error that is only the echo
// of the context's end.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var timeout timeoutError
	var signal process.Interrupt
	switch {
	case errors.As(cause, &timeout):
		doing, _, _ := strings.Cut(err.Error(), ": ") // what went wrong then is the time-out
		return fault.New(fault.Unreachable, fmt.Errorf("%s: %w", doing, timeout),
			"see whether the server can be reached from this runner, or raise `timeout`")
	case errors.As(cause, &signal):
		return fmt.Errorf("%w: nothing was published", signal)
	}
	return err
}

// ExitStatus returns the status of a run that ended in err.
func ExitStatus(err error) int {
	var signal process.Interrupt
	if errors.As(err, &signal) {
		return signal.Status()
	}
	return int(fault.ClassOf(err))
}
