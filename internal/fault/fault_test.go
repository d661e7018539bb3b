package fault_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// TestClassesAreExitStatuses: the numbers and names are a contract with users and with audit records.
func TestClassesAreExitStatuses(t *testing.T) {
	t.Parallel()
	want := map[fault.Class]string{1: "internal", 2: "usage", 3: "no_identity", 4: "token_rejected", 5: "denied", 6: "exchange_refused", 7: "unreachable"}
	for i, c := range []fault.Class{fault.Internal, fault.Usage, fault.NoIdentity, fault.Rejected, fault.Denied, fault.Refused, fault.Unreachable} {
		if int(c) != i+1 || c.String() != want[c] {
			t.Errorf("class %d is %q, want %d, %q", c, c, i+1, want[c])
		}
	}
	if got := fault.Class(99).String(); got != "internal" {
		t.Errorf("an unknown class is %q, want %q", got, "internal")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	plain := errors.New("plain")
	denied := fault.New(fault.Denied, plain, "ask somebody")
	bare := fault.New(fault.Denied, plain, "")
	tests := []struct {
		name  string
		err   error
		text  string
		class fault.Class
		hint  string
	}{
		{"no class", plain, "plain", fault.Internal, ""},
		{"none", nil, "", fault.Internal, ""},
		{"with a class", denied, "plain", fault.Denied, "ask somebody"},
		{"wrapped", fmt.Errorf("authorise: %w", denied), "authorise: plain", fault.Denied, "ask somebody"},
		{"joined", errors.Join(plain, denied), "plain\nplain", fault.Denied, "ask somebody"},
		{"classified again: the first class stays", fault.New(fault.Usage, denied, ""), "plain", fault.Denied, "ask somebody"},
		{"classified again: the first hint stays", fault.New(fault.Usage, denied, "another"), "plain", fault.Denied, "ask somebody"},
		{"a hint for one without", fault.New(fault.Usage, fmt.Errorf("authorise: %w", bare), "a hint"), "authorise: plain", fault.Denied, "a hint"},
		{"classified again, words kept", fault.New(fault.Usage, fmt.Errorf("run: %w", denied), "x"), "run: plain", fault.Denied, "ask somebody"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.err != nil && tt.err.Error() != tt.text {
				t.Errorf("text is %q, want %q", tt.err, tt.text)
			}
			if got := fault.ClassOf(tt.err); got != tt.class {
				t.Errorf("class is %s, want %s", got, tt.class)
			}
			if got := fault.Hint(tt.err); got != tt.hint {
				t.Errorf("hint is %q, want %q", got, tt.hint)
			}
		})
	}
	if !errors.Is(fault.New(fault.Usage, fmt.Errorf("read: %w", io.ErrUnexpectedEOF), ""), io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}

func TestLasts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"denied", fault.New(fault.Denied, errors.New("no"), ""), true},
		{"no identity", fault.New(fault.NoIdentity, errors.New("no"), ""), true},
		{"usage", fault.New(fault.Usage, errors.New("no"), ""), true},
		{"refused", fault.New(fault.Refused, errors.New("no"), ""), false},
		{"refused for good", fmt.Errorf("renew: %w", fault.Lasting(fault.New(fault.Refused, errors.New("no"), ""))), true},
		{"unreachable", fault.New(fault.Unreachable, errors.New("no"), ""), false},
		{"a bug", errors.New("no"), false},
		{"none", nil, false},
	} {
		if got := fault.Lasts(tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if err := fault.Lasting(fault.New(fault.Refused, errors.New("no"), "do")); fault.ClassOf(err) != fault.Refused || fault.Hint(err) != "do" || err.Error() != "no" {
		t.Errorf("it changes the error: %v, %v, %q", err, fault.ClassOf(err), fault.Hint(err))
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	one, two := fault.Place{File: "a.yml", Line: 1, Column: 2, Text: "one"}, fault.Place{File: "b.yml", Text: "two"}
	at := fault.At(errors.New("a.yml:1:2: one"), one)
	for _, tt := range []struct {
		name string
		err  error
		want []fault.Place
	}{
		{"none", nil, nil},
		{"no place", errors.New("no"), nil},
		{"placed", at, []fault.Place{one}},
		{"classified and wrapped", fmt.Errorf("read: %w", fault.New(fault.Usage, at, "do")), []fault.Place{one}},
		{"joined", errors.Join(at, errors.New("no"), fault.At(errors.New("b.yml: two"), two)), []fault.Place{one, two}},
		{"placed elsewhere", fault.At(at, two), []fault.Place{two}},
		{"placed nowhere", fault.At(fault.New(fault.Usage, at, "")), nil},
	} {
		if got := fault.Places(tt.err); !slices.Equal(got, tt.want) {
			t.Errorf("%s: places are %v, want %v", tt.name, got, tt.want)
		}
	}
	if err := fault.At(fault.New(fault.Denied, io.EOF, "do"), one); err.Error() != "EOF" || fault.ClassOf(err) != fault.Denied || fault.Hint(err) != "do" || !errors.Is(err, io.EOF) {
		t.Errorf("it changes the error: %v, %v, %q", err, fault.ClassOf(err), fault.Hint(err))
	}
}
