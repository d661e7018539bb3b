package job

import (
	"context"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

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
	PolicyDir    string // where relative paths of the policy start, "" where it has none
	Warnings     []fault.Warning
	Summary      string          // Markdown
	Broker       *broker.Broker  // what the profile leads to, nil for none; the caller closes it
	output       string          // the profile's output that holds the credential
	Route        route.Route     // the broker's
	client       string          // the warehouse whose clients, dbt apart, read Variables; "" for none
	Ceiling      Ceiling         // of what the broker keeps fresh
	Identity     policy.Identity // whose ID tokens the run has; the zero Identity before one was chosen
	Refused      func(int)       // records callers without the secret
	Halted       func(error)     // records why the run was ended
	leases       *leases         // what ends with the run
	shipping     *shipping
}

func (res *Result) warn(format string, args ...any) {
	res.Warnings = append(res.Warnings, fault.Warning{Text: fmt.Sprintf(format, args...)})
}

// Kinds are the credential's and the route's, for what outranks them.
func (res Result) Kinds() []string {
	kinds := []string{string(res.Credential.Kind), string(res.Route.Kind)}
	if res.client != "" {
		kinds = append(kinds, res.client+"_client")
	}
	return kinds
}

// End closes the broker, waits for its last records, and ends what ends with the
// run, its leases.
func (res Result) End(ctx context.Context, env Env) error {
	defer res.shipping.ending(ctx)()
	res.Broker.Close()
	res.shipping.wait()
	return res.leases.end(ctx, env)
}
