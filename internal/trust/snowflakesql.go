package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A sqlText is statements for Snowflake. What is not known is a variable of the
// session: the statements begin with a SET of each.
type sqlText struct {
	d       Demand
	missing []Variable
	body    strings.Builder
}

// A sqlName is a name of an object: Exact as the catalogue has it, or ""
// with SQL that reads it from a variable.
type sqlName struct{ Exact, SQL string }

var (
	plainIdentifier  = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*$`)
	quotedIdentifier = lazy.MustCompile(`^"(?:[^"]|"")+"$`)
)

// identifier returns a name as dbt and Snowflake's connectors read it: a plain
// word in either case is upper case, a quoted one is exact, and any other is
// quoted. (Snowflake: Identifier requirements)
func identifier(text string) sqlName {
	switch {
	case quotedIdentifier.MatchString(text):
		return exactName(strings.ReplaceAll(text[1:len(text)-1], `""`, `"`))
	case plainIdentifier.MatchString(text):
		return exactName(strings.ToUpper(text))
	}
	return exactName(text)
}

func exactName(name string) sqlName {
	if plainIdentifier.MatchString(name) && name == strings.ToUpper(name) && !slices.Contains(reservedWords, name) {
		return sqlName{name, name}
	}
	return sqlName{name, `"` + strings.ReplaceAll(name, `"`, `""`) + `"`}
}

// reservedWords cannot be names without quotes. (Snowflake: Reserved & limited keywords)
var reservedWords = strings.Fields(`ACCOUNT ALL ALTER AND ANY AS BETWEEN BY CASE CAST CHECK COLUMN CONNECT CONNECTION CONSTRAINT
CREATE CROSS CURRENT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATABASE DELETE DISTINCT DROP ELSE EXISTS FALSE
FOLLOWING FOR FROM FULL GRANT GROUP GSCLUSTER HAVING ILIKE IN INCREMENT INNER INSERT INTERSECT INTO IS ISSUE JOIN LATERAL LEFT
LIKE LOCALTIME LOCALTIMESTAMP MINUS NATURAL NOT NULL OF ON OR ORDER ORGANIZATION QUALIFY REGEXP REVOKE RIGHT RLIKE ROW ROWS
SAMPLE SCHEMA SELECT SET SOME START TABLE TABLESAMPLE THEN TO TRIGGER TRUE TRY_CAST UNION UNIQUE UPDATE USING VALUES VIEW WHEN
WHENEVER WHERE WITH`)

// sqlLiteral writes a string constant: a backslash escapes there, too.
// (Snowflake: String & binary data types, Single-quoted string constants)
func sqlLiteral(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\'':
			b.WriteString("''")
		case r == '\\':
			b.WriteString(`\\`)
		case r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return "'" + b.String() + "'"
}

// sqlList writes string constants in parentheses.
func sqlList(texts ...string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = sqlLiteral(t)
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}

// name returns the name of the object that a key of the dbt block or a flag
// says, else a variable of the session.
func (s *sqlText) name(key, doc string) sqlName {
	if text := s.d.snowflakeName(key); text != "" {
		return identifier(text)
	}
	return s.variable("OIDC_DBT_"+strings.ToUpper(key), doc)
}

// variable returns a name that is read from a variable of the session.
func (s *sqlText) variable(variable, doc string) sqlName {
	if !slices.ContainsFunc(s.missing, func(v Variable) bool { return v.Name == variable }) {
		s.missing = append(s.missing, Variable{Name: variable, Doc: doc})
	}
	return sqlName{"", "IDENTIFIER($" + variable + ")"}
}

// snowflakeName returns the text of a key of the dbt block, or of the flag.
func (d Demand) snowflakeName(key string) string {
	if text := d.DBT(key); text != "" {
		return text
	}
	return d.Options.Values[key]
}

// say adds a line of a comment.
func (s *sqlText) say(format string, args ...any) {
	s.body.WriteString("-- " + oneLine(fmt.Sprintf(format, args...)) + "\n")
}

// run adds a statement of one or more lines.
func (s *sqlText) run(lines ...string) { s.body.WriteString(strings.Join(lines, "\n  ") + ";\n") }

// gap adds an empty line.
func (s *sqlText) gap() { s.body.WriteString("\n") }

// with returns the statements with others behind them.
func (s *sqlText) with(other *sqlText) *sqlText {
	out := &sqlText{d: s.d, missing: slices.Clone(s.missing)}
	for _, v := range other.missing {
		out.variable(v.Name, v.Doc)
	}
	out.body.WriteString(s.body.String() + "\n" + other.body.String())
	return out
}

// String returns the document: variables are empty there, which no statement takes.
func (s *sqlText) String() string {
	var b strings.Builder
	for _, v := range s.missing {
		fmt.Fprintf(&b, "-- Put here %s.\nSET %s = '';\n", oneLine(v.Doc), v.Name)
	}
	if len(s.missing) > 0 {
		b.WriteString("\n")
	}
	return b.String() + s.body.String()
}

// snow is the command that takes statements as they are: without it, `&{` and
// `<%` of a subject would be read as a template.
const snow = "snow sql --stdin --enable-templating NONE"

// addTo adds the statements to a script, as one step.
func (s *sqlText) addTo(script *Script, doc string) {
	if len(s.missing) == 0 {
		script.run(doc, feed(snow, s.body.String()))
		return
	}
	lines := []string{"{"}
	for _, v := range s.missing {
		lines = append(lines, command("printf", `SET %s = '%s';\n`, v.Name, script.needs(v)))
	}
	lines = append(lines, feed("cat", s.body.String()), "} | "+snow)
	script.run(doc, lines...)
}
