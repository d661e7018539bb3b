package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// Subjects are the patterns of `sub` that the tokens of a rule have, in the
// policy's own form, and what they hold.
type Subjects struct {
	Patterns []string
	// Holds are the claims of the rule that the patterns hold it to wholly.
	Holds []string
	// Narrower is what the patterns keep out although the rule admits it.
	Narrower []Gap
	// Unknown says what must be known to write the patterns of the other form
	// of GitHub's, or any at all; "" for nothing.
	Unknown string
}

// subjects returns the subjects of a rule. any is what stands for a value that
// the rule does not name: `*` where the provider has wildcards; "" where the
// provider compares whole texts, so that only what the rule names can be written.
func (d Demand) subjects(r Rule, wild bool) Subjects {
	return (&subjectBuilder{d: d, r: r, wild: wild}).build()
}

// subjectsOnly is subjects for a provider that has wildcards and no other claim
// that says the ref or the environment.
func (d Demand) subjectsOnly(r Rule) Subjects {
	return (&subjectBuilder{d: d, r: r, wild: true, only: true}).build()
}

func (b *subjectBuilder) build() Subjects {
	r := b.r
	if r.Identity.Kind != "github" {
		c := r.Of("sub")
		s := Subjects{Patterns: c.Patterns}
		if c.Claim == "" {
			s.Unknown = "the subject: name `sub` in the rule"
		} else {
			s.Holds = []string{"sub"}
		}
		return s
	}
	if c := r.Of("sub"); c.Claim != "" && len(b.d.Options.SubTemplate) == 0 {
		return b.given(c)
	}
	return b.made()
}

type subjectBuilder struct {
	d    Demand
	r    Rule
	wild bool
	only bool // nothing but the subject says the ref or the environment
	out  Subjects
}

// given takes the subjects that the rule itself names, in both forms where ids are known.
func (b *subjectBuilder) given(c Condition) Subjects {
	b.out.Holds = append(b.out.Holds, "sub")
	for _, p := range c.Patterns {
		b.add(p)
		s, ok := policy.SubjectOf(p)
		if !ok {
			continue
		}
		if s.OwnerID != "" {
			b.add("repo:" + s.Owner + "/" + s.Repo + ":" + s.Rest)
			continue
		}
		for _, prefix := range b.withIDs(s.Owner, s.Repo) {
			b.add(prefix + ":" + s.Rest)
		}
	}
	return b.out
}

func (b *subjectBuilder) add(pattern string) {
	if !slices.Contains(b.out.Patterns, pattern) {
		b.out.Patterns = append(b.out.Patterns, pattern)
	}
}

// made makes the subjects from the other claims of the rule, by the template.
func (b *subjectBuilder) made() Subjects {
	keys := b.d.Options.SubTemplate
	if len(keys) == 0 {
		keys = []string{"repo", "context"}
	}
	tails := []string{""}
	for _, key := range keys {
		pieces := b.pieces(key)
		var longer []string
		for _, tail := range tails {
			for _, piece := range pieces {
				longer = append(longer, strings.TrimPrefix(tail+":"+piece, ":"))
			}
		}
		tails = longer
	}
	for _, t := range tails {
		b.add(t)
	}
	return b.out
}

// pieces are the texts that a key of the template may become.
func (b *subjectBuilder) pieces(key string) []string {
	switch key {
	case "repo":
		return b.repositories()
	case "context":
		return b.contexts()
	}
	values := b.values(key)
	for i, v := range values {
		values[i] = key + ":" + strings.ReplaceAll(v, ":", "%3A")
	}
	return values
}

// values are what a claim may be by the rule.
func (b *subjectBuilder) values(claim string) []string {
	c := b.r.Of(claim)
	switch {
	case c.Claim != "":
		b.hold(claim)
		return slices.Clone(c.Patterns)
	case b.wild:
		return []string{"**"}
	}
	b.out.Unknown = fmt.Sprintf("%s is a key of the subject's template, and %s does not name it", claim, b.r.label())
	return nil
}

func (b *subjectBuilder) hold(claims ...string) {
	for _, c := range claims {
		if !slices.Contains(b.out.Holds, c) {
			b.out.Holds = append(b.out.Holds, c)
		}
	}
}

// repositories are `repo:OWNER/REPO`, and with ids where they are known.
func (b *subjectBuilder) repositories() (list []string) {
	add := func(owner, repo string) {
		list = append(list, "repo:"+owner+"/"+repo)
		list = append(list, b.withIDs(owner, repo)...)
	}
	names := b.r.Of("repository").Patterns
	if len(names) == 0 {
		names = b.namesByID()
	} else {
		b.hold("repository")
		if b.r.ownersAre(names) {
			b.hold("repository_owner")
		}
	}
	for _, full := range names {
		owner, repo, _ := strings.Cut(full, "/")
		add(owner, repo)
	}
	if len(names) > 0 {
		return list
	}
	for _, owner := range b.r.Of("repository_owner").Patterns {
		b.hold("repository_owner")
		if b.wild {
			add(owner, "*")
		}
	}
	if len(list) == 0 && b.wild {
		list = []string{"repo:*/*"}
	}
	if len(list) == 0 || !b.wild {
		b.out.Unknown = "the repository's full name: give it with --repository " + b.unnamed() + "=OWNER/REPO"
	}
	return list
}

// ownersAre reports whether the repositories are of owners that the rule names.
func (r Rule) ownersAre(repositories []string) bool {
	owners := r.Of("repository_owner").Patterns
	return !slices.ContainsFunc(repositories, func(full string) bool {
		owner, _, _ := strings.Cut(full, "/")
		return owners != nil && !slices.Contains(owners, owner)
	})
}

// namesByID are the names that the options give for the rule's ids.
func (b *subjectBuilder) namesByID() (names []string) {
	ids, ok := b.r.Of("repository_id").Literals()
	if !ok {
		return nil
	}
	for _, id := range ids {
		name, known := b.d.Options.Repositories[id]
		if !known {
			return nil
		}
		names = append(names, name)
	}
	b.hold("repository")
	return names
}

// unnamed is the first of the rule's ids whose name the options do not give.
func (b *subjectBuilder) unnamed() string {
	ids, _ := b.r.Of("repository_id").Literals()
	for _, id := range ids {
		if _, known := b.d.Options.Repositories[id]; !known {
			return id
		}
	}
	return "ID"
}

// withIDs is the repository in the form of new repositories, `repo:OWNER@ID/REPO@ID`.
func (b *subjectBuilder) withIDs(owner, repo string) (list []string) {
	ownerIDs, _ := b.r.Of("repository_owner_id").Literals()
	if id := b.d.Options.OwnerIDs[owner]; id != "" && !b.wild { // the policy itself admits any
		ownerIDs = []string{id}
	}
	repoIDs := b.repositoryIDs(owner + "/" + repo)
	if b.wild {
		if len(ownerIDs) == 0 {
			ownerIDs = []string{"*"}
		}
		if len(repoIDs) == 0 {
			repoIDs = []string{"*"}
		}
	}
	if len(ownerIDs) == 0 || len(repoIDs) == 0 {
		b.out.Narrower = []Gap{{"sub", "a repository that was created, renamed or transferred after 15 July 2026 has its ids in the subject, " +
			"and they are not known", "give --owner-id " + owner + "=ID, and repository_id in the rule"}}
		return nil
	}
	for _, o := range ownerIDs {
		for _, r := range repoIDs {
			list = append(list, "repo:"+owner+"@"+o+"/"+repo+"@"+r)
		}
	}
	return list
}

// repositoryIDs are the ids that a repository of the rule may have.
func (b *subjectBuilder) repositoryIDs(full string) (ids []string) {
	for id, name := range b.d.Options.Repositories {
		if name == full {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		return ids
	}
	ids, _ = b.r.Of("repository_id").Literals()
	return ids
}

// contexts are what GitHub puts behind the repository: the environment, else
// pull_request, else the ref.
func (b *subjectBuilder) contexts() (list []string) {
	events := b.r.Of("event_name").Patterns
	pulls := slices.Contains(events, "pull_request")
	onlyPulls := pulls && len(events) == 1
	if c := b.r.Of("environment"); c.Claim != "" {
		b.hold("environment")
		for _, e := range c.Patterns {
			list = append(list, "environment:"+strings.ReplaceAll(e, ":", "%3A"))
		}
		return list
	}
	if b.wild && (!b.only || !b.r.Names("ref") || slices.Contains(b.d.Options.SubTemplate, "ref")) {
		list = append(list, "environment:**")
	} else {
		b.out.Narrower = append(b.out.Narrower, Gap{"environment", "the rule also admits jobs in an environment, whose subjects cannot be listed",
			"name the environment in the rule"})
	}
	if pulls {
		list = append(list, "pull_request")
	}
	switch c := b.r.Of("ref"); {
	case onlyPulls:
	case c.Claim != "":
		if !b.wild && !pulls {
			b.hold("ref")
		}
		for _, ref := range c.Patterns {
			list = append(list, "ref:"+ref)
		}
	case b.wild:
		list = append(list, "ref:**")
	default:
		b.out.Unknown = "the ref: name it, or an environment, in the rule"
	}
	return list
}

// customise is what closes a gap that only a customised subject closes.
func customise(claims ...string) string {
	keys := append([]string{"repo", "context"}, claims...)
	return "a customised subject: --sub-template " + strings.Join(keys, ",")
}
