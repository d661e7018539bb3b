package proposal

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A field is a pair of a mapping that is written, in the order of the file.
type field struct {
	key     string
	value   string // as YAML; "" where fields are the value
	fields  []field
	comment string // after the value; of a field without a key, a line of its own
}

// write writes fields in block style.
func write(out *strings.Builder, indent int, fields []field) {
	for _, f := range fields {
		out.WriteString(strings.Repeat(" ", indent))
		if f.key != "" {
			out.WriteString(scalar(f.key) + ":")
		}
		if f.value != "" {
			out.WriteString(" " + f.value)
		}
		if f.comment != "" {
			if f.key != "" {
				out.WriteString(" ")
			}
			out.WriteString("# " + oneLine(f.comment))
		}
		out.WriteString("\n")
		write(out, indent+2, f.fields)
	}
}

// oneLine keeps a comment one: what is quoted in it comes from other files.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

var (
	// plainText is what needs no quotes anywhere, in YAML 1.1 or 1.2.
	plainText = lazy.MustCompile(
		`^(?:[A-Za-z_/][A-Za-z0-9_./@-]*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`,
	)
	// plainWords may be without quotes outside of brackets.
	plainWords = lazy.MustCompile(`^[A-Za-z][A-Za-z0-9_./@-]*(?: [A-Za-z0-9][A-Za-z0-9_./@-]*)+$`)
	// plainColons may be without quotes outside of brackets, such as an ARN or a URL.
	plainColons = lazy.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*:[A-Za-z0-9_./@:-]*[A-Za-z0-9_/]$`)
	// otherTypes are read as something else by YAML 1.1 or 1.2.
	otherTypes = lazy.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null|nan|inf|\.nan|\.inf)$`)
)

// scalar returns a string as YAML.
func scalar(s string) string {
	if (plainText.MatchString(s) || plainColons.MatchString(s) || plainWords.MatchString(s)) &&
		!otherTypes.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// flowScalar is scalar inside brackets.
func flowScalar(s string) string {
	if plainText.MatchString(s) && !otherTypes.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

var decimal = lazy.MustCompile(`^(?:0|-?[1-9][0-9]*)(?:\.[0-9]+)?$`)

// flow returns a value, which dbt read as YAML 1.1, as a policy has it; odd is
// set where the two would not read the same.
func flow(n *yaml.Node, top bool) (text string, odd bool) {
	join := func(parts []string, open, end string) string { return open + strings.Join(parts, ", ") + end }
	var parts []string
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, o := flow(n.Content[i+1], false)
			parts, odd = append(parts, flowScalar(n.Content[i].Value)+": "+v), odd || o
		}
		return join(parts, "{", "}"), odd
	case yaml.SequenceNode:
		for _, e := range n.Content {
			v, o := flow(e, false)
			parts, odd = append(parts, v), odd || o
		}
		return join(parts, "[", "]"), odd
	}
	switch n.Tag {
	case "!!bool":
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on":
			return "true", false
		}
		return "false", false
	case "!!null":
		return "null", false
	case "!!int", "!!float":
		return n.Value, !decimal.MatchString(n.Value)
	case "!!str":
		if top {
			return scalar(n.Value), false
		}
		return flowScalar(n.Value), false
	}
	return strconv.Quote(n.Value), true
}
