package wall

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// javaProperties follows java.util.Properties.load: a backslash joins lines
// and escapes, so that \p is p, and bytes are ISO 8859-1.
func javaProperties(text []byte) (map[string]string, error) {
	config := map[string]string{}
	var latin strings.Builder
	for _, b := range text {
		latin.WriteRune(rune(b))
	}
	var logical string
	joined := false
	for _, line := range strings.FieldsFunc(latin.String(), func(c rune) bool { return c == '\n' || c == '\r' }) {
		line = strings.TrimLeft(line, " \t\f")
		if !joined && (line == "" || line[0] == '#' || line[0] == '!') {
			continue
		}
		backslashes := len(line) - len(strings.TrimRight(line, `\`))
		if joined = backslashes%2 == 1; joined {
			logical += line[:len(line)-1]
			continue
		}
		if err := javaProperty(logical+line, config); err != nil {
			return nil, err
		}
		logical = ""
	}
	return config, javaProperty(logical, config)
}

func javaProperty(line string, config map[string]string) error {
	if line == "" {
		return nil
	}
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	key, err := javaUnescape(line[:end])
	if err != nil {
		return err
	}
	value, err := javaUnescape(rest)
	if err != nil {
		return err
	}
	if _, twice := config[key]; twice {
		return fmt.Errorf("duplicate property %q", key)
	}
	if strings.Contains(value, "${") {
		return fmt.Errorf("property %q has a variable, whose value is elsewhere", key)
	}
	config[key] = strings.TrimSpace(value)
	return nil
}

func javaUnescape(text string) (string, error) {
	var b strings.Builder
	chars := []rune(text)
	for i := 0; i < len(chars); i++ {
		if chars[i] != '\\' || i+1 == len(chars) {
			b.WriteRune(chars[i])
			continue
		}
		i++
		switch chars[i] {
		case 't':
			b.WriteRune('\t')
		case 'n':
			b.WriteRune('\n')
		case 'r':
			b.WriteRune('\r')
		case 'f':
			b.WriteRune('\f')
		case 'u':
			if i+4 >= len(chars) {
				return "", fmt.Errorf("malformed \\uxxxx encoding in %q", text)
			}
			code, err := strconv.ParseUint(string(chars[i+1:i+5]), 16, 16)
			if err != nil {
				return "", fmt.Errorf("malformed \\uxxxx encoding in %q", text)
			}
			b.WriteRune(rune(code))
			i += 4
		default:
			b.WriteRune(chars[i])
		}
	}
	return b.String(), nil
}

// A javaPattern is a regular expression that means the same to Java and to Go.
type javaPattern struct {
	whole, find *regexp.Regexp
	start, end  bool // finds at the start, or up to the end, only
}

// newJavaPattern translates what the two write differently, and refuses what
// only one of them has, or what means another thing to each.
func newJavaPattern(pattern string) (*javaPattern, error) {
	t := javaTranslation{in: []rune(pattern)}
	body, err := t.translate()
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	whole, err := regexp.Compile(`\A(?:` + body + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	end := ""
	if t.end {
		end = `\z`
	}
	return &javaPattern{whole, regexp.MustCompile(`(?:` + body + `)` + end), t.start, t.end}, nil
}

// matches is Matcher.matches: all of the value.
func (p *javaPattern) matches(value string) bool { return p.whole.MatchString(value) }

// replaceAll is Matcher.replaceAll. Java finds an empty match right after
// another one, which Go does not: (.*) is found twice in every text. Two cases
// that make no sense as a user's name are refused: where Java's $ is before a
// line's end that ends the text, and where it puts an empty match into a
// character that is two of its own.
func (p *javaPattern) replaceAll(value, replacement string) (string, bool) {
	if p.end && strings.TrimRight(value, "\n\r\u0085\u2028\u2029") != value {
		return "", false
	}
	var b strings.Builder
	rest := value
	for first := true; first || !p.start; first = false {
		at := p.find.FindStringSubmatchIndex(rest)
		if at == nil || p.start && at[0] > 0 {
			break
		}
		b.WriteString(rest[:at[0]])
		put, ok := p.expand(replacement, rest, at)
		if !ok {
			return "", false
		}
		b.WriteString(put)
		next := at[1]
		if at[0] == at[1] {
			if next == len(rest) {
				return b.String(), true
			}
			c, size := utf8.DecodeRuneInString(rest[next:]) // goes on after the next character
			if c > 0xffff {
				return "", false
			}
			b.WriteRune(c)
			next += size
		}
		rest = rest[next:]
	}
	return b.String() + rest, true
}

// expand is of Matcher.appendReplacement; false is an exception.
func (p *javaPattern) expand(replacement, value string, at []int) (string, bool) {
	var b strings.Builder
	group := func(n int) {
		if at[2*n] >= 0 {
			b.WriteString(value[at[2*n]:at[2*n+1]])
		}
	}
	for i := 0; i < len(replacement); i++ {
		switch c := replacement[i]; {
		case c == '\\':
			if i++; i == len(replacement) {
				return "", false
			}
			b.WriteByte(replacement[i])
		case c != '$':
			b.WriteByte(c)
		case strings.HasPrefix(replacement[i:], "${"):
			name, _, closed := strings.Cut(replacement[i+2:], "}")
			n := p.find.SubexpIndex(name)
			if !closed || n < 0 {
				return "", false
			}
			group(n)
			i += len(name) + 2
		default:
			n, digits := -1, 0
			for j := i + 1; j < len(replacement) && unicode.IsDigit(rune(replacement[j])); j++ {
				more := max(n, 0)*10 + int(replacement[j]-'0')
				if more > p.find.NumSubexp() {
					break
				}
				n, digits = more, digits+1
			}
			if digits == 0 {
				return "", false
			}
			group(n)
			i += digits
		}
	}
	return b.String(), true
}
