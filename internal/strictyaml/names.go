package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// Synonyms are what people call things elsewhere, by the names here that they
// may mean.
type Synonyms map[string][]string

// Meant returns the one of names that a text probably means, "" where
// none is near.
func (s Synonyms) Meant(text string, names []string) string {
	if len(text) > maxName {
		return ""
	}
	fold := func(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }
	got := fold(text)
	for _, name := range names { // letter case and hyphens are the nearest
		if fold(name) == got {
			return name
		}
	}
	for _, name := range names {
		if slices.Contains(s[name], got) {
			return name
		}
	}
	best, nearest := "", 1+min(3, max(1, len(got)/3))
	for _, name := range names {
		if d := distance(got, fold(name)); d < nearest && d < len(name) {
			best, nearest = name, d
		}
	}
	return best
}

// maxName bounds what is compared: no name here is nearly as long.
const maxName = 64

// DidYouMean is what an error adds of a near name, "" where none is near.
func (s Synonyms) DidYouMean(text string, names []string) string {
	if name := s.Meant(text, names); name != "" {
		return fmt.Sprintf(": did you mean %q?", name)
	}
	return ""
}

// distance is how many letters two texts are apart: left out, added, another,
// or exchanged with the next one (Damerau and Levenshtein, optimal alignment).
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	rows := make([][]int, len(from)+1)
	for i := range rows {
		rows[i] = make([]int, len(to)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(from); i++ {
		for j := 1; j <= len(to); j++ {
			change := 1
			if from[i-1] == to[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(from)][len(to)]
}
