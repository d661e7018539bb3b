package review

import (
	"crypto/sha256"
	_ "embed" // the page's style and script
	"encoding/base64"
	"fmt"
	"html"
	"strconv"
	"strings"
)

//go:embed access.css
var accessStyle string

//go:embed access.js
var accessScript string

// accessHTML is one file that asks for nothing: its policy admits only its own
// style and script, by their hashes, so that no text can become either. Every
// value goes through text, and is only ever between tags or in quotes.
func accessHTML(a Access) (string, error) {
	var p htmlPage
	p.head(a)
	p.filter(a)
	p.raw(`<div class="wide" role="region" aria-labelledby="population" tabindex="0">
<table id="lines">
<caption id="population">The population: each rule of the policy, and what the records say of it</caption>
<thead><tr>`)
	for _, heading := range []string{"Rule", "Matches", "Gives", "Added", "Changed", "Decisions", "Denials", "Credentials",
		"Statements denied", "Last use", "Notes", "Trust reviewed", "Review"} {
		p.raw("<th scope=\"col\">", heading, "</th>")
	}
	p.raw("</tr></thead>\n<tbody>\n")
	for i, l := range a.Lines {
		p.line(i, l)
	}
	p.raw("</tbody>\n</table>\n</div>\n")
	p.raw("<section aria-labelledby=\"source\">\n<h2 id=\"source\">What this is made of</h2>\n<table class=\"facts\">\n<tbody>\n")
	for _, f := range a.footer() {
		p.raw(`<tr><th scope="row">`)
		p.text(strings.ReplaceAll(f[0], "_", " "))
		p.raw("</th><td>")
		p.text(f[1])
		p.raw("</td></tr>\n")
	}
	p.raw("</tbody>\n</table>\n</section>\n</main>\n<script>", accessScript, "</script>\n</body>\n</html>\n")
	return p.String(), nil
}

// hashed is how a Content-Security-Policy names a text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// An htmlPage is HTML that is being written.
type htmlPage struct{ strings.Builder }

// raw writes HTML of ours.
func (p *htmlPage) raw(parts ...string) {
	for _, s := range parts {
		p.WriteString(s)
	}
}

// text writes a value, in which nothing has a meaning.
func (p *htmlPage) text(s string) { p.WriteString(html.EscapeString(printableWhole(s))) }

func (p *htmlPage) head(a Access) {
	p.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
		`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src `, hashed(accessStyle),
		"; script-src ", hashed(accessScript), "; base-uri 'none'; form-action 'none'\">\n",
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
		"<title>Access review ", a.Period.String(), "</title>\n<style>", accessStyle, "</style>\n</head>\n<body>\n<header>\n",
		"<h1>Access review</h1>\n<p>Who may have a credential for dbt, ", a.Period.String(), ". Made ", instant(a.Now),
		". <strong>", a.summary(), "</strong></p>\n</header>\n<main>\n")
}

// filter is hidden until the script can use it.
func (p *htmlPage) filter(a Access) {
	p.raw(`<form id="filter" role="search" aria-label="Rules" hidden>
<label>Words <input type="search" id="words" autocomplete="off"></label>
<fieldset><legend>Only those that are</legend>
`)
	for _, box := range [][2]string{
		{"unused", "unused"}, {"wide", "wide"}, {"user", "users without a rule"}, {"undecided", "without a decision"},
	} {
		if box[0] == "unused" && !a.WithRecords || box[0] == "user" && !a.WithUsers {
			continue
		}
		p.raw(`<label><input type="checkbox" value="`, box[0], `"> `, box[1], "</label>\n")
	}
	p.raw("</fieldset>\n<p id=\"shown\" role=\"status\"></p>\n</form>\n")
}

// flags are what the boxes of the filter look for.
func (l Line) flags() string {
	var list []string
	for _, f := range []struct {
		is   bool
		name string
	}{{l.Unused(), "unused"}, {l.Wide, "wide"}, {l.Kind == lineUser, "user"}, {l.Decision.Decision == "", "undecided"}} {
		if f.is {
			list = append(list, f.name)
		}
	}
	return strings.Join(list, " ")
}

func (p *htmlPage) line(rank int, l Line) {
	p.raw(`<tr data-flags="`, l.flags(), `"><th scope="row" data-sort="`, strconv.Itoa(rank), `">`)
	p.text(l.title())
	p.raw("</th>\n<td>")
	p.pairs(l.conditions())
	p.raw("</td>\n<td>")
	p.pairs(l.gets())
	p.raw("</td>\n")
	p.change(l.Added)
	p.change(l.Changed)
	for _, n := range []int{l.Use.Decisions, l.Use.Denials, l.Use.Uses} {
		p.raw(`<td class="number">`, l.counted(n), "</td>")
	}
	p.raw(`<td class="number">`, l.stopped(), "</td>")
	p.raw("\n<td>", instant(l.Use.Last), "</td><td>")
	if notes := l.notes(); len(notes) > 0 {
		p.raw("<ul><li>", strings.Join(notes, "</li><li>"), "</li></ul>")
	}
	p.raw("</td><td>", dateOrNothing(l.Reviewed), "</td>\n<td>")
	if d := l.Decision; d.Decision == "" {
		p.raw(`<span class="blank">no decision</span>`)
	} else {
		p.text(fmt.Sprintf("%s by %s on %s", d.Decision, d.Reviewer, d.On))
		if d.Comment != "" {
			p.text(": " + d.Comment)
		}
	}
	p.raw("</td></tr>\n")
}

func (p *htmlPage) pairs(list [][2]string) {
	if len(list) == 0 {
		return
	}
	p.raw("<dl>")
	for _, pair := range list {
		p.raw("<div><dt>")
		p.text(pair[0])
		p.raw("</dt><dd>")
		p.text(pair[1])
		p.raw("</dd></div>")
	}
	p.raw("</dl>")
}

func (p *htmlPage) change(c Change) {
	p.raw(`<td data-sort="`, dateOrNothing(c.Time), `">`)
	switch {
	case c.Unknown != "":
		p.text("unknown: " + c.Unknown)
	case c.Commit != "":
		p.text(date(c.Time) + " by " + c.Author + " in ")
		p.raw("<code>")
		p.text(short(c.Commit))
		p.raw("</code>")
		if text := c.Merge.text(); text != "" {
			p.raw("<div>")
			p.text(text)
			p.raw("</div>")
		}
	}
	p.raw("</td>\n")
}

// summary is the page's first sentence.
func (a Access) summary() string {
	var rules, unused, wide, users, undecided int
	add := func(is bool, to *int) {
		if is {
			*to++
		}
	}
	for _, l := range a.Lines {
		add(l.Kind == lineAllow || l.Kind == lineDeny, &rules)
		add(l.Unused(), &unused)
		add(l.Wide, &wide)
		add(l.Kind == lineUser, &users)
		add(l.Decision.Decision == "", &undecided)
	}
	parts := []string{count(rules, "rule")}
	if a.WithRecords {
		parts = append(parts, strconv.Itoa(unused)+" unused")
	}
	parts = append(parts, strconv.Itoa(wide)+" wide")
	if a.WithUsers {
		parts = append(parts, count(users, "user")+" of the warehouse without a rule")
	}
	return strings.Join(append(parts, strconv.Itoa(undecided)+" without a decision"), ", ") + "."
}
