package idtoken_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// jwt returns a token with a payload, whose signature is none.
func jwt(payload string) string {
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl"
}

func TestParseUnverified(t *testing.T) {
	t.Parallel()
	const want = "a JSON object of claims or a JSON Web Token"
	for _, tt := range []struct{ name, text, err string }{
		{"object", `{"sub": "a", "groups": ["x", "y"], "n": 7}`, ""},
		{"no claim", `{}`, ""},
		{"byte order mark", "\ufeff{}", ""},
		{"token", jwt(`{"sub": "a"}`), ""},
		{"token and a line break", "\n" + jwt(`{"sub": "a"}`) + "\r\n", ""},
		{"empty", "", "is empty, want " + want},
		{"blank", " \r\n\t", "is empty, want " + want},
		{"huge", `{"sub": "` + strings.Repeat("a", 2<<20) + `"}`, "is 2097163 bytes long, want at most 65536"},
		{"huge token", jwt(`{"sub": "` + strings.Repeat("a", 1<<20) + `"}`), "is 1398150 bytes long, want at most 65536"},
		{"binary", "\x7fELF\x02\x00\xff", "is not a text in UTF-8, want " + want},
		{"UTF-16", "\xff\xfe{\x00}\x00", "is not a text in UTF-8, want " + want},
		{"list", `[{"sub": "a"}]`, "is a list, want a JSON object of claims"},
		{"string", `"sub"`, "is a string, want a JSON object of claims"},
		{"number", `7`, "is a number, want a JSON object of claims"},
		{"a number that floating point cannot hold", `{"sub": "a", "n": 1e400}`, ""},
		{"only such a number", ` 1e400 `, "is a number, want a JSON object of claims"},
		{"boolean", `true`, "is a boolean, want a JSON object of claims"},
		{"null", `null`, "is null, want a JSON object of claims"},
		{"YAML", "sub: a\n", "is not JSON: line 1, column 1: invalid character 's' looking for beginning of value"},
		{"a comma too many", "{\n  \"sub\": \"a\",\n}", "is not JSON: line 3, column 1: invalid character '}' looking for beginning of object key string"},
		{"cut off", `{"sub": "a"`, "is not JSON: line 1, column 11: unexpected end of JSON input"},
		{"two objects", "{}\n{}", "is not JSON: line 2, column 1: invalid character '{' after top-level value"},
		{"nested too deeply", strings.Repeat(`{"a":`, 12_000), "is not JSON: line 1, column 50001: invalid character '{' exceeded max depth"},
		{"duplicate", `{"sub": "a", "ref": "b", "sub": "c"}`, `duplicate claim "sub"`},
		{"another letter case", `{"Sub": "a", "sub": "c"}`, `claim "Sub" differs from "sub" only in letter case`},
		{"token of two parts", "eyJhbGciOiJSUzI1NiJ9.e30", "malformed JSON Web Token: want three parts of base64url with two dots between them"},
		{"token with garbage", "eyJhbGciOiJSUzI1NiJ9.e30.%%%", "malformed JSON Web Token: want three parts of base64url with two dots between them"},
		{"token with a garbled payload", "eyJhbGciOiJSUzI1NiJ9.e3e3e.x", "malformed JSON Web Token: its payload is not base64url"},
		{"token of no JSON", jwt("\x01\x02"), "malformed JSON Web Token: its payload is not a JSON object"},
		{"token of a list", jwt("[]"), "is a list, want a JSON object of claims"},
		{"token with a duplicate", jwt(`{"sub":"a","sub":"b"}`), `duplicate claim "sub"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := idtoken.ParseUnverified([]byte(tt.text))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.err {
				t.Errorf("error is %q, want %q", got, tt.err)
			}
		})
	}
}

func TestUnverified(t *testing.T) {
	t.Parallel()
	u, err := idtoken.ParseUnverified([]byte(`{"iss": "i", "sub": "s", "groups": ["x", "y"], "n": 7, "null": null}`))
	if err != nil {
		t.Fatal(err)
	}
	groups, _ := u.Strings("groups")
	if diff := cmp.Diff([]string{"x", "y"}, groups); diff != "" {
		t.Error(diff)
	}
	if _, ok := u.String("n"); ok || u.Value("n") != json.Number("7") || !u.Has("null") || u.Has("other") || u.Issuer() != "i" || u.Subject() != "s" || u.IsZero() {
		t.Errorf("the accessors disagree with %v", u.Names())
	}
	if !(idtoken.Unverified{}).IsZero() {
		t.Error("the zero Unverified is of a token")
	}
	changed := u.With("sub", "t").With("new", "v").Without("n")
	if diff := cmp.Diff([]string{"groups", "iss", "new", "null", "sub"}, changed.Names()); diff != "" || changed.Subject() != "t" {
		t.Errorf("changed claims: %s, subject %q", diff, changed.Subject())
	}
	if u.Subject() != "s" || !u.Has("n") || u.Has("new") {
		t.Error("a copy changed the original")
	}
	part := u.Partial("environment")
	for name, unknown := range map[string]bool{"sub": false, "environment": false, "ref": true, "null": false} {
		if part.Unknown(name) != unknown || u.Unknown(name) {
			t.Errorf("Unknown(%q) is %t of a part, %t of the whole", name, part.Unknown(name), u.Unknown(name))
		}
	}
}

func TestNewUnverified(t *testing.T) {
	t.Parallel()
	u, err := idtoken.NewUnverified(map[string]any{"list": []string{"a"}, "n": 7, "s": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if list, ok := u.Strings("list"); !ok || len(list) != 1 || u.Value("n") != json.Number("7") {
		t.Errorf("values are %v and %v", u.Value("list"), u.Value("n"))
	}
	if u, err = idtoken.NewUnverified(nil); err != nil || u.IsZero() {
		t.Errorf("of no claims: %v, %v", u.IsZero(), err)
	}
	if _, err = idtoken.NewUnverified(map[string]any{"f": func() {}}); err == nil {
		t.Error("a function is a claim")
	}
}

// FuzzParseUnverified: nothing makes it panic, and it takes what is one
// object, each claim once.
func FuzzParseUnverified(f *testing.F) {
	for _, text := range []string{"", "{}", `{"sub":"a"}`, "[]", jwt(`{"sub":"a"}`), "eyJ.e30.x", `{"a":{"b":[1,null]}}`, "\xff\xfe"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := idtoken.ParseUnverified(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("error is %q", err)
			}
			return
		}
		if u.IsZero() {
			t.Error("claims of no token")
		}
		values := map[string]any{}
		for _, name := range u.Names() {
			values[name] = u.Value(name)
		}
		if again, err := idtoken.NewUnverified(values); err != nil || !cmp.Equal(again.Names(), u.Names()) {
			t.Errorf("read back: %v, %v", again.Names(), err)
		}
	})
}
