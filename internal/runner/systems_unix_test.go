//go:build unix

package runner_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// TestSaidBySystem: messages as each system's log understands them, and text
// from outside that means nothing to it.
func TestSaidBySystem(t *testing.T) {
	t.Parallel()
	const attack = "got \"a ##vso[task.setvariable variable=PATH]/evil\"\n##VSO[task.complete result=Succeeded]\n::add-mask::x\n##[section]y"
	const broken = "got \"a ##\u200bvso[task.setvariable variable=PATH]/evil\"\n##\u200bVSO[task.complete result=Succeeded]\n:\u200b:add-mask::x\n##\u200b[section]y"
	type texts struct{ said, warned, failed, attacked string }
	plain := texts{
		said:     "oidc-dbt: allowed: target prod",
		warned:   "oidc-dbt: warning: 100% of it",
		failed:   "oidc-dbt: denied by policy: no rule\n  rule 1 (line 3)",
		attacked: "oidc-dbt: " + broken,
	}
	for kind, want := range map[string]texts{
		"azure_pipelines": {
			said:     "oidc-dbt: allowed: target prod",
			warned:   "##vso[task.logissue type=warning]oidc-dbt: 100%AZP25 of it",
			failed:   "##vso[task.logissue type=error]oidc-dbt: denied by policy: no rule\n  rule 1 (line 3)",
			attacked: "##vso[task.logissue type=error]oidc-dbt: " + broken,
		},
		"buildkite": {
			said:     "oidc-dbt: allowed: target prod",
			warned:   "oidc-dbt: warning: 100% of it",
			failed:   "^^^ +++\noidc-dbt: denied by policy: no rule\n  rule 1 (line 3)",
			attacked: "^^^ +++\noidc-dbt: " + broken,
		},
		"gitlab":    plain,
		"circleci":  plain,
		"bitbucket": plain,
		"github":    plain,
		"forgejo":   plain,
		"unknown":   plain,
		"":          plain,
	} {
		for _, tt := range []struct{ got, want string }{
			{runner.Said(kind, "allowed: target prod"), want.said},
			{runner.Said(kind, "warning: 100% of it"), want.warned},
			{runner.Failed(kind, "denied by policy: no rule\n  rule 1 (line 3)"), want.failed},
			{runner.Failed(kind, attack), want.attacked},
		} {
			if tt.got != tt.want {
				t.Errorf("%s: got %q, want %q", kind, tt.got, tt.want)
			}
		}
	}
	for _, tt := range []struct{ got, want string }{
		{runner.Said("buildkite", "a\n--- group\n+++ open\n~~~ grey\n^^^ +++"), "oidc-dbt: a\n\u200b--- group\n\u200b+++ open\n\u200b~~~ grey\n\u200b^^^ +++"},
		{runner.Said("buildkite", "\x1b]1338;url=https://evil.example\a"), "oidc-dbt: \uFFFD]1338;url=https://evil.example\uFFFD"},
		{runner.Said("gitlab", "\x1b[0Ksection_start:1:a[collapsed=true]\r\x1b[0Kb"), "oidc-dbt: \uFFFD[0Ksection_start:1:a[collapsed=true]\uFFFD\uFFFD[0Kb"},
		{runner.Said("azure_pipelines", "warning: a\r\n##vso[task.setsecret]x"), "##vso[task.logissue type=warning]oidc-dbt: a\uFFFD\n##\u200bvso[task.setsecret]x"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// TestMasksBySystem: each system that can hide a secret gets it, and only there.
func TestMasksBySystem(t *testing.T) {
	t.Parallel()
	mask := func(kind string, environ []string, texts ...string) (out string, err error) {
		var b bytes.Buffer
		m := runner.NewMasker(kind, func() io.Writer { return &b }, environ)
		if m == nil {
			return "", errors.New("none")
		}
		for _, text := range texts {
			err = errors.Join(err, m.Mask(t.Context(), secret.New(text)))
		}
		return b.String(), err
	}
	words := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	agent, held := redactor(t, 0)
	broken, _ := redactor(t, 1)
	for _, tt := range []struct {
		name, kind string
		environ    []string
		text       string
		out, err   string
	}{
		{"Azure Pipelines", "azure_pipelines", nil, "hunter2-secret", "##vso[task.setsecret]hunter2-secret\n", ""},
		{"Azure Pipelines, with what its agent decodes", "azure_pipelines", nil, "a%3Bb", "##vso[task.setsecret]a%AZP253Bb\n##vso[task.setsecret]a%3Bb\n", ""},
		{"Azure Pipelines, two lines", "azure_pipelines", nil, "a\n##vso[task.complete]", "", "write mask: contains a line break or NUL"},
		{"Buildkite", "buildkite", agent, "hunter2-secret", "", ""},
		{"Buildkite without the program", "buildkite", []string{"PATH=" + t.TempDir()}, "a", "", "the program buildkite-agent is not on PATH"},
		{"Buildkite by a relative PATH", "buildkite", []string{"PATH=."}, "a", "", "the program buildkite-agent is not on PATH"},
		{"Buildkite before 3.67", "buildkite", broken, "a", "", "the program buildkite-agent has failed"},
		{"GitLab", "gitlab", nil, "a", "", "none"},
		{"CircleCI", "circleci", nil, "a", "", "none"},
		{"Bitbucket", "bitbucket", nil, "a", "", "none"},
		{"no CI", "", nil, "a", "", "none"},
	} {
		out, err := mask(tt.kind, tt.environ, tt.text)
		if out != tt.out || words(err) != tt.err {
			t.Errorf("%s: printed %q, %v, want %q, %s", tt.name, out, err, tt.out, tt.err)
		}
	}
	got, err := os.ReadFile(held)
	if err != nil || string(got) != "redactor add\nhunter2-secret" {
		t.Errorf("the agent was given %q, %v", got, err)
	}
	none := runner.NewMasker("azure_pipelines", func() io.Writer { return nil }, nil)
	if err := none.Mask(t.Context(), secret.New("a")); !errors.Is(err, runner.ErrNoStream) {
		t.Errorf("without a stream the error is %v", err)
	}
	if err := none.Mask(t.Context(), secret.Value{}); err != nil {
		t.Errorf("nothing to mask: %v", err)
	}
}

// redactor returns an environment in which buildkite-agent notes its arguments
// and what it reads in a file, and ends with the status.
func redactor(t *testing.T, status int) (environ []string, held string) {
	t.Helper()
	dir := t.TempDir()
	held = filepath.Join(dir, "held")
	script := fmt.Sprintf("#!/bin/sh\n{ echo \"$@\"; cat; } >\"$HELD\"\nexit %d\n", status)
	if err := os.WriteFile(filepath.Join(dir, "buildkite-agent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"HELD=" + held, "PATH=" + dir + string(filepath.ListSeparator) + os.Getenv("PATH")}, held
}
