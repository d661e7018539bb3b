package standin

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, raw, shown string
		late             bool
	}{
		{"no mask", "one\ntwo\n", "one\ntwo\n", false},
		{"masks first", "::add-mask::s3cret\n::add-mask::other\nuse s3cret and other\n", "use *** and ***\n", false},
		{"a mask behind a line", "s3cret\n::add-mask::s3cret\ns3cret\n", "s3cret\n***\n", true},
		{"a mask inside a mask", "::add-mask::abc\n::add-mask::abcdef\nabcdef abc\n", "*** ***\n", false},
		{"an empty mask", "::add-mask::\none\n", "one\n", false},
		{"escaped mask", "::add-mask::100%25\n100% sure\n", "*** sure\n", false},
		{"lines in one command", "::add-mask::s3cret\n::error::first%0Asecond s3cret\n", "::error::first\nsecond ***\n", false},
		{"Windows line ends", "::add-mask::s3cret\r\ns3cret\r\n", "***\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var j Masks
			if shown, late := j.Show(tt.raw); shown != tt.shown || late != tt.late {
				t.Errorf("got %q, %t, want %q, %t", shown, late, tt.shown, tt.late)
			}
		})
	}
}

// Masks hold for the whole job, not only for their step.
func TestShowNextStep(t *testing.T) {
	t.Parallel()
	var j Masks
	j.Show("::add-mask::s3cret\n")
	if shown, _ := j.Show("s3cret\n"); shown != "***\n" {
		t.Errorf("the next step shows %q", shown)
	}
}

func TestKeyValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       map[string]string
		err        string
	}{
		{"nothing", "", map[string]string{}, ""},
		{"equals", "a=1\nb=x=y<<z\n", map[string]string{"a": "1", "b": "x=y<<z"}, ""},
		{"heredoc", "a<<EOF\none\n\ntwo=2\nEOF\nb<<E2\nEOF\nE2\n", map[string]string{"a": "one\n\ntwo=2", "b": "EOF"}, ""},
		{"empty value", "a<<EOF\nEOF\n", map[string]string{"a": ""}, ""},
		{"the last one counts", "a=1\na=2\n", map[string]string{"a": "2"}, ""},
		{"no end", "a<<EOF\none\n", nil, `value of "a": delimiter "EOF" not found`},
		{"no delimiter", "a<<\none\n", nil, `value of "a": delimiter "" not found`},
		{"neither", "hello\n", nil, `invalid line "hello"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := keyValues(tt.text)
			if tt.err != "" {
				if fmt.Sprint(err) != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
