package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A language is what the log of a CI system other than GitHub's understands.
// What a row leaves out, its system does not have.
type language struct {
	warning, failure func(line string) string // the first line of a message, as the system shows it
	plain            func(text string) string // further text, without commands of the system's own
	mask             func(text string) []string
	redactor         []string // a program that has the system hide what it reads
}

// languages are those of kinds of identities. GitLab, CircleCI and Bitbucket
// hide only what their settings name before the job starts, and annotate nothing.
// (Azure Pipelines: Logging commands; Buildkite: Managing log output, agent
// CLI redactor)
var languages = map[string]language{
	"azure_pipelines": {
		warning: azureIssue("warning"),
		failure: azureIssue("error"),
		mask: func(text string) []string {
			lines := []string{azure(text, "task.setsecret")}
			if strings.Contains(text, "%") { // an agent before version 2.181 does not decode
				lines = append(lines, "##vso[task.setsecret]"+text)
			}
			return lines
		},
	},
	"buildkite": {
		failure:  func(line string) string { return "^^^ +++\n" + line }, // opens the group that it is in
		plain:    unfolded,
		redactor: []string{"buildkite-agent", "redactor", "add"},
	},
}

// azure returns a logging command of Azure Pipelines.
func azure(text string, command ...string) string {
	return "##vso[" + strings.Join(command, " ") + "]" + strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A").Replace(text)
}

// azureIssue returns what makes a line an issue of the run.
func azureIssue(level string) func(string) string {
	return func(line string) string { return azure(line, "task.logissue", "type="+level) }
}

// unfolded keeps lines from opening or closing a group of Buildkite's log.
func unfolded(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		for _, mark := range []string{"---", "+++", "~~~", "^^^"} {
			if strings.HasPrefix(line, mark) {
				lines[i] = "\u200b" + line
			}
		}
	}
	return strings.Join(lines, "\n")
}

const warningPrefix = "warning: "

// Said returns a message, whose warnings begin with `warning: `, as the log of a
// kind's system shows it; no text in it becomes a command of that system.
func Said(kind, text string) string {
	l := languages[kind]
	if rest, ok := strings.CutPrefix(text, warningPrefix); ok && l.warning != nil {
		return l.line(l.warning, rest)
	}
	return l.line(nil, text)
}

// Failed is Said for what ends a command.
func Failed(kind, text string) string {
	l := languages[kind]
	return l.line(l.failure, text)
}

func (l language) line(form func(string) string, text string) string {
	text = Printable("oidc-dbt: " + text)
	if l.plain != nil {
		text = l.plain(text)
	}
	if form == nil {
		return text
	}
	first, rest, more := strings.Cut(text, "\n")
	if more {
		rest = "\n" + rest
	}
	return form(first) + rest
}

// A Masker has the system of a job hide secrets in its log.
type Masker struct {
	language language
	stream   func() io.Writer
	environ  []string
}

// NewMasker returns the Masker of a kind's system, nil where it cannot hide
// anything while a job runs. stream finds what leads to the system and to nothing
// else, nil for none; environ is this process's.
func NewMasker(kind string, stream func() io.Writer, environ []string) *Masker {
	l := languages[kind]
	if l.mask == nil && l.redactor == nil {
		return nil
	}
	return &Masker{l, stream, environ}
}

// maskLimit bounds the time that a system's program takes: it asks an agent of this machine.
const maskLimit = 10 * time.Second

// Mask hides a secret from now on.
func (m *Masker) Mask(ctx context.Context, v secret.Value) error {
	if v.IsZero() {
		return nil
	}
	if err := oneLine("mask", v.Reveal()); err != nil {
		return err
	}
	if m.language.redactor != nil {
		return m.redact(ctx, v)
	}
	out := m.stream()
	if out == nil {
		return ErrNoStream
	}
	if _, err := io.WriteString(out, strings.Join(m.language.mask(v.Reveal()), "\n")+"\n"); err != nil {
		return ErrNoStream
	}
	return nil
}

// ErrNoStream is why a mask would reach others than the runner.
var ErrNoStream = errors.New("no stream was found that only the runner reads")

// find returns a program's path by the PATH of environ, "" for none.
func find(environ []string, name string) string {
	for _, v := range environ {
		variable, list, _ := strings.Cut(v, "=")
		if !strings.EqualFold(variable, "PATH") {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(dir) {
				return path
			}
		}
	}
	return ""
}

// redact gives the secret to a program on its standard input: every process
// of this machine can read arguments.
func (m *Masker) redact(ctx context.Context, v secret.Value) error {
	args := m.language.redactor
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maskLimit)
	defer cancel()
	program := find(m.environ, args[0])
	if program == "" {
		return fmt.Errorf("the program %s is not on PATH", args[0])
	}
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Env, cmd.Stdin, cmd.WaitDelay = m.environ, strings.NewReader(v.Reveal()), 5*time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the program %s has failed", args[0])
	}
	return nil
}
