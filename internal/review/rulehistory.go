package review

import (
	"bytes"
	"context"
	"errors"
)

// ruleChanges returns the commit that brought a rule of a target, followed back
// through its edits as `git log -L` does, and the last one that changed it or
// what its target gives.
func (h *history) ruleChanges(ctx context.Context, target string, index int) (added, changed Change) {
	r := h.now.single[target][index]
	at, err := h.since(ctx, h.tip, func(v rules) bool { return v.has(target, r.sum) && v.gives[target] == h.now.gives[target] })
	if err == nil {
		changed, err = h.at(at)
	}
	if err != nil {
		changed = unknown(err)
	} else {
		changed.Merge = h.merge(ctx, at)
	}
	if at, err = h.first(ctx, target, r); err == nil {
		added, err = h.at(at)
	}
	if err != nil {
		added = unknown(err)
	}
	return added, changed
}

func unknown(err error) Change { return Change{Unknown: printable(err.Error())} }

// first returns the commit that brought a rule in its first form.
func (h *history) first(ctx context.Context, target string, r rule) (string, error) {
	at := h.tip
	for range len(h.commits) + 1 { // each round is at an earlier commit
		var err error
		if at, err = h.since(ctx, at, func(v rules) bool { return v.has(target, r.sum) }); err != nil {
			return "", err
		}
		before, parent, err := h.before(ctx, at, target, r)
		if err != nil || parent == "" {
			return at, err
		}
		r, at = before, parent
	}
	return "", errors.New("git names no commits")
}

// before returns the rule that a commit made into r, and the parent that has it;
// "" where the commit added r.
func (h *history) before(ctx context.Context, at, target string, r rule) (before rule, parent string, err error) {
	now, err := h.version(ctx, at)
	if err != nil {
		return before, "", err
	}
	for _, p := range h.commits[at].parents {
		then, err := h.version(ctx, p)
		if err != nil {
			return before, "", err
		}
		best := 0
		for _, candidate := range then.single[target] {
			if common := inCommon(candidate, r); common > best && !now.has(target, candidate.sum) {
				before, parent, best = candidate, p, common
			}
		}
		if parent != "" {
			break
		}
	}
	return before, parent, nil
}

// inCommon counts the claims that two rules have with the same patterns.
func inCommon(a, b rule) (count int) {
	for i, j := 0, 0; i < len(a.parts) && j < len(b.parts); {
		switch order := bytes.Compare(a.parts[i][:], b.parts[j][:]); {
		case order == 0:
			count, i, j = count+1, i+1, j+1
		case order < 0:
			i++
		default:
			j++
		}
	}
	return count
}
