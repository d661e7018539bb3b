package policytest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/sample"
)

// A Report is what came of a file's cases.
type Report struct {
	File      string
	Results   []Result
	Uncovered []Uncovered
	Mutants   []Mutant
}

// A Result is one case's.
type Result struct {
	Case    Case
	Message string // what differs, "" where the case passes
	Table   string // of a case that fails: the explanation
}

// An Uncovered is a rule that no case matches.
type Uncovered struct {
	Target string
	Rule   policy.Rule
}

// A Mutant is an allowed case's token with one claim changed that is allowed all the same.
type Mutant struct {
	Case  string
	Claim string
	Value any // nil where the claim was removed
	Rule  policy.Rule
	Guard string // of the rule, as explain prints it; "" for none
}

// Failed reports whether a case failed or a rule is not covered.
func (r Report) Failed() bool {
	return len(r.Uncovered) > 0 || slices.ContainsFunc(r.Results, func(r Result) bool { return r.Message != "" })
}

// Run runs the cases as of a moment, which reviews of trust depend on.
func (f *File) Run(now time.Time) Report {
	report := Report{File: f.Name}
	matched := map[Uncovered]bool{}
	for _, c := range f.Cases {
		result := Result{Case: c}
		claims, err := f.token(c, c.Claims)
		if err != nil {
			result.Message = err.Error()
			report.Results = append(report.Results, result)
			continue
		}
		e := f.Policy.Explain(claims, now)
		for _, t := range e.Targets {
			for _, r := range t.Rules {
				if r.Matched && e.Deny == nil {
					matched[Uncovered{t.Target, r.Rule}] = true
				}
			}
		}
		if result.Message = c.judge(e, claims); result.Message != "" {
			result.Table = f.table(c, claims, now)
		}
		report.Results = append(report.Results, result)
	}
	if f.Coverage {
		report.Uncovered = f.uncovered(matched)
	}
	return report
}

func (f *File) uncovered(matched map[Uncovered]bool) (list []Uncovered) {
	for _, name := range f.Policy.Targets() {
		target, err := f.Policy.Target(name)
		if err != nil {
			continue // every name is of a target
		}
		for _, r := range target.Rules() {
			if u := (Uncovered{name, r.Rule}); !matched[u] {
				list = append(list, u)
			}
		}
	}
	return list
}

// token returns the claims of a case's token: those that are given, and those
// that follow from them.
func (f *File) token(c Case, given map[string]any) (idtoken.Unverified, error) {
	id, _ := f.Policy.Identity(c.Identity)
	made, err := sample.Make(id, sample.Facts{Claims: given})
	return made.Unverified, err
}

// table returns the explanation of the targets that a failed case is about.
func (f *File) table(c Case, claims idtoken.Unverified, now time.Time) string {
	target := ""
	if about := slices.Concat(c.Allow, c.Deny); len(about) == 1 {
		target = about[0]
	}
	report, err := explain.New(f.Policy, claims, now, target, explain.Source{Kind: "case"})
	var b strings.Builder
	if err == nil {
		report.AskProviders(f.Policy, claims)
		err = report.WriteText(&b)
	}
	if err != nil {
		return err.Error() + "\n"
	}
	return b.String()
}

// judge compares what the policy decides with what the case expects.
func (c Case) judge(e policy.Explanation, claims idtoken.Unverified) string {
	var allowed []string
	for _, t := range e.Targets {
		named := slices.Contains(c.Allow, t.Target) || slices.Contains(c.Deny, t.Target)
		if t.Allowed() && (named || !t.Auxiliary) {
			allowed = append(allowed, t.Target)
		}
	}
	if c.Deny != nil {
		if open := intersection(allowed, c.Deny); len(open) > 0 {
			return fmt.Sprintf("want %s denied, got allowed by %s", quoted(open), rules(e, open))
		}
		return c.judgeReason(e)
	}
	for _, name := range c.Allow {
		if t, _ := e.Target(name); !t.Allowed() {
			return fmt.Sprintf("want %q allowed, got denied: %s", name, t.Reason())
		}
	}
	if more := difference(allowed, c.Allow); len(more) > 0 {
		return fmt.Sprintf("want %s allowed and no other target, got also %s, by %s", quoted(c.Allow), quoted(more), rules(e, more))
	}
	for _, name := range c.Allow {
		t, _ := e.Target(name)
		got := explain.LoginOf(t.Login, claims)
		for _, key := range slices.Sorted(maps.Keys(c.Login)) {
			if want := c.Login[key]; got[key] != want {
				return fmt.Sprintf("login of %q: %s is %q, want %q", name, key, got[key], want)
			}
		}
		if got := cmp.Or(guardText(t.Guard), "none"); c.Guard != "" && got != c.Guard {
			return fmt.Sprintf("guard of %q is %q by %s, want %q", name, got, rules(e, []string{name}), c.Guard)
		}
	}
	return ""
}

// judgeReason compares the claims that keep the token out of each target's
// nearest rule with those that the case names.
func (c Case) judgeReason(e policy.Explanation) string {
	if c.Because == nil {
		return ""
	}
	want := slices.Sorted(slices.Values(c.Because))
	if e.Deny != nil {
		got := slices.Compact(slices.Sorted(slices.Values(e.Deny.Names())))
		if !slices.Equal(got, want) {
			return fmt.Sprintf("denied because of %s (deny rule %d, line %d), want because of %s",
				quoted(got), e.Deny.Index+1, e.Deny.Line, quoted(want))
		}
		return ""
	}
	for _, name := range c.Deny {
		t, _ := e.Target(name)
		nearest := t.Nearest()
		if len(nearest) == 0 {
			return fmt.Sprintf("%q is denied, but by no claim: %s", name, t.Reason())
		}
		got := slices.Compact(slices.Sorted(slices.Values(nearest[0].Mismatches())))
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%q is denied because of %s (rule %d, line %d), want because of %s",
				name, quoted(got), nearest[0].Index+1, nearest[0].Line, quoted(want))
		}
	}
	return ""
}

// guardText returns a guard as explain prints it, "" for none.
func guardText(g *policy.Guard) string {
	if g == nil {
		return ""
	}
	return g.String()
}

func rules(e policy.Explanation, targets []string) string {
	var list []string
	for _, name := range targets {
		t, _ := e.Target(name)
		list = append(list, fmt.Sprintf("rule %d (line %d)", t.Rule.Index+1, t.Rule.Line))
	}
	return strings.Join(list, ", ")
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(list, ", ")
}

func intersection(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

func difference(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
