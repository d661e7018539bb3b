package job

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Misleading returns a warning for each place where a command leads dbt away
// from the profile that holds the credential: by an option of dbt's, or by a
// variable that it sets. words are the command's; one with white space in it
// is a script. It is a look at the text: what a script starts is not followed.
func (res Result) Misleading(words ...string) (warnings []string) {
	if res.Profile == nil {
		return nil
	}
	add := func(w string) {
		if w != "" && !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	var look func(words []string, depth int)
	look = func(words []string, depth int) {
		ofDbt := false
		for i, w := range words {
			next, before := "", ""
			if i+1 < len(words) {
				next = words[i+1]
			}
			if i > 0 {
				before = words[i-1]
			}
			switch {
			case !strings.ContainsAny(w, " \t\n"):
				add(res.variable(before, w, next))
				add(res.option(w, next, ofDbt))
			case depth > 0:
				for _, command := range commands(w) {
					look(command, depth-1)
				}
			}
			ofDbt = ofDbt || isDbt(w)
		}
	}
	const quotes = 4 // of scripts within scripts
	look(words, quotes)
	return warnings
}

const hides = "in the command hides the profile that holds the credential"

// option looks at one word of a command line, and the one behind it.
func (res Result) option(word, next string, ofDbt bool) string {
	name, value, joined := strings.Cut(word, "=")
	if !joined {
		value = next
	}
	switch {
	case name == "--profiles-dir":
		if !res.isOwnFolder(value) {
			return name + " " + hides
		}
	case !ofDbt:
	case name == "--target", name == "-t":
		return res.other(name, value, "output", []string{res.output})
	case strings.HasPrefix(word, "-t") && !strings.HasPrefix(word, "-t=") && len(word) > 2:
		return res.other("-t", word[2:], "output", []string{res.output})
	case name == "--profile":
		return res.other(name, value, "profile", res.ProfileNames)
	}
	return ""
}

// variable looks at a word that may set one of dbt's variables, or unset it.
func (res Result) variable(before, word, next string) string {
	unset := before == "unset" || before == "-u" || before == "Remove-Item"
	if name, ok := strings.CutPrefix(word, "--unset="); ok {
		word, unset = name, true
	}
	name, value, set := strings.Cut(word, "=")
	if !set && strings.HasPrefix(next, "=") { // as Python and PowerShell write it
		set, value = true, strings.TrimPrefix(next, "=")
	}
	for _, prefix := range []string{"$env:", "env:", "os.environ["} {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			name = strings.TrimSuffix(name[len(prefix):], "]")
		}
	}
	switch short := strings.Replace(name, "DBT_ENGINE_", "DBT_", 1); {
	case !set && !unset:
	case short == "DBT_PROFILES_DIR":
		if !set || !res.isOwnFolder(value) {
			return name + " " + hides
		}
	case !set:
	case short == "DBT_TARGET":
		return res.other(name, value, "output", []string{res.output})
	case short == "DBT_PROFILE":
		return res.other(name, value, "profile", res.ProfileNames)
	}
	return ""
}

// other is the warning of a choice that is none of those that hold the
// credential. What a shell has yet to fill in is not known.
func (res Result) other(by, value, what string, have []string) string {
	if value == "" || strings.ContainsAny(value, "$%") || slices.Contains(have, value) {
		return ""
	}
	return fmt.Sprintf("%s in the command selects the %s %q, but the credential is in %q", by, what, value, have[0])
}

// isOwnFolder reports whether a value is the folder that dbt has been given.
func (res Result) isOwnFolder(value string) bool {
	switch strings.ToUpper(strings.Trim(value, `${}%"'`)) {
	case "DBT_PROFILES_DIR", "DBT_ENGINE_PROFILES_DIR", "ENV:DBT_PROFILES_DIR", "ENV:DBT_ENGINE_PROFILES_DIR":
		return strings.ContainsAny(value, "$%")
	}
	return res.leases != nil && value != "" && filepath.Clean(value) == res.leases.dir.path
}

// isDbt reports whether a word is dbt: a program, or a module of Python's.
func isDbt(word string) bool {
	base := strings.TrimSuffix(word[strings.LastIndexAny(word, `/\`)+1:], ".exe")
	return slices.Contains([]string{"dbt", "dbtf", "dbt.cli.main", "dbt-osmosis"}, base)
}

// commands splits a script, of any shell, into its commands and those
// into words, without quotes and comments.
func commands(script string) (list [][]string) {
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, strings.Trim(word.String(), "[],")) // as a list in Python has it
		}
		word.Reset()
		inWord = false
	}
	end := func() {
		endWord()
		if len(words) > 0 {
			list = append(list, words)
		}
		words = nil
	}
	for i := 0; i < len(script); i++ {
		c := script[i]
		next := byte(0)
		if i+1 < len(script) {
			next = script[i+1]
		}
		switch {
		case (c == '\\' || c == '`' || c == '^') && (next == '\n' || next == '\r'): // the line goes on: sh, PowerShell, cmd
			endWord()
			if i++; next == '\r' && i+1 < len(script) && script[i+1] == '\n' {
				i++
			}
		case c == '#' && !inWord:
			for i+1 < len(script) && script[i+1] != '\n' {
				i++
			}
		case c == '\'' || c == '"':
			inWord = true
			for i++; i < len(script) && script[i] != c; i++ {
				if script[i] == '\\' && c == '"' && i+1 < len(script) && (script[i+1] == '"' || script[i+1] == '\\') {
					i++
				}
				word.WriteByte(script[i])
			}
		case strings.IndexByte("\n\r;|&()`", c) >= 0:
			end()
		case c == ' ' || c == '\t':
			endWord()
		case c == '\\' && strings.IndexByte(`"' $\`, next) >= 0 && next != 0:
			inWord = true
			word.WriteByte(next)
			i++
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	end()
	return list
}
