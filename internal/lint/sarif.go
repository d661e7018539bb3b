package lint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// What code scanning reads of SARIF 2.1.0, OASIS Standard, errata 01.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string      `json:"id"`
		ShortDescription     sarifText   `json:"shortDescription"`
		HelpURI              string      `json:"helpUri"`
		DefaultConfiguration sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level Severity `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               Severity           `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Properties          map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification,omitempty"`
	}
)

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// SARIF returns the findings for code scanning, the suppressed ones as such.
func SARIF(r Report) (string, error) {
	driver := sarifDriver{Name: "oidc-dbt", Version: r.Version, InformationURI: home}
	index := map[string]int{}
	for i, c := range checks {
		index[c.name] = i
		driver.Rules = append(driver.Rules, sarifRule{c.name, sarifText{c.meaning}, r.page(c.name), sarifConfig{c.severity}})
	}
	run := sarifRun{Tool: sarifTool{driver}, ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	seen := map[string]int{}
	for _, f := range r.Findings {
		at := sarifPhysical{sarifArtifact{(&url.URL{Path: r.fromRoot(f.File)}).String()}, sarifRegion{f.Line, f.Column}}
		result := sarifResult{
			RuleID: f.Name, RuleIndex: index[f.Name], Level: f.Severity,
			Message:             sarifText{f.Message + ". To fix it: " + f.Fix + "."},
			Locations:           []sarifLocation{{at}},
			PartialFingerprints: map[string]string{"oidcDbtFinding/v1": f.fingerprint(seen)},
		}
		if f.Suppressed {
			result.Suppressions = []sarifSuppression{{"inSource", f.Reason}}
		}
		if len(f.Witness) > 0 {
			result.Properties = map[string]any{"witness": f.Witness}
		}
		run.Results = append(run.Results, result)
	}
	return marshal(sarifLog{sarifSchema, "2.1.0", []sarifRun{run}})
}

// fingerprint names a finding by what it is about and not by where that is, so
// that it is the same one when lines move. seen counts those that are alike.
// What is hashed is the line as it may be printed: a hash of a password would
// tell it to who guesses.
func (f Finding) fingerprint(seen map[string]int) string {
	about := strings.Join([]string{f.Name, f.File, strings.TrimSpace(f.shown)}, "\x00")
	seen[about]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", about, seen[about]))
	return hex.EncodeToString(sum[:16])
}
