package wall

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// javaSpace is \s: Go's lacks the vertical tab.
const javaSpace = `\t\n\x{b}\f\r `

// javaAny is the dot: it excludes more ends of lines than Go's.
const javaAny = `[^\n\r\x{85}\x{2028}\x{2029}]`

var (
	javaRepeat   = regexp.MustCompile(`^\{\d+(,\d*)?\}`)
	javaGroup    = regexp.MustCompile(`^\(\?(:|<[A-Za-z][A-Za-z0-9]*>)`)
	javaCategory = regexp.MustCompile(`^[pP](\{[A-Z][a-z]?\}|[A-Z])`)
	javaCode     = regexp.MustCompile(`^(u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]+\})`)
)

// A javaTranslation goes through a pattern once.
type javaTranslation struct {
	in         []rune
	at         int
	out        strings.Builder
	depth      int
	choice     bool // | outside of groups
	start, end bool // ^ first, $ last
}

func (t *javaTranslation) rest() string { return string(t.in[t.at:]) }

func (t *javaTranslation) put(goes string, width int) {
	t.out.WriteString(goes)
	t.at += width
}

func (t *javaTranslation) translate() (string, error) {
	for t.at < len(t.in) {
		if err := t.step(); err != nil {
			return "", err
		}
	}
	if t.choice && (t.start || t.end) {
		return "", errors.New("^ and $ belong to one alternative only")
	}
	return t.out.String(), nil
}

func (t *javaTranslation) step() error {
	switch c := t.in[t.at]; c {
	case '\\':
		return t.escape(false)
	case '[':
		return t.class()
	case '.':
		t.put(javaAny, 1)
	case '(':
		t.depth++
		group := "("
		if strings.HasPrefix(t.rest(), "(?") {
			if group = javaGroup.FindString(t.rest()); group == "" {
				return fmt.Errorf("a group of Java's only at %q", t.rest())
			}
			if group != "(?:" && strings.Contains(t.out.String(), group) {
				return fmt.Errorf("duplicate group %s", group)
			}
		}
		t.put(group, len(group))
	case ')':
		t.depth--
		t.put(")", 1)
	case '|':
		t.choice = t.choice || t.depth == 0
		t.put("|", 1)
	case '*', '+', '?':
		t.put(string(c), 1)
	case '{':
		repeat := javaRepeat.FindString(t.rest())
		if repeat == "" {
			return fmt.Errorf("illegal repetition at %q", t.rest())
		}
		t.put(repeat, len(repeat))
	case '^':
		if t.at > 0 {
			return errors.New("^ is not first")
		}
		t.start = true
		t.at++
	case '$':
		if t.at < len(t.in)-1 {
			return errors.New("$ is not last")
		}
		t.end = true
		t.at++
	default:
		t.put(regexp.QuoteMeta(string(c)), 1)
	}
	return nil
}

// escape translates a backslash and what is after it.
func (t *javaTranslation) escape(inClass bool) error {
	after := string(t.in[t.at+1:])
	if after == "" {
		return errors.New("a backslash at the end")
	}
	c := []rune(after)[0]
	switch category, code := javaCategory.FindString(after), javaCode.FindString(after); {
	case category != "":
		t.put(`\`+category, 1+len(category))
	case code != "":
		t.put(`\x{`+strings.Trim(code[1:], "{}")+"}", 1+len(code))
	case c == 's' && inClass:
		t.put(javaSpace, 2)
	case c == 's':
		t.put("["+javaSpace+"]", 2)
	case c == 'S' && !inClass:
		t.put("[^"+javaSpace+"]", 2)
	case strings.ContainsRune("dDwWtnrfa", c):
		t.put(`\`+string(c), 2)
	case c == 'Q' && !inClass:
		literal, _, closed := strings.Cut(after[1:], `\E`)
		width := 2 + len([]rune(literal))
		if closed {
			width += 2
		}
		t.put(regexp.QuoteMeta(literal), width)
	case c < unicode.MaxASCII && !unicode.IsLetter(c) && !unicode.IsDigit(c):
		t.put(`\x{`+fmt.Sprintf("%x", c)+"}", 2)
	default:
		return fmt.Errorf(`no common meaning of \%c to Java and Go`, c)
	}
	return nil
}

// class translates [...]; Java's has unions and intersections as well.
func (t *javaTranslation) class() error {
	t.put("[", 1)
	if strings.HasPrefix(t.rest(), "^") {
		t.put("^", 1)
	}
	for first := true; t.at < len(t.in); first = false {
		switch c := t.in[t.at]; {
		case c == ']' && !first:
			t.put("]", 1)
			return nil
		case c == ']' || c == '[' || strings.HasPrefix(t.rest(), "&&"):
			return fmt.Errorf("no common meaning of the class to Java and Go at %q", t.rest())
		case c == '\\':
			if err := t.escape(true); err != nil {
				return err
			}
		default:
			t.put(string(c), 1)
		}
	}
	return errors.New("unclosed character class")
}
