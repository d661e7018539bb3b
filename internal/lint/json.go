package lint

import (
	"encoding/json"
	"strings"
)

// jsonFinding is a Finding for machines; its JSON is stable.
type jsonFinding struct {
	Name       string         `json:"name"`
	Severity   Severity       `json:"severity"`
	File       string         `json:"file"`
	Line       int            `json:"line"`
	Column     int            `json:"column"`
	Message    string         `json:"message"`
	Fix        string         `json:"fix"`
	Suppressed bool           `json:"suppressed"`
	Witness    map[string]any `json:"witness,omitempty"`
}

// JSON returns the findings for machines, the suppressed ones too. Its JSON
// Schema is docs/lint/findings.schema.json.
func JSON(r Report) (string, error) {
	out := struct {
		Version  int           `json:"version"`
		Findings []jsonFinding `json:"findings"`
	}{1, []jsonFinding{}}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings,
			jsonFinding{f.Name, f.Severity, f.File, f.Line, f.Column, f.Message, f.Fix, f.Suppressed, f.Witness})
	}
	return marshal(out)
}

// marshal returns indented JSON, which humans read in a log.
func marshal(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	// The runner interprets "##[…]" anywhere in a line. "#" occurs only inside
	// JSON strings.
	return strings.ReplaceAll(string(text), "##[", `##\u005b`) + "\n", err
}
