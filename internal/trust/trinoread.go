package trust

import (
	"encoding/json"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const trinoExport = "the coordinator's etc/config.properties, and the JSON file that its user-mapping.file names"

// A readTrinoRule is a rule of a mapping file.
type readTrinoRule struct {
	Pattern string  `json:"pattern"`
	User    *string `json:"user"`
	Allow   *bool   `json:"allow"`
}

// readTrino reads the coordinator's properties and its mapping file.
func readTrino(d Demand, files []File) (Reading, error) {
	v := &vaultReader{d: d, issuer: d.Rules[0].Identity}
	var config map[string]string
	var rules []readTrinoRule
	mapped := false
	for _, f := range files {
		v.file = f.Name
		if strings.HasPrefix(strings.TrimSpace(string(f.Text)), "{") {
			var file struct {
				Rules []readTrinoRule `json:"rules"`
			}
			if err := json.Unmarshal(f.Text, &file); err != nil || file.Rules == nil {
				return Reading{}, usage("%s: no list of rules: want %s", f.Name, trinoExport)
			}
			rules, mapped = append(rules, file.Rules...), true
			continue
		}
		if config != nil {
			return Reading{}, usage("%s: a second file of properties: want %s", f.Name, trinoExport)
		}
		config = javaProperties(string(f.Text))
		if config[trinoJWT+"key-file"] == "" {
			return Reading{}, usage("%s: no %skey-file: want %s", f.Name, trinoJWT, trinoExport)
		}
	}
	if config == nil {
		return Reading{}, usage("no file has the coordinator's properties: want %s", trinoExport)
	}
	switch pattern, ok := config[trinoJWT+"user-mapping.pattern"]; {
	case ok && !mapped:
		rules = []readTrinoRule{{Pattern: pattern}}
	case !mapped && config[trinoJWT+"user-mapping.file"] != "":
		return Reading{}, usage("%s: user-mapping.file is %q: give this file as well", v.file, config[trinoJWT+"user-mapping.file"])
	case !mapped:
		v.find("missing-subject", "error", "no user mapping: every token of the issuer for this audience becomes a user; "+
			"set %suser-mapping.file", trinoJWT)
		rules = []readTrinoRule{{Pattern: "(.*)"}}
	}
	v.out.Admits = logic.And(v.properties(config), v.rules(config, rules))
	return v.out, nil
}

// properties are the conditions next to the mapping.
func (v *vaultReader) properties(config map[string]string) logic.Formula {
	var parts []logic.Formula
	if issuer := config[trinoJWT+"required-issuer"]; issuer != "" {
		parts = append(parts, logic.Equals("iss", issuer))
	} else {
		v.find("missing-issuer", "warning", "no %srequired-issuer: only the keys say whose tokens are accepted", trinoJWT)
	}
	if audience := config[trinoJWT+"required-audience"]; audience != "" {
		parts = append(parts, logic.Equals("aud", audience))
	} else {
		v.find("missing-audience", "error", "no %srequired-audience: tokens that were issued for any service are accepted; "+
			"set it to %s", trinoJWT, v.d.Audience())
	}
	return logic.And(parts...)
}

// rules are met by the principals that become the target's user: the first rule
// that matches the whole principal decides.
func (v *vaultReader) rules(config map[string]string, rules []readTrinoRule) logic.Formula {
	claim := config[trinoJWT+"principal-field"]
	if claim == "" {
		claim = "sub"
	}
	if claim != "sub" {
		v.find("other-subject-claim", "error", "principal-field is %s: the subject is not read, and everything else of the token is free", claim)
	}
	user := v.d.Options.Values["user"]
	if user == "" {
		user = v.d.DBT("user")
	}
	var admits, before []logic.Formula
	for i, r := range rules {
		matches := v.pattern(claim, i, r.Pattern)
		maps := r.Allow == nil || *r.Allow
		if maps && user != "" && r.User != nil && !strings.ContainsAny(*r.User, `$\`) && *r.User != user {
			maps = false // another user
		}
		if maps {
			admits = append(admits, logic.And(matches, logic.Not(logic.Or(before...))))
		}
		before = append(before, matches)
	}
	return logic.Or(admits...)
}

// pattern is a Java expression, as far as RE2 has the same.
func (v *vaultReader) pattern(claim string, i int, pattern string) logic.Formula {
	why := fmt.Sprintf("%s: the pattern %q of rule %d", v.file, pattern, i+1)
	if !sharedWithJava(pattern) {
		return logic.Undecided(why)
	}
	language, err := logic.Whole(javaEscapes.Replace(pattern))
	if err != nil {
		return logic.Undecided(why)
	}
	if claim == "sub" && v.issuer.Kind == "github" {
		v.widePattern(i, pattern)
	}
	return logic.Is(claim, language)
}

// widePattern finds a pattern that admits other owners' or repositories' jobs.
func (v *vaultReader) widePattern(i int, pattern string) {
	text := strings.TrimPrefix(pattern, "^")
	owner, _, slash := strings.Cut(strings.TrimPrefix(text, "repo:"), "/")
	name, _, _ := strings.Cut(owner, "@") // behind it is the owner's number
	if !strings.HasPrefix(text, "repo:") || !slash || strings.ContainsAny(name, `*+?[(|.`) {
		v.find("wide-subject", "error", "rule %d: the pattern %q has a wildcard before its owner ends: other owners' jobs "+
			"match; begin with repo:OWNER/REPO:",
			i+1, pattern)
	}
}

// javaEscapes are written otherwise in RE2.
var javaEscapes = strings.NewReplacer(`\\`, `\\`, `\u2028`, `\x{2028}`, `\u2029`, `\x{2029}`)

// sharedWithJava reports whether an expression means the same to Java and RE2:
// of what is special only groups, alternatives, plain classes, repetitions, and
// escapes of characters that are not letters.
func sharedWithJava(pattern string) bool {
	depth := 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c >= 0x80:
			return false
		case c == '\\':
			rest := pattern[i+1:]
			i++
			switch {
			case strings.HasPrefix(rest, `p{Cc}`):
				i += len("{Cc}")
			case strings.HasPrefix(rest, "u2028"), strings.HasPrefix(rest, "u2029"):
				i += len("2028")
			case rest == "", isName(rest[0]) && !strings.ContainsRune("dDwW", rune(rest[0])):
				return false
			}
		case c == '[':
			depth++
			if depth > 1 || strings.HasPrefix(pattern[i:], "[]") || strings.HasPrefix(pattern[i:], "[^]") {
				return false
			}
		case c == ']':
			if depth--; depth < 0 {
				return false
			}
		case c == '&' && depth > 0:
			return false
		case c == '^' && depth == 0 && i > 0, c == '$' && i < len(pattern)-1 && depth == 0:
			return false
		case c == '(' && strings.HasPrefix(pattern[i:], "(?") && !strings.HasPrefix(pattern[i:], "(?:"):
			return false
		case c == '+' && depth == 0 && i > 0 && strings.IndexByte("*+?}", pattern[i-1]) >= 0:
			return false
		}
	}
	_, err := syntax.Parse(javaEscapes.Replace(pattern), syntax.Perl)
	return err == nil
}

func isName(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// javaProperties reads a file of properties. (java.util.Properties, load)
func javaProperties(text string) map[string]string {
	config := map[string]string{}
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	logical := ""
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t\f")
		if logical == "" && (line == "" || line[0] == '#' || line[0] == '!') {
			continue
		}
		if n := len(line) - len(strings.TrimRight(line, `\`)); n%2 == 1 {
			logical += line[:len(line)-1]
			continue
		}
		key, value := javaProperty(logical + line)
		config[key] = strings.TrimSpace(value)
		logical = ""
	}
	return config
}

func javaProperty(line string) (key, value string) {
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' && end+1 < len(line) {
			end++
		}
		end++
	}
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return javaUnescape(line[:end]), javaUnescape(rest)
}

func javaUnescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if text[i] == 'u' && i+4 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+5], 16, 16); err == nil {
				b.WriteRune(rune(code))
				i += 4
				continue
			}
		}
		if at := strings.IndexByte("tnrf", text[i]); at >= 0 {
			b.WriteByte("\t\n\r\f"[at])
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
