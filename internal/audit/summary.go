package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// maxCell limits the length of a cell: the log has the whole text.
const maxCell = 256

// Summary returns the two records as Markdown for the step summary; outcome
// is nil where there is none. Nothing in a claim can leave its cell.
func Summary(decision Record, outcome *Record) string {
	var t table
	fmt.Fprintf(&t, "### oidc-dbt: %s\n\n| | |\n| --- | --- |\n", headline(decision, outcome))
	t.request(decision)
	if outcome == nil {
		outcome = &decision
	}
	t.end(*outcome)
	t.row("Audit id", decision.Metadata.CorrelationUID)
	t.WriteString("\n")
	return t.String()
}

// A table is Markdown that is being written.
type table struct{ strings.Builder }

// row writes a row of two cells, and nothing for an empty value.
func (t *table) row(name, value string) {
	if value != "" {
		fmt.Fprintf(t, "| %s | %s |\n", name, cell(value))
	}
}

// request writes who requested what, and which rule of which policy decided it.
func (t *table) request(decision Record) {
	u := decision.Unmapped
	t.row("Target", u.Target)
	t.row("Provider", decision.Service.Name)
	t.row("Subject", decision.User.Name)
	if decision.Actor.IDP != nil {
		t.row("Issuer", decision.Actor.IDP.Name)
	}
	if a := decision.Actor.User; a != nil {
		t.row("Actor", a.Name)
	}
	t.row("Actor kind", u.ActorKind)
	names := shown
	if u.IdentityKind != "github" && u.IdentityKind != "forgejo" {
		t.row("Identity", u.Identity)
		names = slices.Sorted(maps.Keys(u.Claims))
	}
	for _, name := range names {
		t.row(name, u.Claims[name])
	}
	if u.Rule != nil {
		t.row("Rule", fmt.Sprintf("%d, line %d", u.Rule.Number, u.Rule.Line))
	}
	t.row("Guard", u.Guard)
	t.row("Policy", u.PolicyOrigin)
	t.row("Policy SHA-256", u.PolicySHA256)
}

// end writes the result of the request: a credential or an error.
func (t *table) end(last Record) {
	t.row("Credential", last.Unmapped.Kind)
	if s := last.Session; s != nil {
		t.row("Issued for", s.UID)
		if s.ExpirationTime != 0 {
			t.row("Expires", time.UnixMilli(s.ExpirationTime).UTC().Format(time.RFC3339))
		}
		t.row("SHA-256", s.CredentialUID)
	}
	t.row("Error class", last.StatusCode)
	t.row("Error", last.StatusDetail)
}

// maxFailure limits an error in the summary: the step's log has the whole text.
const maxFailure = 16 << 10

// Failure returns, as Markdown for the step summary, the error of a run that
// ended before its audit log was open.
func Failure(err error, hint string) string {
	text := err.Error()
	if hint != "" {
		text += "\nhint: " + hint
	}
	text = token.ReplaceAllLiteralString(strings.ToValidUTF8(text, "\uFFFD"), "[secret]")
	if len(text) > maxFailure {
		text = strings.ToValidUTF8(text[:maxFailure], "") + "…"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### oidc-dbt: failed\n\n| | |\n| --- | --- |\n| Error class | %s |\n\n<pre>", cell(fault.ClassOf(err).String()))
	for _, r := range text {
		switch r {
		case '\n':
			b.WriteString("&#10;") // an empty line would end the block
		case '\t':
			b.WriteByte(' ')
		default:
			escape(&b, r)
		}
	}
	b.WriteString("</pre>\n\n")
	return b.String()
}

// shown are the recorded claims of GitHub's tokens that a reader of the summary wants.
var shown = []string{"repository", "run_id", "run_attempt", "event_name", "environment", "ref", "workflow_ref", "job_workflow_ref"}

// headline contains only fixed words. A request without a decision has only
// an outcome.
func headline(decision Record, outcome *Record) string {
	word := decision.Unmapped.Decision
	if word == "" {
		word = decision.Unmapped.Outcome
	}
	if outcome != nil && outcome.Unmapped.Outcome != "issued" {
		word += ", " + outcome.Unmapped.Outcome
	}
	return word
}

// plain are the characters, other than letters and digits, that have no meaning in
// HTML, Markdown or GitHub's own filters (links, mentions, emoji) inside a code element.
const plain = " .,/=-"

// Cell returns s as one cell of a Markdown table, in which nothing of it has a meaning.
func Cell(s string) string { return cell(s) }

// cell returns s as one cell of a Markdown table. Characters that could have a
// meaning are escaped; invisible ones are made visible.
func cell(s string) string {
	if s == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("<code>")
	n := 0
	for _, r := range s {
		if n++; n > maxCell {
			b.WriteString("…")
			break
		}
		if r == '\n' || r == '\r' {
			b.WriteString("↵")
		} else {
			escape(&b, r)
		}
	}
	b.WriteString("</code>")
	return b.String()
}

func escape(b *strings.Builder, r rune) {
	switch {
	case r == utf8.RuneError, !unicode.IsPrint(r): // control characters, and those that turn text round
		b.WriteString("\uFFFD")
	case r > unicode.MaxASCII, r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(plain, r):
		b.WriteRune(r)
	default:
		fmt.Fprintf(b, "&#%d;", r)
	}
}
