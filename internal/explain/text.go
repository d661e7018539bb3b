package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRules limits the rules of a target that a reader is shown: what matches
// and what comes nearest. JSON has all.
const maxRules = 20

// Yes and No mark a claim, a rule or a target in text, at the start of a line
// after spaces.
const (
	Yes = "✓"
	No  = "✗"
)

func mark(yes bool) string {
	if yes {
		return Yes
	}
	return No
}

// WriteText writes r for a reader. It may hold any printable character of the
// claims; what a console or a runner would obey is for the caller to break.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.head(&b)
	for _, t := range r.Targets {
		b.WriteByte('\n')
		t.text(&b)
	}
	if len(r.Targets) > 1 || r.reason != "" && len(r.Targets) != 1 {
		b.WriteByte('\n')
		r.verdict(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// head says whose claims these are, and whether they were verified.
func (r Report) head(b *strings.Builder) {
	subject := "without a subject"
	if r.Claims.Subject != "" {
		subject = "of " + plain(r.Claims.Subject)
	}
	fmt.Fprintf(b, "claims %s\n", subject)
	if r.source.Other != nil {
		fmt.Fprintf(b, "or, in GitHub's other form, of %s\n", plain(r.source.Other.Subject()))
	}
	switch r.source.Kind {
	case "live":
		b.WriteString("verified: the ID token of this job\n")
	case "file":
		fmt.Fprintf(b, "NOT VERIFIED: read from %s\n", r.source.file())
	case "flags":
		b.WriteString("NOT VERIFIED: made from flags\n")
	case "case":
		b.WriteString("NOT VERIFIED: made from the case\n")
	case "audit":
		fmt.Fprintf(b, "NOT VERIFIED: what the audit record %s in %s keeps of them\n", r.Record.ID, r.source.file())
		r.Record.text(b)
	}
}

func (s Source) file() string {
	if s.File == "-" {
		return "standard input"
	}
	return plain(s.File)
}

func (r Record) text(b *strings.Builder) {
	fmt.Fprintf(b, "recorded %s: %s", r.Time, r.Decision)
	if r.Target != "" {
		fmt.Fprintf(b, ", target %s", plain(r.Target))
	}
	if r.Rule > 0 {
		fmt.Fprintf(b, " by rule %d (line %d)", r.Rule, r.Line)
	}
	if !r.PolicyChanged {
		b.WriteString("\nthe policy has not changed since\n")
		return
	}
	fmt.Fprintf(b, "\nthe policy has CHANGED since (its SHA-256 was %s): below is what today's policy decides\n",
		r.PolicySHA256)
}

// verdict says what a run gets that names no target.
func (r Report) verdict(b *strings.Builder) {
	if r.Chosen != "" {
		fmt.Fprintf(b, "%s a run that names no target gets %s\n", Yes, plain(r.Chosen))
		return
	}
	fmt.Fprintf(b, "%s a run that names no target gets none: %s\n", No, r.reason)
	if r.hint != "" {
		fmt.Fprintf(b, "hint: %s\n", r.hint)
	}
}

// WriteText writes what one target decides for a reader, as Report.WriteText does.
func (t Target) WriteText(w io.Writer) error {
	var b strings.Builder
	t.text(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Target) text(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s: %s\n", mark(t.Decision == "allowed"), plain(t.Target), t.summary())
	for i, at := range t.order {
		if i == maxRules {
			fmt.Fprintf(b, "  and %d more rules, none nearer: see --json\n", len(t.order)-maxRules)
			break
		}
		t.Rules[at].text(b)
	}
	if len(t.Login) > 0 {
		b.WriteString("  login\n")
		width := 0
		for name := range t.Login {
			width = max(width, len(name))
		}
		for _, name := range LoginNames {
			if value, ok := t.Login[name]; ok {
				fmt.Fprintf(b, "    %-*s  %s\n", width, name, plain(value))
			}
		}
	}
	if t.Guard != "" {
		fmt.Fprintf(b, "  guard\n    %s\n", t.Guard)
	}
	t.Provider.text(b)
	for _, h := range t.Hints {
		fmt.Fprintf(b, "  hint: %s\n", h)
	}
	for _, w := range t.Warnings {
		fmt.Fprintf(b, "  warning: %s\n", w)
	}
}

// summary says in a few words how the target decides.
func (t Target) summary() string {
	rule := ""
	if t.Rule > 0 {
		rule = fmt.Sprintf(" by rule %d (line %d)", t.Rule, t.Line)
	}
	switch {
	case t.Decision == "allowed":
		return "allowed" + rule
	case t.refused.Line > 0:
		return fmt.Sprintf("denied: deny rule %d (line %d) matches", t.refused.Index+1, t.refused.Line)
	case t.Unknown:
		return "cannot be told: the record does not keep all claims that the rules ask for"
	case t.Rule > 0:
		return fmt.Sprintf("denied, though rule %d (line %d) matches", t.Rule, t.Line)
	}
	return "denied: no rule matches"
}

// maxColumn is the width at which a column ends: longer values push the rest
// of their line to the right.
const maxColumn = 44

func (r Rule) text(b *strings.Builder) {
	fmt.Fprintf(b, "  rule %d (line %d)", r.Rule, r.Line)
	if r.Identity != "github" {
		fmt.Fprintf(b, ", identity %s", plain(r.Identity))
	}
	b.WriteByte('\n')
	name, got := len("claim"), len("got")
	for _, c := range r.Claims {
		name = max(name, min(utf8.RuneCountInString(c.Claim), maxColumn))
		got = max(got, min(utf8.RuneCountInString(c.got()), maxColumn))
	}
	fmt.Fprintf(b, "      %-*s  %-*s  want\n", name, "claim", got, "got")
	for _, c := range r.Claims {
		m := mark(c.Matched)
		if c.Unknown {
			m = "?"
		}
		fmt.Fprintf(b, "    %s %-*s  %-*s  %s\n", m, name, c.Claim, got, c.got(), c.want())
	}
}

// got returns the claim's value for a reader.
func (c Claim) got() string {
	switch v := c.Got.JSON.(type) {
	case nil:
		switch {
		case c.Unknown:
			return "(not in the record)"
		case c.Got.Has:
			return "(null)"
		}
		return "(none)"
	case string:
		return plain(v)
	case []any:
		return "[" + texts(v, "") + "]"
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return "(not a string)"
		}
		return "(not a string) " + cut(string(text))
	}
}

func (c Claim) want() string {
	list := make([]any, len(c.Want))
	for i, w := range c.Want {
		list[i] = w
	}
	if c.implied && c.Claim == "event_name" {
		return texts(list, "or") + " (by default)"
	}
	return texts(list, "or")
}

// maxListed limits the elements of a list that a reader is shown.
const maxListed = 20

func texts(list []any, conjunction string) string {
	var b strings.Builder
	for i, e := range list {
		if i == maxListed {
			fmt.Fprintf(&b, " … and %d more", len(list)-maxListed)
			break
		}
		switch {
		case i > 0 && i == len(list)-1 && conjunction != "":
			b.WriteString(" " + conjunction + " ")
		case i > 0:
			b.WriteString(", ")
		}
		if text, ok := e.(string); ok {
			b.WriteString(plain(text))
		} else {
			b.WriteString("(not a string)")
		}
	}
	return b.String()
}

// plain returns a value as it is if a reader cannot mistake it, else quoted.
func plain(s string) string {
	s = cut(s)
	odd := s == "" || s[0] == '(' || s[0] == '[' || strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || r == ' ' || r == ',' || r == '"' || r == '|' || r == utf8.RuneError
	})
	if odd {
		return strconv.Quote(s)
	}
	return s
}

// maxValue limits a value that a reader is shown: real ones are under 300 bytes.
const maxValue = 300

func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	at := maxValue
	for !utf8.RuneStart(s[at]) {
		at--
	}
	return s[:at] + "…"
}

// Painted returns what WriteText wrote with its marks in colour: only those
// that start a line are ours.
func Painted(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		rest := strings.TrimLeft(line, " ")
		b.WriteString(line[:len(line)-len(rest)])
		if after, ok := strings.CutPrefix(rest, Yes); ok {
			b.WriteString("\x1b[32m" + Yes + "\x1b[0m" + after)
		} else if after, ok := strings.CutPrefix(rest, No); ok {
			b.WriteString("\x1b[31m" + No + "\x1b[0m" + after)
		} else {
			b.WriteString(rest)
		}
	}
	return b.String()
}
