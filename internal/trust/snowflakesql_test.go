package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// A sqlToken is one of Snowflake's: a word in upper case, a quoted identifier,
// a string constant, a variable or a character.
type sqlToken struct {
	kind byte // w, i, s, v, or the character
	text string
}

// sqlTokens reads statements as Snowflake does. (Snowflake: Identifier
// requirements; Escape sequences in single-quoted string constants)
func sqlTokens(text string) (list []sqlToken, err error) {
	for text != "" {
		switch c := text[0]; {
		case strings.ContainsRune(" \t\n", rune(c)):
			text = text[1:]
		case strings.HasPrefix(text, "--"):
			_, text, _ = strings.Cut(text, "\n")
		case c == '\'':
			var value string
			if value, text, err = sqlString(text[1:]); err != nil {
				return nil, err
			}
			list = append(list, sqlToken{'s', value})
		case c == '"':
			var name strings.Builder
			text = text[1:]
			for {
				part, rest, closed := strings.Cut(text, `"`)
				if !closed {
					return nil, fmt.Errorf("identifier is not closed")
				}
				name.WriteString(part)
				if text = rest; !strings.HasPrefix(text, `"`) {
					break
				}
				name.WriteString(`"`)
				text = text[1:]
			}
			list = append(list, sqlToken{'i', name.String()})
		case c == '$' || c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			n := 1
			for n < len(text) && (strings.IndexByte("_$", text[n]) >= 0 || text[n] >= 'A' && text[n] <= 'Z' || text[n] >= 'a' && text[n] <= 'z' ||
				text[n] >= '0' && text[n] <= '9') {
				n++
			}
			kind := byte('w')
			if c == '$' {
				kind = 'v'
			}
			list = append(list, sqlToken{kind, strings.ToUpper(text[:n])})
			text = text[n:]
		default:
			list = append(list, sqlToken{c, text[:1]})
			text = text[1:]
		}
	}
	return list, nil
}

// sqlString reads a string constant after its first quote.
func sqlString(text string) (value, rest string, err error) {
	var b strings.Builder
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch {
		case r == '\'' && strings.HasPrefix(text, "'"):
			b.WriteRune('\'')
			text = text[1:]
		case r == '\'':
			return b.String(), text, nil
		case r == '\\' && text == "":
			return "", "", fmt.Errorf("string ends in a backslash")
		case r == '\\' && text[0] == 'u' && len(text) > 4:
			code, err := strconv.ParseUint(text[1:5], 16, 32)
			if err != nil {
				return "", "", err
			}
			b.WriteRune(rune(code))
			text = text[5:]
		case r == '\\':
			r, n = utf8.DecodeRuneInString(text)
			text = text[n:]
			if control, ok := map[rune]rune{'n': '\n', 't': '\t', 'r': '\r', '0': 0, 'b': '\b', 'f': '\f'}[r]; ok {
				r = control
			}
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return "", "", fmt.Errorf("string is not closed")
}

// showIdentities runs the statements of a document that make workload
// identities, and returns what Snowflake then shows of them.
func showIdentities(document string) ([]byte, error) {
	tokens, err := sqlTokens(document)
	if err != nil {
		return nil, err
	}
	rows := []map[string]any{}
	words := func(i int, want ...string) bool {
		for j, w := range want {
			if i+j >= len(tokens) || tokens[i+j].kind != 'w' || tokens[i+j].text != w {
				return false
			}
		}
		return true
	}
	for i := range tokens {
		switch {
		case words(i, "WORKLOAD_IDENTITY") && tokens[i+1].kind == '=' && tokens[i+2].kind == '(':
			rows = append(rows, showIdentity("DEFAULT", tokens[i+3:]))
		case words(i, "ADD", "WORKLOAD", "IDENTITY"):
			rows = append(rows, showIdentity(tokens[i+3].text, tokens[i+4:]))
		}
	}
	return json.Marshal(rows)
}

func showIdentity(name string, tokens []sqlToken) map[string]any {
	kind, info := "", map[string]any{}
	for i := 0; i+2 < len(tokens) && tokens[i].kind != ';' && tokens[i].kind != ')'; i += 3 {
		switch key := tokens[i].text; key {
		case "TYPE":
			kind = tokens[i+2].text
		case "OIDC_AUDIENCE_LIST":
			var list []string
			for i += 3; tokens[i].kind != ')'; i++ {
				if tokens[i].kind == 's' {
					list = append(list, tokens[i].text)
				}
			}
			i -= 2
			info["audienceList"] = list
		default:
			info[strings.ToLower(key)] = tokens[i+2].text
		}
	}
	text, _ := json.Marshal(info)
	return map[string]any{"name": name, "type": kind, "additional_info": string(text), "comment": nil, "last_used": nil}
}

func TestSnowflakeAgrees(t *testing.T) {
	t.Parallel()
	const client = "\n    client: {type: snowflake, account: acme-prod, user: DBT}"
	for _, tt := range []struct {
		name     string
		exchange string
		options  Options
	}{
		{"GitHub's subject", `{oidc: {audience: snowflakecomputing.com}}` + client, Options{}},
		{"ids and an audience", `{oidc: {audience: acme}}` + client, Options{OwnerIDs: map[string]string{"acme": "7", "acme-evil": "77"}}},
		{"a template", `{oidc: {audience: acme}}` + client, Options{SubTemplate: []string{"repo", "context", "event_name"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			agreement{exchange: tt.exchange, options: tt.options, policies: 10, tokens: 3600,
				evaluate: func(d Demand, w Wall, claims map[string]any) (bool, error) {
					i := slices.IndexFunc(w.Documents, func(doc Document) bool { return doc.Suffix == "snowflake.sql" })
					rows, err := showIdentities(w.Documents[i].Text)
					if err != nil {
						return false, err
					}
					admits, err := wall.Snowflake(rows)
					if err != nil {
						return false, err
					}
					return admits(claims)
				}}.run(t)
		})
	}
}

func TestDatabricksAgrees(t *testing.T) {
	t.Parallel()
	const client = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	block := `{databricks: {host: dbc-a1b2c3d4-e5f6.cloud.databricks.com, account_id: 12121212-3434-5656-7878-909090909090, client_id: ` + client + `}}`
	for _, tt := range []struct {
		name    string
		options Options
	}{
		{"GitHub's subject", Options{}},
		{"a template", Options{SubTemplate: []string{"repo", "context", "event_name"}, OwnerIDs: map[string]string{"acme": "7"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			agreement{exchange: block, options: tt.options, policies: 10, tokens: 5400,
				evaluate: func(_ Demand, w Wall, claims map[string]any) (bool, error) {
					admits, err := wall.Databricks([]byte(w.Documents[0].Text))
					if err != nil {
						return false, err
					}
					return admits(claims)
				}}.run(t)
		})
	}
}

func FuzzSnowflakeSQL(f *testing.F) {
	for _, s := range []string{"", "a'b", `a\'b`, `\`, `a\\`, "'; DROP USER x; --", "a\nb\x00\u2028", `"`, `a"b`, "$x", "<% x %>", "Mixed", "SELECT", `"q""q"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = string([]rune(s))
		if tokens, err := sqlTokens(sqlLiteral(s)); err != nil || len(tokens) != 1 || tokens[0] != (sqlToken{'s', s}) {
			t.Errorf("%q is read back as %q, %v", s, tokens, err)
		}
		if s == "" {
			return
		}
		name := identifier(s)
		tokens, err := sqlTokens(name.SQL)
		if err != nil || len(tokens) != 1 || tokens[0].text != name.Exact || tokens[0].kind != 'w' && tokens[0].kind != 'i' {
			t.Errorf("the name %q is read back as %q, %v", s, tokens, err)
		}
		if tokens[0].kind == 'w' && slices.Contains(reservedWords, name.Exact) {
			t.Errorf("%q is a reserved word", name.Exact)
		}
	})
}
