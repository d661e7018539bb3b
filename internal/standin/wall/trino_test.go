package wall

import (
	"strings"
	"testing"
)

const trinoJWT = `# the coordinator
http-server.authentication.type=JWT
http-server.authentication.jwt.key-file=https://token.actions.githubusercontent.com/.well-known/jwks
http-server.authentication.jwt.required-issuer=https://token.actions.githubusercontent.com
http-server.authentication.jwt.required-audience=trino
`

// TestTrinoRules has one rule of a file a case.
func TestTrinoRules(t *testing.T) {
	t.Parallel()
	type changes = map[string]any
	const sub = "repo:acme/analytics:environment:production"
	for _, tt := range []struct {
		name, rule string
		changes    changes
		want       string // "" is refused
	}{
		{"all of it", `{"pattern":"repo:acme/analytics:environment:production","user":"dbt"}`, nil, "dbt"},
		{"a part of it", `{"pattern":"repo:acme/analytics","user":"dbt"}`, nil, ""},
		{"anchors", `{"pattern":"^repo:acme/.*$","user":"dbt"}`, nil, "dbt"},
		{"a group", `{"pattern":"repo:([^/]*)/([^:]*):.*"}`, nil, "acme"},
		{"another group", `{"pattern":"repo:([^/]*)/([^:]*):.*","user":"$1-$2"}`, nil, "acme-analytics"},
		{"a named group", `{"pattern":"repo:(?<owner>[^/]*)/.*","user":"ci_${owner}"}`, nil, "ci_acme"},
		{"a digit that is no group", `{"pattern":"repo:([^/]*)/.*","user":"$12"}`, nil, "acme2"},
		{"an escape", `{"pattern":"repo:.*","user":"\\$1"}`, nil, "$1"},
		{"no group", `{"pattern":"repo:.*"}`, nil, ""},
		{"found twice", `{"pattern":".*","user":"dbt"}`, nil, "dbtdbt"},
		{"found at the start only", `{"pattern":"^.*","user":"dbt"}`, nil, "dbt"},
		{"found shorter", `{"pattern":"repo|repo:.*","user":"dbt"}`, nil, "dbt" + strings.TrimPrefix(sub, "repo")},
		{"found several times", `{"pattern":"(?:ab?)+?","user":"x"}`, changes{"sub": "abaab"}, "xxx"},
		{"an end of a line", `{"pattern":"[^x]*$","user":"dbt"}`, changes{"sub": "repo\n"}, ""},
		{"a character that is two", `{"pattern":"[^x]*?","user":"dbt"}`, changes{"sub": "\U0001f600"}, ""},
		{"between characters", `{"pattern":"[^x]*?","user":"u"}`, changes{"sub": "ab"}, "uaubu"},
		{"trimmed", `{"pattern":"repo:.*","user":" dbt "}`, nil, "dbt"},
		{"empty", `{"pattern":"repo:.*","user":" "}`, nil, ""},
		{"upper", `{"pattern":"repo:([^/]*)/.*","case":"upper"}`, nil, "ACME"},
		{"not allowed", `{"pattern":"repo:acme/.*","allow":false}`, nil, ""},
		{"not allowed before", `{"pattern":"repo:acme/analytics:.*","allow":false},{"pattern":"repo:acme/.*","user":"dbt"}`, nil, ""},
		{"the first that matches", `{"pattern":"x","user":"x"},{"pattern":"repo:acme/.*","user":"dbt"},{"pattern":".+","user":"y"}`, nil, "dbt"},
		{"case matters", `{"pattern":"REPO:.*","user":"dbt"}`, nil, ""},
		{"a segment", `{"pattern":"repo:acme/[^/:\\p{Cc}\\u2028\\u2029]*:ref:refs/heads/main","user":"dbt"}`, changes{"sub": "repo:acme/x:ref:refs/heads/main"}, "dbt"},
		{"a segment, a control", `{"pattern":"repo:acme/[^/:\\p{Cc}\\u2028\\u2029]*:ref:refs/heads/main","user":"dbt"}`, changes{"sub": "repo:acme/\x01:ref:refs/heads/main"}, ""},
		{"a segment, a separator", `{"pattern":"repo:acme/[^/:\\p{Cc}\\u2028\\u2029]*:ref:refs/heads/main","user":"dbt"}`, changes{"sub": "repo:acme/\u2028:ref:refs/heads/main"}, ""},
		{"a dot and a line", `{"pattern":"repo:.*","user":"dbt"}`, changes{"sub": "repo:\u0085"}, ""},
		{"escaped", `{"pattern":"\\Qrepo:a.b/c\\E:\\x{3a}\\.\\-","user":"dbt"}`, changes{"sub": "repo:a.b/c::.-"}, "dbt"},
		{"space", `{"pattern":"\\s[\\s]\\S","user":"dbt"}`, changes{"sub": "\v\vx"}, "dbt"},
		{"repetition", `{"pattern":"a{2,3}b{1}c{2,}","user":"dbt"}`, changes{"sub": "aabcc"}, "dbt"},
		{"another issuer", `{"pattern":".+","user":"dbt"}`, changes{"iss": "https://gitlab.com"}, ""},
		{"another audience", `{"pattern":".+","user":"dbt"}`, changes{"aud": "x"}, ""},
		{"one of the audiences", `{"pattern":".+","user":"dbt"}`, changes{"aud": []any{"x", "trino"}}, "dbt"},
		{"no principal", `{"pattern":".*","user":"dbt"}`, changes{"sub": nil}, ""},
		{"a principal that is no text", `{"pattern":".+","user":"dbt"}`, changes{"sub": 7}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := Trino([]byte(trinoJWT+"http-server.authentication.jwt.user-mapping.file=etc/users.json\n"), []byte(`{"rules":[`+tt.rule+`]}`))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := m.User(gitHubClaims(with(changes{"aud": "trino"}, tt.changes)))
			if !ok {
				got = ""
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			wantWall(t, m.Wall("dbt"), gitHubClaims(with(changes{"aud": "trino"}, tt.changes)), tt.want == "dbt", "")
		})
	}
}

// TestTrinoProperties has what is next to the first four properties.
func TestTrinoProperties(t *testing.T) {
	t.Parallel()
	const mapping = "http-server.authentication.jwt.user-mapping."
	for _, tt := range []struct{ name, properties, want string }{
		{"no mapping", "", "repo:acme/analytics:environment:production"},
		{"a pattern", mapping + "pattern=repo:([^/]+)/.*", "acme"},
		{"a backslash is gone", mapping + `pattern=repo:(\w+)/.*`, ""},
		{"two are one", mapping + `pattern=repo:(\\w+)/.*`, "acme"},
		{"a longer line", mapping + "pattern=repo:\\\n   ([^/]+)/.*\n", "acme"},
		{"another separator", mapping + "pattern : repo:([^/]+)/.*", "acme"},
		{"another claim", "http-server.authentication.jwt.principal-field=repository\n" + mapping + "pattern=(.*)/.*", "acme"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := Trino([]byte(trinoJWT+tt.properties), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := m.User(gitHubClaims(map[string]any{"aud": "trino"})); got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestTrinoRefuses(t *testing.T) {
	t.Parallel()
	const mapping = "http-server.authentication.jwt.user-mapping."
	for _, tt := range []struct{ name, properties, file, err string }{
		{"no type", strings.Replace(trinoJWT, "=JWT", "=PASSWORD", 1), "", "http-server.authentication.type does not have JWT"},
		{"no key", strings.Replace(trinoJWT, "key-file", "key-files", 1), "", "http-server.authentication.jwt.key-file is required"},
		{"both", trinoJWT + mapping + "pattern=x\n" + mapping + "file=y", `{}`, "user mapping pattern and file can not both be set"},
		{"no file", trinoJWT + mapping + "file=y", "", "http-server.authentication.jwt.user-mapping.file and the file do not go together"},
		{"a file too many", trinoJWT, `{}`, "http-server.authentication.jwt.user-mapping.file and the file do not go together"},
		{"no rules", trinoJWT + mapping + "file=y", `{"rules":[]}`, "rules list is empty"},
		{"case", trinoJWT + mapping + "file=y", `{"rules":[{"pattern":"x","case":"title"}]}`, `rule 1: case is "title", cases are keep, lower and upper`},
		{"a variable", trinoJWT + mapping + "pattern=${ENV:X}", "", `property "http-server.authentication.jwt.user-mapping.pattern" has a variable, whose value is elsewhere`},
		{"twice", trinoJWT + "http-server.authentication.type=JWT", "", `duplicate property "http-server.authentication.type"`},
		{"a code", trinoJWT + `x=\u12`, "", `malformed \uxxxx encoding in "\\u12"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var file []byte
			if tt.file != "" {
				file = []byte(tt.file)
			}
			if _, err := Trino([]byte(tt.properties), file); message(err) != tt.err {
				t.Errorf("got  %s\nwant %s", message(err), tt.err)
			}
		})
	}
}

// TestJavaPattern: what Java and Go do not share is refused, and not guessed.
func TestJavaPattern(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		`a(?=b)`:         "a group of Java's only at \"(?=b)\"",
		`(?i)a`:          "a group of Java's only at \"(?i)a\"",
		`(?P<x>a)`:       "a group of Java's only at \"(?P<x>a)\"",
		`(?<n>a)(?<n>b)`: "duplicate group (?<n>",
		`(a)\1`:          `no common meaning of \1 to Java and Go`,
		`\h`:             `no common meaning of \h to Java and Go`,
		`\v`:             `no common meaning of \v to Java and Go`,
		`\bx`:            `no common meaning of \b to Java and Go`,
		`\p{Greek}`:      `no common meaning of \p to Java and Go`,
		`[a-z&&[b]]`:     `no common meaning of the class to Java and Go at "&&[b]]"`,
		`[[:alpha:]]`:    `no common meaning of the class to Java and Go at "[:alpha:]]"`,
		`[]a]`:           `no common meaning of the class to Java and Go at "]a]"`,
		`[a`:             "unclosed character class",
		`a{`:             `illegal repetition at "{"`,
		`a{,2}`:          `illegal repetition at "{,2}"`,
		`a^`:             "^ is not first",
		`$a`:             "$ is not last",
		`^a|b$`:          "^ and $ belong to one alternative only",
		`a*+`:            "error parsing regexp: invalid nested repetition operator: `*+`",
		`a++`:            "error parsing regexp: invalid nested repetition operator: `++`",
		`(a`:             "error parsing regexp: missing closing ): `\\A(?:(a)\\z`",
		`a\`:             "a backslash at the end",
	} {
		_, err := newJavaPattern(pattern)
		if got := message(err); !strings.HasSuffix(got, ": "+want) {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}
