package proposal

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Text returns the proposal for a reader. written are the files that were
// written; without any, their texts are shown.
func (p *Proposal) Text(written []string) string {
	var out strings.Builder
	if len(written) == 0 {
		fmt.Fprintf(&out, "Proposal for %s. Nothing was written: %s.\n", p.Repository, p.howToWrite())
		for _, f := range p.Files {
			fmt.Fprintf(&out, "\n==> %s (new)\n\n%s", f.Path, f.Text)
		}
		for _, d := range p.Diffs {
			fmt.Fprintf(&out, "\n==> %s (change)\n\n%s", d.Path, d.Text)
		}
	}
	for _, path := range written {
		fmt.Fprintf(&out, "wrote %s\n", path)
	}
	if p.Entry != "" {
		fmt.Fprintf(&out, "\n==> %s\n\n%s", p.entryFor, p.Entry)
	}
	out.WriteString("\nLeft to do:\n")
	for i, s := range p.Left {
		fmt.Fprintf(&out, "\n%d. %s\n", i+1, s.Text)
		for _, c := range s.Commands {
			fmt.Fprintf(&out, "   $ %s\n", c)
		}
		for _, d := range s.Details {
			fmt.Fprintf(&out, "   - %s\n", d)
		}
		if s.Page != "" {
			fmt.Fprintf(&out, "   %s\n", s.Page)
		}
	}
	return out.String()
}

// howToWrite says what writes the proposal: the flags of this command belong to it.
func (p *Proposal) howToWrite() string {
	if len(p.Diffs) > 0 {
		return "the same command with --write writes the new files, and the changes as " + patchPath
	}
	return "the same command with --write writes the new files"
}

// JSON returns the proposal for a machine; its keys are stable.
func (p *Proposal) JSON(written []string) ([]byte, error) {
	shape := struct {
		Version    int      `json:"version"`
		Repository string   `json:"repository"`
		Files      []File   `json:"files"`
		Diffs      []Diff   `json:"diffs"`
		Entry      string   `json:"entry,omitempty"`
		Left       []Step   `json:"left"`
		Written    []string `json:"written"`
	}{1, p.Repository, p.Files, p.Diffs, p.Entry, p.Left, written}
	if shape.Diffs == nil {
		shape.Diffs = []Diff{}
	}
	if shape.Written == nil {
		shape.Written = []string{}
	}
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(shape)
	// The runner interprets "##[…]" anywhere in a line. "#" occurs only inside
	// JSON strings.
	return []byte(strings.ReplaceAll(out.String(), "##[", `##\u005b`)), err
}
