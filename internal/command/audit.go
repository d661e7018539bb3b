package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

const (
	flagSince   = "since"
	flagUntil   = "until"
	flagPackage = "package"
)

// auditCommand is `oidc-dbt audit`: what is done with audit records.
func auditCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return group(&cli.Command{
		Name:        "audit",
		Usage:       "read audit records: show runs, verify that nothing is missing, and make access reviews",
		Description: "Example:\n\n    oidc-dbt audit show --since 7d audit.jsonl",
		Commands: []*cli.Command{
			auditShowCommand(env, inActions, end), auditVerifyCommand(env, inActions, end), auditReviewCommand(env, inActions, end),
		},
	}, end)
}

// recordPaths are the files and folders that a command reads.
func recordPaths(c *cli.Command) ([]string, error) {
	paths := c.Args().Slice()
	if len(paths) == 0 {
		return nil, fault.New(fault.Usage,
			errors.New("no PATH given: want files or folders of audit records, a bucket's URL, or - for standard input"),
			"`audit-log` says where a run appends them: `oidc-dbt exec --help` has the default")
	}
	stdin := 0
	for _, p := range paths {
		if p == auditlog.StandardInput {
			stdin++
		}
	}
	if stdin > 1 {
		return nil, fault.New(fault.Usage, errors.New("standard input is given twice"), "")
	}
	return paths, nil
}

// parseMoment reads a day, a time, or how long ago it was.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if len(text) > 1 {
		unit := units[text[len(text)-1:]]
		if n, err := strconv.ParseUint(text[:len(text)-1], 10, 20); err == nil && unit > 0 {
			return now.Add(-time.Duration(n) * unit).UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("got %q, want a day such as 2026-11-02, a time such as 2026-11-02T12:00:00Z, "+
		"or how long ago, such as 24h or 7d", text)
}

// jsonLine returns v as one line of JSON that is inert where it is printed: no
// text in it is a command of a CI system's log or of a terminal.
func jsonLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return inertJSON(b.Bytes()), nil
}

// inertJSON escapes characters of JSON's strings: those that move a terminal's
// cursor, and the second of two # that begin a command of a runner.
func inertJSON(text []byte) []byte {
	var out bytes.Buffer
	before := ' '
	for _, c := range string(text) {
		if c == '#' && before == '#' || c != '\n' && moves(c) {
			fmt.Fprintf(&out, `\u%04x`, c)
			before = ' '
			continue
		}
		before = c
		out.WriteRune(c)
	}
	return out.Bytes()
}

// moves reports whether a character moves a terminal's cursor, or ends a line.
func moves(c rune) bool {
	return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029'
}

// maxCell is how much of a text a cell of a table shows: --json has all of it.
const maxCell = 64

// cell returns a text as one cell: on one line, and not endless.
func cell(text string) string {
	text = strings.Map(func(c rune) rune {
		if moves(c) {
			return '\uFFFD'
		}
		return c
	}, text)
	if runes := []rune(text); len(runes) > maxCell {
		text = string(runes[:maxCell-1]) + "…"
	}
	if text == "" {
		return "-"
	}
	return text
}
