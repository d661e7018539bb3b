package trust

import (
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A celCritic looks at how expressions are written, where what they mean does
// not show what is wrong.
type celCritic struct {
	reading  *gcpReading
	provider *gcpReadProvider
	kind     string
	place    string // of the expression
}

// expressions looks at the condition and the mapping.
func (c *celCritic) expressions() {
	p := c.provider
	if p.condition != nil {
		c.place = p.file + ": attributeCondition"
		c.walk(p.condition, false)
	}
	for _, key := range slices.Sorted(maps.Keys(p.reader.mapping)) {
		c.place = p.file + ": attributeMapping " + key
		c.walk(p.reader.mapping[key], false)
		c.guards(key)
	}
	subjects := p.literals("sub")
	for _, s := range subjects {
		c.subject(s, slices.ContainsFunc(subjects, func(s string) bool {
			owner, _, _ := strings.Cut(s, "/")
			return strings.Contains(owner, "@")
		}))
	}
}

// walk visits an expression; negated is set where less of it admits more.
func (c *celCritic) walk(n *celNode, negated bool) {
	if n.kind == celMethod && len(n.args) == 2 && n.args[1].kind == celString && !negated {
		if claim := c.provider.claimOf(n.args[0]); claim != "" {
			c.method(claim, n.name, n.args[1].text)
		}
	}
	if claim, ok := n.ownClaim(); ok && c.kind == "github" && !policy.HasClaim("github", claim) {
		c.reading.find("key-not-read", "warning", "%s: no token of GitHub's has the claim %s: what asks for it fails",
			c.place, claim)
	}
	for _, arg := range n.args {
		c.walk(arg, negated != (n.kind == celOperator && n.name == "!"))
	}
}

// celNames are claims whose beginning or end is not the whole of a name.
var celNames = []string{"sub", "repository", "repository_owner", "workflow_ref", "job_workflow_ref", "ref",
	"environment", "project_path",
	"namespace_path"}

// method notes a search for a part of a claim.
func (c *celCritic) method(claim, name, text string) {
	if !slices.Contains(celNames, claim) {
		return
	}
	closed := "/:@"
	severity := "error"
	if claim == "ref" || claim == "environment" {
		severity = "warning"
	}
	why := ""
	switch name {
	case "contains":
		why = "is anywhere in the text: compare the whole text with =="
	case "startsWith":
		if text == "" || !strings.ContainsRune(closed, rune(text[len(text)-1])) {
			why = "also begins other names, such as " + text + "-evil: end it with / or :, or compare the whole " +
				"text with =="
		}
	case "endsWith":
		if text == "" || !strings.ContainsRune(closed, rune(text[0])) {
			why = "also ends other names, such as evil-" + text + ": begin it with / or :, or compare the whole " +
				"text with =="
		}
	case "matches":
		re, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			return
		}
		if begins, ends := anchored(re); !begins || !ends {
			why = "matches anywhere in the text: write ^(?:…)$ around it"
		}
	}
	if why != "" {
		c.reading.find("unanchored-expression", severity, "%s: %s.%s(%s) %s", c.place, claim, name, celText(text), why)
	}
}

// anchored reports whether every match begins and ends with the text.
func anchored(re *syntax.Regexp) (begins, ends bool) {
	switch re.Op {
	case syntax.OpBeginText:
		return true, false
	case syntax.OpEndText:
		return false, true
	case syntax.OpCapture:
		return anchored(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			b, e := anchored(sub)
			begins, ends = begins || b, ends || e
		}
		return begins, ends
	case syntax.OpAlternate:
		begins, ends = true, true
		for _, sub := range re.Sub {
			b, e := anchored(sub)
			begins, ends = begins && b, ends && e
		}
		return begins, ends
	}
	return false, false
}

// guards notes a mapping that fails for tokens without a claim that many lack.
func (c *celCritic) guards(key string) {
	if c.kind != "github" {
		return
	}
	defined := c.provider.reader.attribute(key).defined()
	token := map[string]string{}
	for _, claim := range githubAlways {
		token[claim] = "x"
	}
	if defined.Eval(token) != logic.False {
		return
	}
	var missing []string
	for _, claim := range defined.Claims() {
		if _, ok := token[claim]; !ok {
			missing = append(missing, claim)
		}
	}
	c.reading.find("unguarded-mapping", "warning", "%s fails for every token without %s, which then gets nothing: "+
		"guard it with has()", c.place,
		strings.Join(missing, ", "))
}

// celDashes is a subject as GitHub announced it in April 2026, and never made it.
var celDashes = lazy.MustCompile(`^repo:[A-Za-z0-9-]+-[0-9]+/[A-Za-z0-9._-]+-[0-9]+:`)

// celChosen are keys of a customised subject whose values a repository chooses.
var celChosen = []string{"workflow", "environment", "ref", "context", "head_ref", "base_ref"}

// subject notes what is wrong with a subject that is compared.
func (c *celCritic) subject(text string, ids bool) {
	if c.kind != "github" {
		return
	}
	c.place = c.provider.file
	first, _, _ := strings.Cut(text, ":")
	s, isForm := policy.SubjectOf(text)
	switch {
	case slices.Contains(celChosen, first):
		c.reading.find("customised-subject", "error", "%s: subject %q begins with %s, which any repository can "+
			"choose: begin it with the repository",
			c.place, text, first)
	case celDashes.MatchString(text):
		c.reading.find("old-subject-form", "warning", "%s: subject %q has ids behind a dash: GitHub writes "+
			"repo:OWNER@ID/REPOSITORY@ID", c.place, text)
	case isForm && s.OwnerID == "" && !ids:
		c.reading.find("old-subject-form", "note", "%s: subject %q is not that of a repository that was created, "+
			"renamed or transferred after 15 July "+
			"2026: those have ids, repo:%s@ID/%s@ID:%s", c.place, text, s.Owner, s.Repo, s.Rest)
	}
}

// ownClaim returns the claim that a node reads itself.
func (n *celNode) ownClaim() (claim string, ok bool) {
	if len(n.args) == 0 || n.args[0].kind != celVariable || n.args[0].name != "assertion" {
		return "", false
	}
	if n.kind == celOperator && n.name == "[]" && n.args[1].kind == celString {
		return n.args[1].text, true
	}
	return n.name, n.kind == celSelect
}

// reads reports whether an expression asks for anything of a token.
func (n *celNode) reads() bool {
	return n.kind == celVariable || slices.ContainsFunc(n.args, (*celNode).reads)
}

// claimOf returns the claim that an expression is, also through the mapping.
func (p *gcpReadProvider) claimOf(n *celNode) string {
	claim, _, ok := p.reader.eval(n).onlyClaim()
	if !ok {
		return ""
	}
	return claim
}

// literals are the texts that a claim is compared with, in the condition and in
// the mapping.
func (p *gcpReadProvider) literals(claim string) (list []string) {
	var walk func(n *celNode)
	walk = func(n *celNode) {
		texts := n.args
		if len(n.args) == 2 && n.args[1].kind == celList {
			texts = slices.Concat(n.args[:1], n.args[1].args)
		}
		compares := n.kind == celOperator && (n.name == "==" || n.name == "in")
		if compares || n.kind == celMethod && n.name == "startsWith" {
			if slices.ContainsFunc(n.args, func(a *celNode) bool { return p.claimOf(a) == claim }) {
				for _, t := range texts {
					if t.kind == celString {
						list = append(list, t.text)
					}
				}
			}
		}
		for _, arg := range n.args {
			walk(arg)
		}
	}
	for _, node := range p.reader.mapping {
		walk(node)
	}
	if p.condition != nil {
		walk(p.condition)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
