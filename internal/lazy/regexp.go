// Package lazy is regular expressions that are compiled when they are first used: a run uses few of those that the program has.
package lazy

import (
	"regexp"
	"sync"
)

// A Regexp is a regular expression. Its methods are those of regexp.Regexp.
type Regexp struct {
	compiled func() *regexp.Regexp
	possible func(string) bool // nil for always
}

// MustCompile returns an expression. Its first use panics where text is none:
// a test compiles all that the program has.
func MustCompile(text string) *Regexp {
	return &Regexp{compiled: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// Where returns the expression with a cheap condition that every text with a
// match in it meets. Texts that do not meet it are not searched, and most runs
// then need not compile the expression.
func (r *Regexp) Where(possible func(string) bool) *Regexp {
	return &Regexp{r.compiled, possible}
}

func (r *Regexp) excludes(s string) bool { return r.possible != nil && !r.possible(s) }

// FindStringIndex is that of regexp.Regexp.
func (r *Regexp) FindStringIndex(s string) []int {
	if r.excludes(s) {
		return nil
	}
	return r.compiled().FindStringIndex(s)
}

// FindStringSubmatch is that of regexp.Regexp.
func (r *Regexp) FindStringSubmatch(s string) []string {
	if r.excludes(s) {
		return nil
	}
	return r.compiled().FindStringSubmatch(s)
}

// FindAllStringSubmatch is that of regexp.Regexp.
func (r *Regexp) FindAllStringSubmatch(s string, n int) [][]string {
	return r.compiled().FindAllStringSubmatch(s, n)
}

// MatchString is that of regexp.Regexp.
func (r *Regexp) MatchString(s string) bool { return !r.excludes(s) && r.compiled().MatchString(s) }

// ReplaceAllLiteralString is that of regexp.Regexp.
func (r *Regexp) ReplaceAllLiteralString(s, by string) string {
	return r.compiled().ReplaceAllLiteralString(s, by)
}

// ReplaceAllString is that of regexp.Regexp.
func (r *Regexp) ReplaceAllString(s, by string) string { return r.compiled().ReplaceAllString(s, by) }

// ReplaceAllStringFunc is that of regexp.Regexp.
func (r *Regexp) ReplaceAllStringFunc(s string, by func(string) string) string {
	return r.compiled().ReplaceAllStringFunc(s, by)
}

// String is that of regexp.Regexp.
func (r *Regexp) String() string { return r.compiled().String() }
