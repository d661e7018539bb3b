package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// frame is a message of a client's.
func frame(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body
}

// witnessed is a guard that admits everything but texts with the word "drop",
// and keeps the texts that it saw.
func witnessed(texts *[]string) *guard.Guard {
	return guard.New(guard.Config{Dialect: statement.Postgres, Statements: guard.Any, Where: "t", Text: true, Record: func(e guard.Entry) error {
		if e.SHA256 == "" {
			e.Text = e.Verdict.Why
		}
		*texts = append(*texts, e.Text)
		if strings.Contains(e.Text, "drop") {
			return errors.New("no")
		}
		return nil
	}})
}

// TestFrameGuard: messages with text are decided on as a whole, in pieces of
// any size; all others pass.
func TestFrameGuard(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3*chunkSize)
	const no = "not recorded, and so not allowed by the guard of t: no"
	const unknown = "not allowed by the guard of t: the message cannot be forwarded (%s) (see docs/guardrails.md)"
	for _, tt := range []struct {
		name, sent, passed string
		texts              []string
		err                string
	}{
		{name: "a query", sent: frame('Q', "select 1\x00"), texts: []string{"select 1"}},
		{name: "two", sent: frame('Q', "one\x00") + frame('Q', "two\x00"), texts: []string{"one", "two"}},
		{name: "an empty one", sent: frame('Q', "\x00"), texts: []string{""}},
		{name: "a long one", sent: frame('Q', large+"\x00") + frame('X', ""), texts: []string{large}},
		{name: "the extended protocol", sent: frame('P', "name\x00select $1\x00\x00\x01\x00\x00\x00\x17") + frame('B', "\x00name\x00…") + frame('D', "S\x00") + frame('E', "\x00\x00\x00\x00\x00") + frame('H', "") + frame('C', "P\x00") + frame('S', ""), texts: []string{"select $1"}},
		{name: "COPY", sent: frame('Q', "copy t from stdin\x00") + frame('d', "drop\n"+large) + frame('d', "") + frame('c', "") + frame('f', "why\x00"), texts: []string{"copy t from stdin"}},
		{name: "denied", sent: frame('Q', "one\x00") + frame('Q', "drop\x00") + frame('Q', "three\x00"), passed: frame('Q', "one\x00"), texts: []string{"one", "drop"}, err: no},
		{name: "denied in Parse", sent: frame('S', "") + frame('P', "\x00drop\x00\x00\x00"), passed: frame('S', ""), texts: []string{"drop"}, err: no},
		{name: "a call of a function", sent: frame('F', "\x00\x00\x00\x01"), texts: []string{"a call of a function by the protocol"}},
		{name: "another kind", sent: frame('p', "secret\x00"), texts: []string{"a message of a kind that is not known"}},
		{name: "too short", sent: "Q\x00\x00\x00\x03", texts: []string{"a message without a valid length"}, err: fmt.Sprintf(unknown, "a message without a valid length")},
		{name: "too long", sent: "d\xff\xff\xff\xff", texts: []string{"a message without a valid length"}, err: fmt.Sprintf(unknown, "a message without a valid length")},
		{name: "no end of the text", sent: frame('Q', "select 1"), texts: []string{"a message that is not valid"}, err: fmt.Sprintf(unknown, "a message that is not valid")},
		{name: "two texts", sent: frame('Q', "select 1\x00drop\x00"), texts: []string{"a message that is not valid"}, err: fmt.Sprintf(unknown, "a message that is not valid")},
		{name: "nothing", sent: frame('Q', ""), texts: []string{"a message that is not valid"}, err: fmt.Sprintf(unknown, "a message that is not valid")},
		{name: "a name only", sent: frame('P', "name\x00"), texts: []string{"a message that is not valid"}, err: fmt.Sprintf(unknown, "a message that is not valid")},
		{name: "no name", sent: frame('P', "name"), texts: []string{"a message that is not valid"}, err: fmt.Sprintf(unknown, "a message that is not valid")},
		{name: "too large", sent: frame('Q', strings.Repeat("x", maxStatement)+"\x00"), texts: []string{"a text larger than 16777216 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.passed == "" && tt.err == "" {
				tt.passed = tt.sent
			}
			for _, piece := range []int{1, 2, 5, 7, chunkSize, 4 * chunkSize} {
				if len(tt.sent) > 1000*piece {
					continue
				}
				var texts []string
				var passed bytes.Buffer
				f := &frameGuard{guard: witnessed(&texts), ready: func() bool { return true }, write: func(b []byte) error { passed.Write(b); return nil }}
				var err error
				for b := range slices.Chunk([]byte(tt.sent), piece) {
					if err = f.pass(b); err != nil {
						break
					}
				}
				got := ""
				if err != nil {
					got = err.Error()
				}
				if got != tt.err || !slices.Equal(texts, tt.texts) {
					t.Errorf("pieces of %d: error is %q, want %q; texts are %.100q, want %.100q", piece, got, tt.err, texts, tt.texts)
				}
				if tt.err == "" && passed.String() != tt.passed || !strings.HasPrefix(tt.passed, passed.String()) {
					t.Errorf("pieces of %d: passed %.200q, want %.200q", piece, passed.String(), tt.passed)
				}
			}
		})
	}
}

// TestFrameGuardObserves: a guard that observes lets pass what has the length
// of a message.
func TestFrameGuardObserves(t *testing.T) {
	t.Parallel()
	var passed bytes.Buffer
	f := &frameGuard{
		guard: guard.New(guard.Config{Statements: guard.Read, Observe: true, Where: "t"}),
		ready: func() bool { return true }, write: func(b []byte) error { passed.Write(b); return nil },
	}
	sent := frame('Q', "drop table x\x00") + frame('F', "\x00") + frame('?', "x") + frame('Q', strings.Repeat("x", maxStatement)+"\x00")
	if err := f.pass([]byte(sent)); err != nil || passed.String() != sent {
		t.Errorf("%d bytes passed of %d, %v", passed.Len(), len(sent), err)
	}
	if err := f.pass([]byte("Q\x00\x00\x00\x00")); err == nil {
		t.Error("a message without a length passed")
	}
}

// FuzzFrameGuard: whatever the pieces, what passes is the beginning of what was
// sent, each text was decided on before it passed, and nothing follows a denial.
func FuzzFrameGuard(f *testing.F) {
	f.Add([]byte(frame('Q', "select 1\x00")+frame('X', "")), uint8(3))
	f.Add([]byte(frame('P', "\x00drop\x00\x00\x00")+frame('S', "")), uint8(1))
	f.Add([]byte(frame('d', "Q\x00\x00\x00\x08drop\x00")+frame('Q', "drop\x00")), uint8(6))
	f.Fuzz(func(t *testing.T, sent []byte, piece uint8) {
		var texts []string
		var passed []byte
		guarded := &frameGuard{guard: witnessed(&texts), ready: func() bool { return true }, write: func(b []byte) error { passed = append(passed, b...); return nil }}
		var err error
		for b := range slices.Chunk(sent, int(piece)+1) {
			if err = guarded.pass(b); err != nil {
				break
			}
		}
		if !bytes.HasPrefix(sent, passed) {
			t.Fatalf("passed %q of %q", passed, sent)
		}
		// As a server reads what has passed:
		for rest := passed; len(rest) >= frameHead; {
			n := int(binary.BigEndian.Uint32(rest[1:])) + 1
			if n > len(rest) {
				if rest[0] == 'Q' || rest[0] == 'P' {
					if n <= maxStatement {
						t.Fatalf("a part of a text passed: %q", rest)
					}
				}
				break
			}
			if m := rest[:n]; (m[0] == 'Q' || m[0] == 'P') && (bytes.Contains(m, []byte("drop")) || len(texts) == 0) {
				text := m[frameHead:]
				if m[0] == 'P' {
					_, text, _ = bytes.Cut(text, []byte{0})
				}
				if text, _, _ = bytes.Cut(text, []byte{0}); bytes.Contains(text, []byte("drop")) || len(texts) == 0 {
					t.Fatalf("passed %q undecided", m)
				}
			}
			rest = rest[n:]
		}
	})
}

// TestAmbiguous: texts that depend on the session's settings are refused where
// these may have changed.
func TestAmbiguous(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		is   bool
	}{
		{"select 'é', \"ü\"", false},
		{`select '\d'`, true},
		{"select E'\x95\\' ; drop table x; --'", true},
		{"select $$ é$$, $tag$ é $tag$, $1 é, $é", false},
		{"select $é$ x $é$", true},
		{"select $t\x95g$ x $t\x95g$", true},
		{"select a$b é", false},
	} {
		if got := ambiguous([]byte(tt.text)); got != tt.is {
			t.Errorf("%q: %v, want %v", tt.text, got, tt.is)
		}
		var texts []string
		f := &frameGuard{guard: witnessed(&texts), ready: func() bool { return false }, write: func([]byte) error { return nil }}
		_ = f.pass([]byte(frame('Q', tt.text+"\x00")))
		want := tt.text
		if tt.is {
			want = "backslashes, or a quote of dollars outside ASCII, in a session whose standard_conforming_strings or client_encoding may be another one"
		}
		if diff := cmp.Diff([]string{want}, texts); diff != "" && !strings.Contains(tt.text, "drop") {
			t.Errorf("%q (-want +got)\n%s", tt.text, diff)
		}
	}
	// What is sent together with a statement that may change the settings:
	var texts []string
	f := &frameGuard{guard: witnessed(&texts), ready: func() bool { return true }, write: func([]byte) error { return nil }}
	_ = f.pass([]byte(frame('P', "\x00one\x00\x00\x00") + frame('E', "\x00\x00\x00\x00\x00") + frame('Q', `'\'`+"\x00")))
	if len(texts) != 2 || !strings.HasPrefix(texts[1], "backslashes") {
		t.Errorf("texts are %q", texts)
	}
}

// TestReports: the server's word on settings, in pieces of any size.
func TestReports(t *testing.T) {
	t.Parallel()
	report := func(name, value string) string { return frame('S', name+"\x00"+value+"\x00") }
	for _, tt := range []struct {
		name, said        string
		strings, encoding bool
	}{
		{"nothing", frame('Z', "I"), false, false},
		{"both", report("client_encoding", "UTF8") + report("TimeZone", strings.Repeat("x", 200)) + report("standard_conforming_strings", "on"), true, true},
		{"changed", report("client_encoding", "UTF8") + report("standard_conforming_strings", "on") + frame('C', "SET\x00") + report("standard_conforming_strings", "off") + report("client_encoding", "SJIS") + frame('Z', "I"), false, false},
		{"and back", report("client_encoding", "GBK") + report("client_encoding", "latin1"), false, true},
	} {
		for _, piece := range []int{1, 3, 10, 10_000} {
			s := &atWork{}
			for b := range slices.Chunk([]byte(tt.said), piece) {
				s.says(b)
			}
			if got, want := fmt.Sprint(s.reports.strings.Load(), s.reports.encoding.Load()), fmt.Sprint(tt.strings, tt.encoding); got != want {
				t.Errorf("%s, pieces of %d: %s, want %s", tt.name, piece, got, want)
			}
		}
	}
}

func TestSplitOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                             nil,
		"  ":                           nil,
		"-c a=b":                       {"-c", "a=b"},
		"-ca=b\t--c=d  ":               {"-ca=b", "--c=d"},
		`-c search_path=a,\ b -c x=\\`: {"-c", "search_path=a, b", "-c", `x=\`},
		`\ `:                           {" "},
		"-c\vdefault=\f1":              {"-c", "default=", "1"},
		`trailing\`:                    {"trailing"},
	} {
		if got := splitOptions(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
