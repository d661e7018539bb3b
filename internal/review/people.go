package review

import (
	"slices"
	"strings"
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

// noReply are the addresses that GitHub makes of a number and a name.
const noReply = "@users.noreply.github.com"

// namesOf returns what a text such as `Ada Lovelace <ada@acme.example>`, `@ada`
// or `Ada` calls a person, in lower case.
func namesOf(text string) (names []string) {
	name, rest, _ := strings.Cut(text, "<")
	address, _, _ := strings.Cut(rest, ">")
	for _, n := range []string{name, address} {
		n = strings.TrimPrefix(strings.ToLower(strings.Join(strings.Fields(n), " ")), "@")
		names = append(names, n)
		if login, ok := strings.CutSuffix(n, noReply); ok {
			if _, after, numbered := strings.Cut(login, "+"); numbered {
				login = after
			}
			names = append(names, login)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// by reports whether a person, as they wrote their own name, made the change.
func (c Change) by(person string) bool {
	return slices.ContainsFunc(namesOf(person), func(n string) bool { return slices.Contains(c.people, n) })
}
