package review

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// peopleOf returns the author of a commit and the co-authors that its message
// names, each by name, by address, and by GitHub's name where the address has it.
func peopleOf(author, address, trailers string) (list []string) {
	list = append(list, namesOf(author+" <"+address+">")...)
	for trailer := range strings.SplitSeq(trailers, "\x01") {
		list = append(list, namesOf(trailer)...)
	}
	return list
}

// noReply are the addresses that forges make of a number and a name, with what
// divides the two.
var noReply = []struct{ domain, divider string }{{"@users.noreply.github.com", "+"}, {"@users.noreply.gitlab.com", "-"}}

// namesOf returns what a text such as `Ada Lovelace <ada@acme.example>`, `@ada`
// or `Ada` calls a person, in lower case and in one form of Unicode.
func namesOf(text string) (names []string) {
	name, rest, _ := strings.Cut(norm.NFKC.String(text), "<")
	address, _, _ := strings.Cut(rest, ">")
	for _, n := range []string{name, address} {
		n = strings.TrimPrefix(strings.ToLower(strings.Join(strings.Fields(n), " ")), "@")
		names = append(names, n)
		for _, forge := range noReply {
			if login, ok := strings.CutSuffix(n, forge.domain); ok {
				if _, after, numbered := strings.Cut(login, forge.divider); numbered {
					login = after
				}
				names = append(names, login)
			}
		}
		if mailbox, domain, ok := strings.Cut(n, "@"); ok { // RFC 5233: ada+git is a folder of ada's
			mailbox, _, _ = strings.Cut(mailbox, "+")
			names = append(names, mailbox+"@"+domain)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// alphabets have letters that look like each other's.
var alphabets = []struct {
	name  string
	table *unicode.RangeTable
}{
	{"Latin", unicode.Latin}, {"Greek", unicode.Greek}, {"Cyrillic", unicode.Cyrillic}, {"Armenian", unicode.Armenian},
	{"Cherokee", unicode.Cherokee},
}

// disguise says by what a name may be taken for another, "" for nothing.
func disguise(name string) string {
	unseen := func(c rune) bool { return c == '\uFFFD' || !unicode.IsPrint(c) && !unicode.IsSpace(c) }
	if strings.ContainsFunc(name, unseen) {
		return "has a character that cannot be seen"
	}
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsMark(c) }) {
		var used []string
		for _, c := range word {
			for _, a := range alphabets {
				if unicode.Is(a.table, c) && !slices.Contains(used, a.name) {
					used = append(used, a.name)
				}
			}
		}
		if len(used) > 1 {
			return fmt.Sprintf("has letters of %s and %s in one word", used[0], used[1])
		}
	}
	return ""
}

// by reports whether a person, as they wrote their own name, made the change.
func (c Change) by(person string) bool {
	return slices.ContainsFunc(namesOf(person), func(n string) bool { return slices.Contains(c.people, n) })
}
