package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Script is commands for the owner, in order. They are for bash.
type Script struct {
	// About is for its reader: what it does, who runs it, what it breaks. A
	// script without it is a part of another file.
	About     []string
	Variables []Variable
	Steps     []Step
	// Undo takes the steps back: the owner runs the script again, with the
	// argument undo.
	Undo []Step
	// Late asks for a variable where it is first needed, so that one that is
	// not known does not keep the steps before from being run.
	Late bool
}

// A Variable is what neither the policy nor a flag says: it is set before its
// first use, by the command that finds it.
type Variable struct {
	Name string // UPPER_CASE
	Doc  string
	Find string // a command that prints it, "" for one to fill in by hand
}

// A Step is one or more command lines, and what they are for.
type Step struct {
	Doc string
	Run string
}

// run adds a step.
func (s *Script) run(doc string, lines ...string) {
	s.Steps = append(s.Steps, Step{doc, strings.Join(lines, "\n")})
}

// undo adds a step to what takes the others back.
func (s *Script) undo(doc string, lines ...string) {
	s.Undo = append(s.Undo, Step{doc, strings.Join(lines, "\n")})
}

// add adds the steps of another script.
func (s *Script) add(other Script) {
	for _, v := range other.Variables {
		s.needs(v)
	}
	s.About = append(s.About, other.About...)
	s.Steps = append(s.Steps, other.Steps...)
	s.Undo = append(s.Undo, other.Undo...)
}

// wait adds a step that goes on only when the owner says that something is so.
func (s *Script) wait(doc, question string) {
	s.run(doc, "read -r -p "+quote(oneLine(question)+" Type yes: ")+" answer", `[ "$answer" = yes ]`)
}

// needs adds a variable, once.
func (s *Script) needs(v Variable) shellVar {
	for _, have := range s.Variables {
		if have.Name == v.Name {
			return shellVar(v.Name)
		}
	}
	s.Variables = append(s.Variables, v)
	return shellVar(v.Name)
}

// String returns the script: it stops at the first command that fails. One
// that is about something shows each command before it runs.
func (s Script) String() string {
	var b strings.Builder
	b.WriteString("#!/usr/bin/env bash\n")
	for _, text := range s.About {
		b.WriteString(comments(text))
	}
	if len(s.About) == 0 {
		b.WriteString("set -euo pipefail\n")
	} else {
		b.WriteString("set -Eeuo pipefail\n" +
			`stopped() { echo "Stopped: the last command above failed, and nothing after it was run." >&2; }` + "\ntrap stopped ERR\n")
	}
	if !s.Late {
		s.set(&b, s.Variables)
	}
	if len(s.Undo) > 0 {
		b.WriteString("\nif [ \"${1-}\" = undo ]; then\nset -x\n")
		s.write(&b, s.Undo)
		b.WriteString("\nexit\nfi\n")
	}
	if len(s.About) > 0 {
		b.WriteString("set -v\n")
	}
	s.write(&b, s.Steps)
	return b.String()
}

// write writes steps, and before them what they need and has not been set.
func (s Script) write(b *strings.Builder, steps []Step) {
	set := map[string]bool{}
	for _, step := range steps {
		if s.Late {
			s.set(b, slices.DeleteFunc(slices.Clone(s.Variables), func(v Variable) bool {
				return set[v.Name] || !strings.Contains(step.Run, v.Name)
			}))
			for _, v := range s.Variables {
				set[v.Name] = set[v.Name] || strings.Contains(step.Run, v.Name)
			}
		}
		b.WriteString("\n")
		for line := range strings.Lines(step.Doc) {
			b.WriteString("# " + oneLine(line) + "\n")
		}
		if step.Run != "" {
			b.WriteString(step.Run + "\n")
		}
	}
}

// set writes how variables get their values.
func (s Script) set(b *strings.Builder, variables []Variable) {
	for _, v := range variables {
		fmt.Fprintf(b, "\n# %s\n", oneLine(v.Doc))
		if v.Find != "" {
			fmt.Fprintf(b, "%s=\"${%s:-$(%s)}\"\n", v.Name, v.Name, v.Find)
		} else {
			fmt.Fprintf(b, "%s=\"${%s:?set it to %s}\"\n", v.Name, v.Name, inMessage.Replace(oneLine(v.Doc)))
		}
	}
}

// inMessage takes out what the shell would interpret in "${NAME:?message}".
var inMessage = strings.NewReplacer(`"`, "", "'", "’", "`", "", "$", "", `\`, "", "}", "")

// oneLine keeps a comment from becoming a command.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text))
}

// A shellVar is the name of a variable; command writes it as "$NAME".
type shellVar string

// A shellText is text of the shell that command takes as it is.
type shellText string

var plainWord = lazy.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quote writes a text as one word of a POSIX shell.
func quote(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// command writes a command line of texts, which are quoted, shellVars and shellTexts.
func command(words ...any) string {
	texts := make([]string, len(words))
	for i, w := range words {
		switch w := w.(type) {
		case shellVar:
			texts[i] = `"$` + string(w) + `"`
		case shellText:
			texts[i] = string(w)
		default:
			texts[i] = quote(fmt.Sprint(w))
		}
	}
	return strings.Join(texts, " ")
}

// feed writes a command that reads a text; the text is not interpreted.
func feed(command, text string) string {
	end := "END"
	for strings.Contains(text, end) {
		end += "_"
	}
	return command + " <<'" + end + "'\n" + strings.TrimSuffix(text, "\n") + "\n" + end
}
