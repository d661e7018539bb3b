package command

import (
	"context"
	"fmt"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

// unusedAfter is when a rule that nothing matched should be removed.
const unusedAfter = 90 * 24 * time.Hour

// A ruleUse follows when the rules of a policy were used last.
type ruleUse struct {
	policy *policy.Policy
	now    time.Time
	first  time.Time // the oldest record
	last   map[string]map[int]time.Time
}

func newRuleUse(p *policy.Policy, now time.Time) *ruleUse {
	u := &ruleUse{policy: p, now: now, last: map[string]map[int]time.Time{}}
	for _, name := range p.Targets() {
		u.last[name] = map[int]time.Time{}
	}
	return u
}

func (u *ruleUse) add(e auditlog.Entry) {
	at := e.Record.At()
	if u.first.IsZero() || at.Before(u.first) {
		u.first = at
	}
	un := e.Record.Unmapped
	uses, ours := u.last[un.Target]
	if un.Decision != "allowed" || un.Rule == nil || !ours {
		return
	}
	for _, rule := range u.rulesOf(e) {
		if at.After(uses[rule]) {
			uses[rule] = at
		}
	}
}

// rulesOf returns the policy's rules that a decision used: what the record
// says, if it is of this policy. Of another version of it, all whose claims the
// record has or may have had.
func (u *ruleUse) rulesOf(e auditlog.Entry) (rules []int) {
	un := e.Record.Unmapped
	if un.PolicySHA256 == u.policy.SHA256() {
		return []int{un.Rule.Index}
	}
	past, ok, err := audit.ReadDecision(e.Text, recordedOf)
	if err != nil || !ok {
		return nil
	}
	claims, err := idtoken.NewUnverified(past.Claims)
	if err != nil {
		return nil
	}
	t, _ := u.policy.Explain(claims.Partial(past.Absent...), u.now).Target(un.Target)
	for _, r := range t.Rules {
		possible := !r.Foreign
		for _, c := range r.Claims {
			possible = possible && (c.Matched || c.Unknown)
		}
		if possible {
			rules = append(rules, r.Rule.Index)
		}
	}
	return rules
}

// find adds what a review should look at.
func (u *ruleUse) find(ctx context.Context, v *auditlog.Verification) error {
	report, err := review.New(ctx, review.Input{Policy: u.policy, Now: u.now})
	if err != nil {
		return err
	}
	for _, t := range report.Targets {
		switch t.State {
		case review.Never:
			v.Found(auditlog.Finding{Name: auditlog.ReviewOverdue, Target: t.Name,
				Message: "its trust was never reviewed: set trust_reviewed"})
		case review.Overdue:
			v.Found(auditlog.Finding{Name: auditlog.ReviewOverdue, Target: t.Name,
				Message: fmt.Sprintf("its trust was reviewed on %s, and the review was due on %s",
					t.Reviewed.Format(time.DateOnly), t.Due.Format(time.DateOnly))})
		}
	}
	since := u.now.Add(-unusedAfter)
	if u.first.IsZero() || u.first.After(since) {
		return nil // the records are too short to tell
	}
	for _, name := range u.policy.Targets() {
		t, err := u.policy.Target(name)
		if err != nil {
			return err
		}
		for _, rule := range t.Rules() {
			last := u.last[name][rule.Index]
			if !last.Before(since) {
				continue
			}
			message := fmt.Sprintf("no request matched it in these records, which begin on %s", u.first.Format(time.DateOnly))
			if !last.IsZero() {
				message = "it was used last on " + last.Format(time.DateOnly)
			}
			v.Found(auditlog.Finding{Name: auditlog.RuleUnused, Target: name, Rule: rule.Index + 1, Time: last,
				Message: message + ": remove it if it is not needed"})
		}
	}
	return nil
}
