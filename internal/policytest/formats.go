package policytest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
)

// Formats are the values of `--format`, the default first.
var Formats = []string{"text", "json", "junit"}

// Write writes the reports of all files in a format. The text may hold any
// character of the cases; what a console or a runner would obey is for the
// caller to break. JSON and JUnit hold nothing of the kind.
func Write(w io.Writer, format string, reports []Report) error {
	var text []byte
	var err error
	switch format {
	case "json":
		text, err = jsonOf(reports)
	case "junit":
		text, err = junitOf(reports)
	default:
		for _, r := range reports {
			text = append(text, r.text()...)
		}
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func jsonOf(reports []Report) ([]byte, error) {
	type result struct {
		Name    string `json:"name"`
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}
	type uncovered struct {
		Target string `json:"target"`
		Rule   int    `json:"rule"` // from 1
	}
	type mutant struct {
		Case  string `json:"case"`
		Claim string `json:"claim"`
		Value any    `json:"value"`
		Rule  int    `json:"rule"`
		Guard string `json:"guard,omitempty"` // of the rule; left out for none
	}
	out := struct {
		Version   int         `json:"version"`
		Cases     []result    `json:"cases"`
		Uncovered []uncovered `json:"uncovered"`
		Mutants   []mutant    `json:"mutants"`
	}{1, []result{}, []uncovered{}, []mutant{}}
	for _, r := range reports {
		for _, c := range r.Results {
			out.Cases = append(out.Cases, result{c.Case.Name, c.Message == "", c.Message})
		}
		for _, u := range r.Uncovered {
			out.Uncovered = append(out.Uncovered, uncovered{u.Target, u.Rule.Index + 1})
		}
		for _, m := range r.Mutants {
			out.Mutants = append(out.Mutants, mutant{m.Case, m.Claim, m.Value, m.Rule.Index + 1, m.Guard})
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	// The runner interprets "##[…]" anywhere in a line. "#" occurs only inside
	// JSON strings.
	return append(bytes.ReplaceAll(text, []byte("##["), []byte(`##\u005b`)), '\n'), err
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	File      string        `xml:"file,attr,omitempty"`
	Line      int           `xml:"line,attr,omitempty"`
	Failure   *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junitOf returns the XML that CI systems show. Rules that no case matches are
// failed cases of their own.
func junitOf(reports []Report) ([]byte, error) {
	var all junitSuites
	for _, r := range reports {
		all.Suites = append(all.Suites, r.suite())
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	text = bytes.ReplaceAll(text, []byte("##["), []byte("##&#91;"))
	return append([]byte(xml.Header), append(text, '\n')...), err
}

func (r Report) suite() junitSuite {
	suite := junitSuite{Name: r.File, Tests: len(r.Results) + len(r.Uncovered)}
	for _, c := range r.Results {
		one := junitCase{Name: c.Case.Name, ClassName: r.File, File: r.File, Line: c.Case.Line}
		if c.Message != "" {
			one.Failure = &junitFailure{c.Message, c.Table}
			suite.Failures++
		}
		suite.Cases = append(suite.Cases, one)
	}
	for _, u := range r.Uncovered {
		suite.Failures++
		suite.Cases = append(suite.Cases, junitCase{Name: "coverage: " + u.String(), ClassName: r.File,
			Failure: &junitFailure{Message: u.Message()}})
	}
	return suite
}

func (u Uncovered) String() string {
	return fmt.Sprintf("target %q, rule %d (line %d)", u.Target, u.Rule.Index+1, u.Rule.Line)
}

// Message says what is missing, and what to do.
func (u Uncovered) Message() string {
	return u.String() + " is matched by no case: add one, or set `coverage: none`"
}

// text returns one line for each case, with a table under those that fail, then
// what is not covered, mutants, and the totals.
func (r Report) text() []byte {
	var b bytes.Buffer
	failed := 0
	for _, c := range r.Results {
		if c.Message == "" {
			fmt.Fprintf(&b, "%s %s\n", explain.Yes, inLine(c.Case.Name))
			continue
		}
		failed++
		fmt.Fprintf(&b, "%s %s (%s:%d): %s\n", explain.No, inLine(c.Case.Name), inLine(r.File), c.Case.Line, c.Message)
		for line := range strings.Lines(c.Table) {
			b.WriteString(strings.TrimRight("    "+line, " \n") + "\n")
		}
	}
	for _, u := range r.Uncovered {
		fmt.Fprintf(&b, "%s %s\n", explain.No, u.Message())
	}
	for _, m := range r.Mutants {
		fmt.Fprintln(&b, m)
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d rules without a case", len(r.Results)-failed, failed, len(r.Uncovered))
	if r.Mutants != nil {
		fmt.Fprintf(&b, ", %d changed tokens still allowed", len(r.Mutants))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// inLine returns a name as it is if it has one line, else quoted.
func inLine(name string) string {
	if strings.ContainsAny(name, "\r\n") {
		return strconv.Quote(name)
	}
	return name
}

func (m Mutant) String() string {
	change := fmt.Sprintf("%s %q", m.Claim, m.Value)
	if m.Value == nil {
		change = "no " + m.Claim
	}
	by := fmt.Sprintf("line %d", m.Rule.Line)
	if m.Guard != "" {
		by += "; guard: " + m.Guard
	}
	return fmt.Sprintf("! %s: with %s it is still allowed, by rule %d (%s)", inLine(m.Case), change, m.Rule.Index+1, by)
}
