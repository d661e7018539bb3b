package review

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Merge is what the history says of how a commit came to the branch that is checked out. All of it is text
// that the authors of commits chose.
type Merge struct {
	PullRequest string   // as #12, or with GitLab's project as acme/policies!12; "" for none
	By          string   // who made the merge commit, or is another committer than the author; "" where neither is known
	Reviewers   []string // by the trailers Reviewed-by and Approved-by
}

// A logged is a commit as git logs it.
type logged struct {
	hash               string
	parents            []string
	when               time.Time // when it was committed
	author, address    string
	committer, at      string // at is the address
	coAuthors          string // trailers, divided by \x01
	reviewers, message string // reviewers as coAuthors
}

// logFormat has the fields of a logged, each but the last with \x00 behind it.
const logFormat = "--format=%H%x00%P%x00%cI%x00%an%x00%ae%x00%cn%x00%ce%x00" +
	"%(trailers:key=Co-authored-by,valueonly,separator=%x01)%x00" +
	"%(trailers:key=Reviewed-by,key=Approved-by,valueonly,separator=%x01)%x00%B"

const logFields = 10

// log returns what `git log` prints with further options.
func (h *history) log(ctx context.Context, options ...string) (list []logged, err error) {
	args := slices.Concat([]string{"log", "-z", "--topo-order", "--no-patch", "--no-color", "--encoding=UTF-8", logFormat},
		options, []string{"HEAD", "--", h.name})
	out, err := h.repository.Ask(ctx, args...)
	if err != nil || out == "" {
		return nil, err
	}
	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	if len(fields)%logFields != 0 {
		return nil, errors.New("git names no commits")
	}
	for f := fields; len(f) > 0; f = f[logFields:] {
		when, err := time.Parse(time.RFC3339, f[2])
		if err != nil {
			return nil, errors.New("git names no time of a commit")
		}
		list = append(list, logged{f[0], strings.Fields(f[1]), when, f[3], f[4], f[5], f[6], f[7], f[8], f[9]})
	}
	return list, nil
}

// A mainline is the commits by which the branch itself changed the file: those on its own line, and the merges that
// brought others.
type mainline struct {
	commits map[string]logged
	brought map[string]string // what a merge brought, by commit: the merge
}

// readMainline reads it once.
func (h *history) readMainline(ctx context.Context) error {
	if h.main != nil {
		return nil
	}
	commits, err := h.log(ctx, "--first-parent")
	if err != nil {
		return err
	}
	m := mainline{map[string]logged{}, map[string]string{}}
	for _, c := range commits {
		m.commits[c.hash] = c
		if len(c.parents) < 2 {
			continue
		}
		out, err := h.repository.Ask(ctx, "rev-list", "--full-history", c.parents[0]+".."+c.hash, "--", h.name)
		if err != nil {
			return err
		}
		for _, hash := range strings.Fields(out) {
			m.brought[hash] = c.hash
		}
	}
	h.main = &m
	return nil
}

// merge returns how a commit came to the branch.
func (h *history) merge(ctx context.Context, commit string) Merge {
	if err := h.readMainline(ctx); err != nil {
		return Merge{By: "unknown: " + printable(err.Error())}
	}
	own, bringing := h.commits[commit].logged, h.main.commits[h.main.brought[commit]]
	if c, ok := h.main.commits[commit]; ok {
		own, bringing = c, c
	}
	m := Merge{PullRequest: pullRequest(bringing.message), By: bringing.mergedBy()}
	if m.PullRequest == "" {
		m.PullRequest = pullRequest(own.message)
	}
	m.Reviewers = bringing.reviewersOnce(nil)
	m.Reviewers = own.reviewersOnce(m.Reviewers)
	return m
}

// webFlow is the committer of what GitHub's pages commit for a person.
const webFlow = "noreply@github.com"

// mergedBy returns who merged: of a merge commit its author, since a forge may be its committer; of another commit its
// committer, if that is not the author.
func (l logged) mergedBy() string {
	switch {
	case len(l.parents) > 1:
		return printable(l.author)
	case l.committer == l.author, strings.EqualFold(l.at, l.address), strings.EqualFold(l.at, webFlow):
		return ""
	}
	return printable(l.committer)
}

// maxReviewers bounds what a commit's message can fill a cell with.
const maxReviewers = 20

// reviewersOnce adds the commit's reviewers to a list, without those that it has.
func (l logged) reviewersOnce(list []string) []string {
	have := map[string]bool{}
	for _, name := range list {
		have[name] = true
	}
	for trailer := range strings.SplitSeq(l.reviewers, "\x01") {
		name, rest, _ := strings.Cut(trailer, "<")
		if name = strings.TrimSpace(name); name == "" {
			name, _, _ = strings.Cut(rest, ">")
		}
		if name = printable(strings.TrimSpace(name)); name != "" && !have[name] && len(list) < maxReviewers {
			list, have[name] = append(list, name), true
		}
	}
	return list
}

// pullRequests are the forms of messages by which forges name a pull request:
// GitHub's and Bitbucket Server's merges, Bitbucket's, Azure's, GitLab's, and
// the title of GitHub's squashed commits. A number has # before it.
var pullRequests = []*lazy.Regexp{
	lazy.MustCompile(`^Merge pull request #([0-9]{1,12})\b`),
	lazy.MustCompile(`^Merged in .*\(pull request #([0-9]{1,12})\)`),
	lazy.MustCompile(`^Merged PR ([0-9]{1,12}):`),
	lazy.MustCompile(`(?m)^See merge request ([A-Za-z0-9_./-]{0,300}![0-9]{1,12})\r?$`),
	lazy.MustCompile(`^[^\n]*\(#([0-9]{1,12})\)[ \t]*\r?(?:\n|$)`),
}

// pullRequest returns the pull request that a commit's message names, "" for none.
func pullRequest(message string) string {
	for _, form := range pullRequests {
		if found := form.FindStringSubmatch(message); found != nil {
			if strings.Contains(found[1], "!") {
				return found[1]
			}
			return "#" + found[1]
		}
	}
	return ""
}

// text is the merge as one line, "" where nothing is known.
func (m Merge) text() string {
	var parts []string
	if m.PullRequest != "" {
		parts = append(parts, "pull request "+m.PullRequest)
	}
	if m.By != "" {
		parts = append(parts, "merged by "+m.By)
	}
	if len(m.Reviewers) > 0 {
		parts = append(parts, "reviewed by "+strings.Join(m.Reviewers, ", "))
	}
	return strings.Join(parts, "; ")
}
