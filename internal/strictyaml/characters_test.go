package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// before and after are a policy around a line that a test writes.
const (
	before = "version: 1\ntargets:\n  prod:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow:\n" +
		"      - {repository: acme/analytics, repository_id: \"1\", environment: prod}\n"
	after = "      - {repository: acme/other, repository_id: \"2\", environment: prod}\n"
)

func TestHiddenCharacters(t *testing.T) {
	t.Parallel()
	const (
		breaks  = "a line break to some programs only: remove it, and end lines with LF or CRLF"
		unseen  = "invisible, or changes the order in which text is shown: remove it"
		control = "control characters are not allowed: remove it"
		space   = "which only looks like a space: write a space"
	)
	for _, tt := range []struct{ name, line, err string }{
		{"a rule behind a comment, by a line separator", "      # until 2025:\u2028      - {repository: evil/x, repository_id: \"9\"}", "7:20: U+2028 LINE SEPARATOR: " + breaks},
		{"by a paragraph separator", "      # until 2025:\u2029      - {repository: evil/x, repository_id: \"9\"}", "7:20: U+2029 PARAGRAPH SEPARATOR: " + breaks},
		{"by a next line", "      # until 2025:\u0085      - {repository: evil/x, repository_id: \"9\"}", "7:20: U+0085 NEXT LINE: " + breaks},
		{"by a carriage return", "      # until 2025:\r      - {repository: evil/x, repository_id: \"9\"}", "7:20: U+000D CARRIAGE RETURN: " + breaks},
		{"by a form feed", "      # until 2025:\f      - {repository: evil/x, repository_id: \"9\"}", "7:20: U+000C FORM FEED: " + breaks},
		{"by a vertical tab", "      # until 2025:\v", "7:20: U+000B LINE TABULATION: " + breaks},
		{"two carriage returns and a line feed", "      # x\r\r", "7:10: U+000D CARRIAGE RETURN: " + breaks},
		{"NUL", "      # x\x00", "7:10: U+0000 NULL: " + control},
		{"escape", "      # x\x1b[2K", "7:10: U+001B ESCAPE: " + control},
		{"delete", "      # x\x7f", "7:10: U+007F DELETE: " + control},
		{"CSI", "      # x\u009b", "7:10: U+009B CONTROL SEQUENCE INTRODUCER: " + control},
		{"bidi in a comment", "      # \u202e}x", "7:9: U+202E RIGHT-TO-LEFT OVERRIDE: " + unseen},
		{"bidi isolate", "      # \u2066x", "7:9: U+2066 LEFT-TO-RIGHT ISOLATE: " + unseen},
		{"Arabic letter mark", "      # \u061cx", "7:9: U+061C ARABIC LETTER MARK: " + unseen},
		{"zero width in a value", "      - {repository: acme/x\u200b, repository_id: \"3\"}", "7:28: U+200B ZERO WIDTH SPACE: " + unseen},
		{"zero width in a key", "      - {repository: acme/x, reposi\u200dtory_id: \"3\"}", "7:36: U+200D ZERO WIDTH JOINER: " + unseen},
		{"zero width in quotes", "      - {repository: \"acme\u2060/x\"}", "7:27: U+2060 WORD JOINER: " + unseen},
		{"soft hyphen", "      # a\u00adb", "7:10: U+00AD SOFT HYPHEN: " + unseen},
		{"byte order mark in the middle", "      # \ufeff", "7:9: U+FEFF ZERO WIDTH NO-BREAK SPACE: " + unseen},
		{"tag characters", "      # \U000e0041", "7:9: U+E0041 TAG LATIN CAPITAL LETTER A: " + unseen},
		{"a cancel tag", "      # \U000e007f", "7:9: U+E007F CANCEL TAG: " + unseen},
		{"a variation selector", "      # a\ufe00", "7:10: U+FE00 VARIATION SELECTOR-1: " + unseen},
		{"a supplementary variation selector", "      # a\U000e0100", "7:10: U+E0100 VARIATION SELECTOR-17: " + unseen},
		{"Hangul filler", "      # \u3164", "7:9: U+3164 HANGUL FILLER: " + unseen},
		{"Hangul choseong filler", "      # \u115f", "7:9: U+115F HANGUL CHOSEONG FILLER: " + unseen},
		{"Braille blank", "      # \u2800", "7:9: U+2800 BRAILLE PATTERN BLANK: " + unseen},
		{"grapheme joiner", "      # a\u034fb", "7:10: U+034F COMBINING GRAPHEME JOINER: " + unseen},
		{"reserved and ignorable", "      # \u2065", "7:9: U+2065 (an invisible character): " + unseen},
		{"no character", "      # \ufdd0", "7:9: U+FDD0 (not a character): " + unseen},
		{"behind letters of several bytes", "      # größe €\u200b", "7:16: U+200B ZERO WIDTH SPACE: " + unseen},
		{"an escape in a value", `      - {repository: "acme/x\u2028", repository_id: "3"}`, "7:22: contains U+2028 LINE SEPARATOR: " + breaks},
		{"an escape of NEL", `      - {repository: "acme/x\N", repository_id: "3"}`, "7:22: contains U+0085 NEXT LINE: " + breaks},
		{"an escape of a carriage return", `      - {repository: "acme/x\r", repository_id: "3"}`, "7:22: contains U+000D CARRIAGE RETURN: " + breaks},
		{"a shape in a value", "      - {repository: acme/x, environment: prod\ufe0f}", "7:43: contains U+FE0F VARIATION SELECTOR-16: " + unseen},
		{"an escape in a key", `      - {repository: acme/x, "reposi\u200btory_id": "3"}`, "7:30: contains U+200B ZERO WIDTH SPACE: " + unseen},
		{"an escape of a tag", `      - {repository: acme/x, environment: ["a\U000E0041"]}`, "7:44: contains U+E0041 TAG LATIN CAPITAL LETTER A: " + unseen},
		{"a no-break space in a value", "      - {repository: acme/x\u00a0, repository_id: \"3\"}", "7:22: contains U+00A0 NO-BREAK SPACE, " + space},
		{"one in a key", "      - {repository: acme/x, \u00a0repository_id: \"3\"}", "7:30: contains U+00A0 NO-BREAK SPACE, " + space},
		{"one by an escape", `      - {repository: "acme/x\_", repository_id: "3"}`, "7:22: contains U+00A0 NO-BREAK SPACE, " + space},
		{"an ideographic space", "      - {repository: acme/x, environment: \"a\u3000b\"}", "7:43: contains U+3000 IDEOGRAPHIC SPACE, " + space},
		{"one that ends no value, before a #", "      - {repository: acme/x, environment: prod\u00a0#x\n        }", "7:43: contains U+00A0 NO-BREAK SPACE, " + space},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load("p.yml", before+tt.line+"\n"+after)
			want := "p.yml:" + tt.err + "\n"
			if err == nil || !strings.Contains(err.Error()+"\n", want) || !strings.Contains(err.Error(), ": 1 error\n") {
				t.Errorf("error is\n%v\nwant\n%s", err, want)
			}
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r != '\n' && strictyaml.Hidden(r) }) {
				t.Errorf("the error itself holds such a character: %q", err)
			}
			if _, inline := load("policy", before+tt.line+"\n"+after); inline == nil {
				t.Error("it is accepted inline")
			}
		})
	}
}

// TestHiddenInOrder: the first fifty are shown, and no secret with them.
func TestHiddenInOrder(t *testing.T) {
	t.Parallel()
	_, err := load("p.yml", strings.Repeat("#\u200b\n", 3)+"password: hunter2\u200b\n"+strings.Repeat("#\u200b\n", 1<<16))
	if err == nil || !strings.HasPrefix(err.Error(), "parse policy \"p.yml\": 50 errors\np.yml:1:2: U+200B ZERO WIDTH SPACE: ") || strings.Contains(err.Error(), marker) || !strings.Contains(err.Error(), "\n  password: …\n") {
		t.Errorf("error is %v", err)
	}
}

// TestHiddenAndSecret: where the lines are certain, only what is a secret is hidden.
func TestHiddenAndSecret(t *testing.T) {
	t.Parallel()
	const src = "version: 1\ntargets:\n  prod:\n    dbt: {password: hunter2, secret: |\n    exchange: {vault: {secret: database/creds/x}}\n    allow:\n      - {repository: acme/x\u200b}\n"
	for _, tt := range []struct{ name, src, err string }{
		{"YAML", strings.Replace(src, ", secret: |", "}", 1), "  parse policy \"p.yml\": 1 error\np.yml:7:28: U+200B ZERO WIDTH SPACE: invisible, or changes the order in which text is shown: remove it\n        - {repository: acme/x\uFFFD}\n                             ^"},
		{"not YAML", src, "  parse policy \"p.yml\": 1 error\np.yml:7:28: U+200B ZERO WIDTH SPACE: invisible, or changes the order in which text is shown: remove it\n  …\n  ^"},
		{"on the line of a secret", "version: 1\npassword: hunter2\u200b\n", "  parse policy \"p.yml\": 1 error\np.yml:2:18: U+200B ZERO WIDTH SPACE: invisible, or changes the order in which text is shown: remove it\n  password: …\n            ^"},
	} {
		_, err := load("p.yml", tt.src)
		if err == nil || "  "+err.Error() != tt.err {
			t.Errorf("%s: error is\n%v\nwant\n%s", tt.name, err, tt.err)
		}
	}
}

// TestPlainCharacters: what people write in comments stays possible.
func TestPlainCharacters(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"      # größe, 日本語、コメント\u3000全角, français\u00a0: non\u202fsécable, עברית, 🚀 ✅ → …",
		"      # \u26a0\ufe0f do not edit \u2139\ufe0e",
		"      # a tab\there, and # another",
		"      # 'quotes\" # in a comment",
		"      - {environment: \"acme/x # y\", repository_id: \"3\"} # \"z",
		"      - {environment: acme/x#y, repository_id: '3', actor: '#3'} # it's \"z",
		"      - {\"repository\":\"acme/x\",\"actor\":\"# 3\",\"environment\":\"größe €\"}",
		"      - repository: acme/x # the first\n        # the second\n        environment: # below\n          - a # one\n          - \"b # two\"\n",
		"      - repository: \"acme/\\\n          x\"\n        repository_id: \"3\"",
	} {
		if _, err := load("p.yml", before+line+"\n"+after); err != nil {
			t.Error(err)
		}
		if _, err := load("p.yml", "\ufeff"+strings.ReplaceAll(before+line+"\n"+after, "\n", "\r\n")); err != nil {
			t.Error("with CRLF and a byte order mark:", err)
		}
	}
}

// TestRulesBehindANumberSign: a quoted text of several lines makes no comment
// of what a reader of one line takes for one.
func TestRulesBehindANumberSign(t *testing.T) {
	t.Parallel()
	const want = "follows a # that looks like a comment but is in a quoted text of several lines: write that text on one line"
	for _, tt := range []struct{ name, line, place string }{
		{"at the start of a line", "      - {repository: acme/x, environment: \"a\n          # until 2025: \", repository_id: \"3\"}", "8:43"},
		{"in the middle", "      - {repository: acme/x, repository_id: \"3\", environment: 'a\n          b # c', ref: refs/heads/x}", "8:24"},
		{"a quote that opens nothing", "      - {repository: acme/x, repository_id: \"3\", environment: \"a\n          it's # \", ref: refs/heads/x}", "8:26"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load("p.yml", before+tt.line+"\n"+after)
			if err == nil || !strings.Contains(err.Error(), "\np.yml:"+tt.place+": "+want+"\n") {
				t.Errorf("error is\n%v\nwant %s: %s", err, tt.place, want)
			}
		})
	}
}

// TestEveryHiddenCharacterHasAName, and the classes are whole.
func TestEveryHiddenCharacterHasAName(t *testing.T) {
	t.Parallel()
	count := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		in := unicode.IsControl(r) && r != '\t' && r != '\n' || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, unicode.Bidi_Control, unicode.Join_Control)
		if in && !strictyaml.Hidden(r) && r != 0xfe0e && r != 0xfe0f { // of an emoji in a comment
			t.Errorf("%U is let through", r)
		}
		if strictyaml.Hidden(r) && unicode.In(r, unicode.L, unicode.N, unicode.P) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point) && r != 0x13441 && r != 0x13442 {
			t.Errorf("%U is visible, and refused", r)
		}
		if !strictyaml.Hidden(r) && !strictyaml.WideSpace(r) {
			continue
		}
		count++
		name := strictyaml.CharacterName(r)
		if !strings.HasPrefix(name, fmt.Sprintf("U+%04X ", r)) {
			t.Errorf("%U is called %q", r, name)
		}
		if strings.HasSuffix(name, ")") && unicode.In(r, unicode.Cf, unicode.Cc, unicode.Zs, unicode.Variation_Selector) {
			t.Errorf("%U has no name", r)
		}
	}
	if count < 4000 || !utf8.ValidString(strictyaml.CharacterName(0xfffe)) {
		t.Errorf("%d characters are refused, want the 4,000 that Unicode lets be ignored", count)
	}
}
