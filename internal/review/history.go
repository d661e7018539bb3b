package review

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/oidc-dbt/oidc-dbt/internal/git"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// maxGit bounds all that git is asked: to find the commits that changed one
// file among 100,000 takes seconds.
const maxGit = time.Minute

// maxWords bounds an author's name and an error of git's, which may have any length.
const maxWords = 80

// A Change is the commit that changed a target's rules last.
type Change struct {
	Commit  string    // its hash
	Author  string    // as the commit says, which git does not check; on one line and printable
	people  []string  // the author and co-authors by their names and addresses: see by
	Time    time.Time // when it was committed
	Merge   Merge     // of the last change of a rule
	Unknown string    // why the commit is not known, on one line and printable; "" where it is
}

// AfterReview reports whether the rules changed on a later day than that of
// the last review.
func (t Target) AfterReview() bool {
	return t.Changed.Unknown == "" && !t.Reviewed.IsZero() &&
		t.Changed.Time.Format(time.DateOnly) > t.Reviewed.Format(time.DateOnly)
}

// Why the last change of rules is not known.
var (
	errNoFile   = errors.New("the policy is no file")
	errNotInGit = errors.New("not in git")
	errNotYet   = errors.New("changed since the last commit")
	errShallow  = errors.New("not in this shallow clone")
	errPartial  = errors.New("not in this partial clone")
)

// changes returns the last change of each target's rules.
func changes(ctx context.Context, in Input, targets []*policy.Target) []Change {
	ctx, cancel := context.WithTimeout(ctx, maxGit)
	defer cancel()
	list := make([]Change, len(targets))
	h, err := historyOf(ctx, in)
	for i, t := range targets {
		why := err
		if why == nil {
			list[i], why = h.change(ctx, t.Name())
		}
		if why != nil {
			list[i] = Change{Unknown: printable(why.Error())}
		}
	}
	return list
}

// A history is that of a policy's file up to the commit that is checked out.
type history struct {
	repository git.Repository
	name       string            // of the file in its folder
	now        rules             // of the file as it is
	tip        string            // the last commit that changed the file
	commits    map[string]commit // that changed the file
	roots      []string          // of a shallow clone: commits whose parents may be elsewhere
	versions   map[string]rules  // that were read, by commit
	main       *mainline         // nil until it is read
}

// A commit has as parents the commits before it that changed the file.
type commit struct {
	logged
	change Change
}

func historyOf(ctx context.Context, in Input) (*history, error) {
	if in.Path == "" {
		return nil, errNoFile
	}
	h := &history{
		repository: git.Repository{Dir: filepath.Dir(in.Path), Environ: in.Environ}, name: filepath.Base(in.Path),
		now: rulesOf([]byte(in.Policy.Text())), commits: map[string]commit{}, versions: map[string]rules{},
	}
	shallow, err := h.repository.Ask(ctx, "rev-parse", "--is-shallow-repository")
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "not a git repository"):
		return nil, errNotInGit
	case err != nil:
		return nil, err
	}
	if _, err := h.repository.Ask(ctx, "cat-file", "-e", "HEAD:./"+h.name); err != nil && ctx.Err() == nil {
		return nil, errNotInGit
	}
	if strings.TrimSpace(shallow) == "true" {
		roots, err := h.repository.Ask(ctx, "rev-list", "--max-parents=0", "HEAD")
		if err != nil {
			return nil, err
		}
		h.roots = strings.Fields(roots)
	}
	return h, h.readCommits(ctx)
}

// readCommits reads which commits changed the file. A merge that took the file of
// a parent is left out only if the other parents have nothing of their own: else it
// may have brought back what they had removed.
func (h *history) readCommits(ctx context.Context) error {
	list, err := h.log(ctx, "--parents", "--simplify-merges")
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errNotInGit
	}
	h.tip = list[0].hash // no commit comes before one that follows it
	for _, l := range list {
		h.commits[l.hash] = commit{l, Change{
			Commit: l.hash, Author: printable(l.author), Time: l.when, people: peopleOf(l.author, l.address, l.coAuthors),
		}}
	}
	return nil
}

// change goes back from the last version of the file for as long as the
// target's rules are the same.
func (h *history) change(ctx context.Context, target string) (Change, error) {
	at, err := h.since(ctx, h.tip, func(r rules) bool {
		sum, ok := r.targets[target]
		return ok && sum == h.now.targets[target]
	})
	if err != nil {
		return Change{}, err
	}
	return h.at(at)
}

// since goes back from a commit for as long as a version has something, and
// returns the commit that brought it.
func (h *history) since(ctx context.Context, at string, has func(rules) bool) (string, error) {
	if version, err := h.version(ctx, at); err != nil {
		return "", err
	} else if !has(version) {
		return "", errNotYet
	}
	for {
		with, without := "", []string(nil)
		for _, parent := range h.commits[at].parents {
			version, err := h.version(ctx, parent)
			switch {
			case err != nil:
				return "", err
			case !has(version):
				without = append(without, parent)
			case with == "":
				with = parent
			}
		}
		if with == "" {
			return at, nil
		}
		back, err := h.broughtBack(ctx, with, without, has)
		if err != nil || back {
			return at, err
		}
		at = with
	}
}

// broughtBack reports whether a merge has something again that one of its parents
// had removed: then who merged has changed it, and not who wrote it once.
func (h *history) broughtBack(ctx context.Context, with string, without []string, has func(rules) bool) (bool, error) {
	for _, parent := range without {
		bases, err := h.repository.Ask(ctx, "merge-base", "--all", with, parent)
		if ctx.Err() != nil {
			return false, err
		}
		for _, base := range strings.Fields(bases) { // none of two histories, which git says by its status
			if version, err := h.version(ctx, base); err == nil && has(version) {
				return true, nil
			}
		}
	}
	return false, ctx.Err()
}

// at returns a commit as the change that it is.
func (h *history) at(commit string) (Change, error) {
	if slices.Contains(h.roots, commit) {
		return Change{}, errShallow // it seems to have written every line
	}
	return h.commits[commit].change, nil
}

// version returns the policy as a commit has it.
func (h *history) version(ctx context.Context, commit string) (rules, error) {
	version, ok := h.versions[commit]
	if !ok {
		src, err := h.repository.Ask(ctx, "cat-file", "blob", commit+":./"+h.name)
		if err != nil && ctx.Err() == nil {
			err = errPartial
		}
		if err != nil {
			return rules{}, err
		}
		version = rulesOf([]byte(src))
		h.versions[commit] = version
	}
	return version, nil
}

// printable returns a text from outside on one line, cut, with invisible
// characters made visible: they could turn the line round or hide a part of it.
func printable(s string) string { return visible(s, maxWords) }

// printableWhole is printable for a text that is long for a reason.
func printableWhole(s string) string { return visible(s, maxText) }

// maxText bounds a text of the policy or of a file: a spreadsheet's cell has at
// most 32,767 characters.
const maxText = 30_000

func visible(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		if n++; n > limit {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(c) { // invalid UTF-8 is U+FFFD here
			c = '\uFFFD'
		}
		b.WriteRune(c)
	}
	return b.String()
}
