package trust

import (
	"regexp/syntax"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const openbaoExport = "what `bao read -format=json auth/PATH/cel/role/NAME` prints"

// readOpenBao reads CEL roles, and the configuration of the method.
func readOpenBao(d Demand, files []File) (Reading, error) {
	return readVaultFiles(d, files, openbaoExport, func(v *vaultReader, role readVaultRole) (logic.Formula, error) {
		if role.Program == nil || role.Program.Expression == "" {
			return logic.Never(), usage("%s: no cel_program: want %s", v.file, openbaoExport)
		}
		return v.program(role)
	})
}

// admitsName stands for pb.Auth{…}, which is what admits.
const admitsName = "oidc_dbt_admits"

// program returns what a program admits: the tokens for which no variable
// fails, and which get a pb.Auth.
func (v *vaultReader) program(role readVaultRole) (logic.Formula, error) {
	r := &celReader{github: v.issuer.Kind == "github", mapped: map[string]*celValue{}, objects: map[string]bool{},
		variables: map[string]celValue{"claims": {kind: celAssertion}}}
	parts := []logic.Formula{}
	if audiences := v.audiences(role.BoundAudiences); len(audiences) > 0 {
		parts = append(parts, logic.Equals("aud", audiences...))
	} else {
		v.find("missing-audience", "error", "no bound_audiences: a CEL role without them takes tokens that were issued for "+
			"any service; set it to [%q]",
			v.d.Audience())
	}
	for _, variable := range role.Program.Variables {
		node, err := celParse(variable.Expression)
		if err != nil {
			return logic.Never(), usage("%s: the variable %s of cel_program: %v", v.file, variable.Name, err)
		}
		v.anchors(variable.Name, node)
		r.learn(node)
		value := r.eval(node)
		r.variables[variable.Name] = value
		parts = append(parts, value.defined())
	}
	node, err := celParse(withoutAuth(role.Program.Expression))
	if err != nil {
		return logic.Never(), usage("%s: the expression of cel_program: %v", v.file, err)
	}
	v.anchors("expression", node)
	r.learn(node)
	admits := r.admits(node)
	if claims := logic.And(append(parts, admits)...).Claims(); v.issuer.Kind == "github" && !binds(claims) {
		v.find("missing-subject", "error", "the program asks neither for the subject nor for the repository: jobs of any repository can log in")
	}
	return logic.And(append(parts, admits)...), nil
}

func binds(claims []string) bool {
	for _, claim := range claims {
		for _, b := range binding {
			if claim == b {
				return true
			}
		}
	}
	return false
}

// admits is met where a program returns a pb.Auth: false, a text, and true as
// well, refuse.
func (r *celReader) admits(n *celNode) logic.Formula {
	switch {
	case n.kind == celVariable && n.name == admitsName:
		return logic.Always()
	case n.kind == celOperator && n.name == "?:":
		c := r.eval(n.args[0]).bool()
		return logic.Or(logic.And(c.yes, r.admits(n.args[1])), logic.And(c.no, r.admits(n.args[2])))
	case n.kind == celString, n.kind == celConstant, n.kind == celNumber, n.kind == celOperator:
		return logic.Never()
	}
	return logic.Undecided("a result of the program that is not written as pb.Auth{…}")
}

// anchors finds patterns that match in the middle of a value.
func (v *vaultReader) anchors(place string, n *celNode) {
	if n.kind == celMethod && n.name == "matches" && len(n.args) == 2 && n.args[1].kind == celString {
		if re, err := syntax.Parse(n.args[1].text, syntax.Perl); err == nil {
			if begins, ends := anchored(re); !begins || !ends {
				v.find("unanchored-expression", "error", "cel_program, %s: matches(%q) finds its pattern anywhere in the value: "+
					"write ^ and $ around it",
					place, n.args[1].text)
			}
		}
	}
	for _, arg := range n.args {
		v.anchors(place, arg)
	}
}

// withoutAuth puts a name in the place of each pb.Auth{…}: what is in it
// decides nothing, unless it fails.
func withoutAuth(source string) string {
	const begin = "pb.Auth{"
	var b strings.Builder
	for i := 0; i < len(source); {
		switch n := celQuoted(source[i:]); {
		case n > 0:
			b.WriteString(source[i : i+n])
			i += n
		case strings.HasPrefix(source[i:], begin):
			b.WriteString(admitsName)
			i = afterBrace(source, i+len(begin))
		default:
			b.WriteByte(source[i])
			i++
		}
	}
	return b.String()
}

// afterBrace is where the braces that are open at a place are closed.
func afterBrace(source string, i int) int {
	for open := 1; i < len(source); {
		if n := celQuoted(source[i:]); n > 0 {
			i += n
			continue
		}
		switch source[i] {
		case '{':
			open++
		case '}':
			open--
		}
		if i++; open == 0 {
			break
		}
	}
	return i
}

// celQuoted is the length of the string that a source begins with, 0 for none.
func celQuoted(source string) int {
	start := len(source) - len(strings.TrimLeft(source, "rRbB"))
	if start > 2 || start == len(source) || source[start] != '\'' && source[start] != '"' {
		return 0
	}
	raw := strings.ContainsAny(source[:start], "rR")
	quote := source[start : start+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(source[start:], long) {
		quote = long
	}
	for i := start + len(quote); i < len(source); i++ {
		switch {
		case !raw && source[i] == '\\':
			i++
		case strings.HasPrefix(source[i:], quote):
			return i + len(quote)
		}
	}
	return len(source)
}
