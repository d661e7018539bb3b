package trust

import (
	"strconv"
	"strings"
)

// A terraform is a file in the making, in the layout of `terraform fmt`.
//
// HashiCorp's own writer would add 1.5 MiB to a binary that must stay small;
// tests hold what is written here to its parser and to its format.
type terraform struct {
	items []hclItem
	seen  map[string]bool // variables
}

func newTerraform() *terraform { return &terraform{seen: map[string]bool{}} }

// An hclItem is a comment, an argument or a block.
type hclItem struct {
	comment string
	name    string
	value   any      // of an argument
	block   *hclBody // of a block, whose kind and labels are in name
}

// hclBody is the inside of a block.
type hclBody struct{ items []hclItem }

type (
	hclRef    string // a reference such as aws_iam_role.dbt.arn
	hclList   []any
	hclObject []hclField // in this order
	hclText   []any      // a template of texts and references
	hclField  struct {
		Name  string
		Value any
	}
	hclCall struct {
		Function string
		Argument any
	}
)

// comment adds lines of a comment before what comes next.
func (t *terraform) comment(text string) { t.items = append(t.items, hclItem{comment: text}) }

// block adds a block of the file, with an empty line before it.
func (t *terraform) block(kind string, labels ...string) *hclBody {
	b := &hclBody{}
	t.items = append(t.items, hclItem{name: blockHead(kind, labels), block: b})
	return b
}

// variable declares a variable once, and returns a reference to it.
func (t *terraform) variable(name, doc string) hclRef {
	if !t.seen[name] {
		t.seen[name] = true
		b := t.block("variable", name)
		b.set("type", hclRef("string"))
		b.set("description", doc)
	}
	return hclRef("var." + name)
}

// set gives an argument a value: a string, bool, int, []string, or one of the
// types above.
func (b *hclBody) set(name string, value any) {
	b.items = append(b.items, hclItem{name: name, value: value})
}

// comment adds lines of a comment before what comes next.
func (b *hclBody) comment(text string) { b.items = append(b.items, hclItem{comment: text}) }

// block adds a block inside.
func (b *hclBody) block(kind string) *hclBody {
	inner := &hclBody{}
	b.items = append(b.items, hclItem{name: kind, block: inner})
	return inner
}

func blockHead(kind string, labels []string) string {
	for _, l := range labels {
		kind += " " + hclString(l)
	}
	return kind
}

// String returns the file.
func (t *terraform) String() string {
	var b strings.Builder
	for i, item := range t.items {
		if i > 0 && t.items[i-1].comment == "" {
			b.WriteString("\n")
		}
		writeItems(&b, []hclItem{item}, "")
	}
	return b.String()
}

// writeItems writes arguments and blocks; arguments of one line that follow
// each other have their values in one column.
func writeItems(b *strings.Builder, items []hclItem, indent string) {
	texts := make([]string, len(items))
	for i, item := range items {
		if item.block == nil && item.comment == "" {
			texts[i] = hclValue(item.value, indent)
		}
	}
	for i, item := range items {
		switch {
		case item.comment != "":
			for line := range strings.Lines(item.comment) {
				b.WriteString(indent + "# " + oneLine(line) + "\n")
			}
		case item.block != nil:
			if i > 0 && items[i-1].comment == "" {
				b.WriteString("\n")
			}
			b.WriteString(indent + item.name + " {\n")
			writeItems(b, item.block.items, indent+"  ")
			b.WriteString(indent + "}\n")
		default:
			if i > 0 && items[i-1].block != nil {
				b.WriteString("\n")
			}
			name := item.name + strings.Repeat(" ", column(items, texts, i)-len(item.name))
			b.WriteString(indent + name + " = " + texts[i] + "\n")
		}
	}
}

// column returns the width of the names around an argument that are aligned with it.
func column(items []hclItem, texts []string, at int) int {
	single := func(i int) bool {
		return i >= 0 && i < len(items) && items[i].block == nil && items[i].comment == "" && !strings.Contains(texts[i], "\n")
	}
	width := len(items[at].name)
	if !single(at) {
		return width
	}
	for _, step := range []int{-1, 1} {
		for i := at + step; single(i); i += step {
			width = max(width, len(items[i].name))
		}
	}
	return width
}

// hclValue writes a value. Texts are quoted and escaped, `${` and `%{` with them.
func hclValue(value any, indent string) string {
	switch v := value.(type) {
	case hclRef:
		return string(v)
	case hclCall:
		return v.Function + "(" + hclValue(v.Argument, indent) + ")"
	case hclList:
		return hclItems(v, indent)
	case []string:
		list := make(hclList, len(v))
		for i, s := range v {
			list[i] = s
		}
		return hclItems(list, indent)
	case hclObject:
		if len(v) == 0 {
			return "{}"
		}
		items := make([]hclItem, len(v))
		for i, f := range v {
			items[i] = hclItem{name: hclKey(f.Name), value: f.Value}
		}
		var b strings.Builder
		writeItems(&b, items, indent+"  ")
		return "{\n" + b.String() + indent + "}"
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case hclText:
		var b strings.Builder
		for _, p := range v {
			if ref, ok := p.(hclRef); ok {
				b.WriteString("${" + string(ref) + "}")
			} else {
				b.WriteString(hclEscape(p.(string)))
			}
		}
		return `"` + b.String() + `"`
	}
	return hclString(value.(string))
}

// hclItems writes a list: on one line where it has one item or none.
func hclItems(list hclList, indent string) string {
	if len(list) == 0 {
		return "[]"
	}
	if len(list) == 1 {
		return "[" + hclValue(list[0], indent) + "]"
	}
	var b strings.Builder
	for _, e := range list {
		b.WriteString(indent + "  " + hclValue(e, indent+"  ") + ",\n")
	}
	return "[\n" + b.String() + indent + "]"
}

func hclString(text string) string { return `"` + hclEscape(text) + `"` }

// hclEscape escapes a text for a quoted template. (HCL Native Syntax
// Specification, Template Expressions)
func hclEscape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case (r == '$' || r == '%') && strings.HasPrefix(text[i+1:], "{"):
			b.WriteString(string(r) + string(r))
		case r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029':
			b.WriteString(`\u` + strconv.FormatInt(0x10000+int64(r), 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hclKey writes an object's key: bare where it is an identifier.
func hclKey(name string) string {
	if hclIdentifier(name) {
		return name
	}
	return hclString(name)
}

func hclIdentifier(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" &&
		(name[0] < '0' || name[0] > '9')
}

// hclName makes an identifier of a target's name.
func hclName(name string) string {
	out := strings.Map(func(r rune) rune {
		if r < 0x80 && hclIdentifier("a"+string(r)) {
			return r
		}
		return '_'
	}, name)
	if out == "" || out[0] >= '0' && out[0] <= '9' {
		out = "t_" + out
	}
	return out
}
