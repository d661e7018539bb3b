// Package lint finds risky settings in a policy and in the files around it: each finding has a
// place, a reason and a fix.
//
// It reads the policy, the workflows, dbt's files and the .env files of a
// repository, and changes nothing. Each check has its own file here, and its
// page in docs/lint.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A Severity says how much a finding matters.
type Severity string

// The severities, the gravest first.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Severities returns all of them, the gravest first.
func Severities() []Severity { return []Severity{Error, Warning, Note} }

// AtLeast reports whether s is as grave as other.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(Severities(), s) <= slices.Index(Severities(), other)
}

// A Finding is a risky setting at one place.
type Finding struct {
	Name     string
	Severity Severity
	File     string // relative to the working directory, with /
	Line     int    // from 1
	Column   int    // from 1
	Message  string // why it matters
	Fix      string // what to do
	Witness  map[string]any

	Suppressed bool
	Reason     string // of the suppression

	shown string // the line, secrets redacted
	caret int    // where in shown the column is
}

// A Report is the findings in some files, in the order of their places.
type Report struct {
	Findings []Finding
	Files    int      // that were read
	Notices  []string // of what could not be found out
	Version  string   // of this build, for the addresses of the pages
	Below    string   // the working directory in the repository, with /; "" for the repository's own folder
}

// Fails reports whether there is a finding at least as grave as s that no
// comment suppresses.
func (r Report) Fails(s Severity) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Suppressed && f.Severity.AtLeast(s) })
}

// Env is the world as a lint sees it.
type Env struct {
	Dir     string // the working directory
	Environ []string
	Now     time.Time
	Catalog policy.Catalog
	Version string
	// Workspace is the repository's folder of a job, "" elsewhere: annotations and
	// code scanning call files from there.
	Workspace string
	Owners    []string // of GitHub, whose reusable workflows are trusted in addition to the policy's own
}

// maxFindings bounds the findings of one check in one file. Code scanning shows
// 5,000 of a run.
const maxFindings = 1000

// below returns where in the workspace the working directory is.
func (env Env) below() string {
	rel, err := filepath.Rel(env.Workspace, env.Dir)
	if env.Workspace == "" || err != nil || !filepath.IsLocal(rel) || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}

// fromRoot returns a file's name in the repository.
func (r Report) fromRoot(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(r.Below, name)
}

// Run looks at the given files and folders, or without any at what is in the
// working directory. An error, of class Usage, names every file that could not
// be read; the report is then of the others.
func Run(ctx context.Context, env Env, paths []string) (Report, error) {
	in, err := read(ctx, env, paths)
	r := Report{Files: len(in.all), Notices: in.notices, Version: env.Version, Below: env.below()}
	for _, c := range checks {
		count := map[*file]int{}
		c.find(in, func(at place, fix, format string, args ...any) *Finding {
			if count[at.file]++; count[at.file] > maxFindings {
				if count[at.file] == maxFindings+1 {
					r.Notices = append(r.Notices, fmt.Sprintf("%q has more than %d findings of %s", at.file.name, maxFindings, c.name))
				}
				return new(Finding) // not reported
			}
			r.Findings = append(r.Findings, at.finding(c, fix, fmt.Sprintf(format, args...)))
			return &r.Findings[len(r.Findings)-1]
		})
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, cmp.Compare(a.Name, b.Name))
	})
	// What an anchor marks is looked at again where it is used.
	r.Findings = slices.CompactFunc(r.Findings, func(a, b Finding) bool {
		return a.Name == b.Name && a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
	return r, err
}

// A check looks for one kind of finding.
type check struct {
	name     string
	severity Severity
	meaning  string // for the table of all checks
	lasting  bool   // no comment suppresses it
	find     func(in *files, found report)
}

// A report takes in a finding: where, what to do about it, and why it matters.
type report func(at place, fix, format string, args ...any) *Finding

// checks are all, sorted by name.
var checks = []check{
	agentWithoutGuard, anyRunner, authorChosenClaim, chosenSubject, environmentWithoutRef, foreignWorkflow,
	guardsShareRole, idTokenForEveryJob, ignoreWithoutReason, limitNotEnforced, mutableWorkflowRef, nameOnlyBinding,
	overlappingTargets, policyError, pullRequestToProduction, reviewDue, sharedAudience, staticLease,
	staticSecret, unenforceableClaim, unpinnedDBTPackage, unreachableRule, wideMatcher,
}

// A Check is what is said of a check where all are listed.
type Check struct {
	Name     string
	Severity Severity
	Meaning  string
}

// Checks returns all checks, sorted by name.
func Checks() []Check {
	list := make([]Check, len(checks))
	for i, c := range checks {
		list[i] = Check{c.name, c.severity, c.meaning}
	}
	return list
}
