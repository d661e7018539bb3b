package job

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// records appends what happens to the audit log, and keeps it for the summary.
type records struct {
	path     string
	log      *audit.Log
	now      func() time.Time
	run      audit.Run
	renewal  bool          // the outcome is a lease that goes on
	first    *audit.Record // the decision; of a request that did not come to one, its end
	followUp *audit.Record
	shipping *shipping // nil where records stay in the file
	sent     []sending
	unsent   []unshipped   // what need not be shipped
	tries    time.Duration // in which shipping tries again, 0 for all that it has
	aside    bool          // nothing waits for its shipping
}

// openRecords opens the log before any request: a credential that could not
// be recorded must not be asked for.
func openRecords(env Env, s Settings, p *policy.Policy, origin string) (*records, error) {
	path := s.AuditLogPath()
	if err := audit.CheckPath(path, s.Workspace); err != nil {
		return nil, err
	}
	log, err := audit.Open(path)
	if err != nil {
		return nil, err
	}
	return &records{path: path, log: log, now: env.Now, run: audit.Run{
		ID: audit.NewID(), Version: env.Version, PolicyOrigin: origin, PolicySHA256: p.SHA256(), DryRun: s.DryRun,
		ExtraCA: env.Transport.Network().ExtraCA(),
	}}, nil
}

// renewalTries is short: the broker tries a renewal again by itself.
const renewalTries = 2 * time.Second

// again opens the log for a renewal, which is a request of its own.
func (r *records) again() (*records, error) {
	log, err := audit.Open(r.path)
	if err != nil {
		return nil, err
	}
	next := r.next()
	next.log, next.run.ID = log, audit.NewID()
	return next, nil
}

// next returns records of the run that go on where the first ones end.
func (r *records) next() *records {
	return &records{path: r.path, now: r.now, run: r.run, shipping: r.shipping, tries: renewalTries}
}

// append appends a record while the run goes on.
func (r *records) append(record audit.Record) error {
	log, err := audit.Open(r.path)
	if err != nil {
		return err
	}
	return errors.Join(log.Append(record), log.Close())
}

// failed is the record of a request that ended in err.
func (r *records) failed(ctx context.Context, err error) audit.Record {
	if stopped(ctx) {
		return r.run.Stopped(r.now(), interrupted(ctx, err))
	}
	return r.run.Failed(r.now(), err)
}

// Recorded is what records have of an identity.
func Recorded(id policy.Identity) audit.Identity {
	name, account := id.ActorClaims()
	return audit.Identity{
		Name: id.Name, Kind: id.Kind, ActorName: name, ActorID: account,
		Claims: slices.Concat(id.RunClaims(), id.RecordedClaims()),
	}
}

// decision records how the request was decided, before anything is exchanged:
// allowed by a grant, or err.
func (r *records) decision(ctx context.Context, a attempt, g policy.Grant, err error) error {
	r.run.Claims, r.run.TokenSHA256, r.run.Projects = a.claims, a.tokenSHA256, a.project.dbt
	if !a.claims.IsZero() {
		r.run.ActorKind, r.run.ActorKindSource = a.policy.ActorKind(a.claims)
		r.run.Identity = Recorded(a.policy.IdentityOf(a.claims))
		r.run.AgentHint = source.AgentHint(a.env.Getenv)
	}
	if a.target != nil {
		r.run.Target, r.run.Provider, r.run.Audience = a.target.Name(), a.target.Provider(), a.target.Audience()
	}
	var record audit.Record
	var denial *policy.Denial
	switch {
	case err == nil:
		if held := g.Guard(); held != nil {
			r.run.Guard = held.String()
		}
		record = r.run.Allowed(r.now(), g.Rule().Index, g.Rule().Line)
	case errors.As(err, &denial):
		record = r.run.Denied(r.now(), denial.Reason(), mismatches(denial))
	default:
		record = r.failed(ctx, err)
	}
	r.first = &record
	if err := r.log.Append(record); err != nil {
		return err
	}
	r.ship(ctx, record)
	if err != nil {
		return r.shipped(false)
	}
	if r.run.DryRun {
		skipped := r.run.Skipped(r.now())
		r.followUp = &skipped
		return r.log.Append(skipped)
	}
	return nil
}

// outcome records what the exchange came to, before anything is published. key
// is what the logs of the warehouse and the provider have of c.
func (r *records) outcome(ctx context.Context, c credential.Credential, key map[string]string, err error) error {
	record := r.run.Issued(r.now(), c, key)
	switch {
	case err != nil:
		record = r.failed(ctx, err)
	case r.renewal:
		record = r.run.Renewed(r.now(), c, key)
	}
	r.followUp = &record
	if err := r.log.Append(record); err != nil {
		return errors.Join(err, r.shipped(false)) // the decision is on its way
	}
	r.ship(ctx, record)
	return r.shipped(err == nil)
}

func (r *records) summary() string { return audit.Summary(*r.first, r.followUp) }

// close ends the log. An error matters: on some file systems a write fails only here.
func (r *records) close() error {
	if err := r.log.Close(); err != nil {
		return fault.New(fault.Internal, err, "")
	}
	return nil
}

func mismatches(d *policy.Denial) (list []audit.Mismatch) {
	for _, rule := range d.Rules {
		for _, m := range rule.Mismatches {
			list = append(list, audit.Mismatch{Rule: rule.Index, Line: rule.Line, Claim: m.Claim, Got: m.Got, Want: m.Want})
		}
	}
	return list
}
