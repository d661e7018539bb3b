//go:build unix

package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// TestFilesThatAreNotRegular: a pipe without a reader is refused, rather than
// blocked on, before the first secret and at each write.
func TestFilesThatAreNotRegular(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STATE", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"} {
		s := newStep(t, nil)
		pipe := filepath.Join(s.dir, "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(s.dir, "link")
		if err := os.Symlink(pipe, link); err != nil {
			t.Fatal(err)
		}
		for path, what := range map[string]string{pipe: "a named pipe", link: "a named pipe", "/dev/null": "a device", s.dir: "a directory"} {
			s.vars[variable] = path
			want := fmt.Sprintf("write to the runner: %s: open %s: is %s, want a regular file", variable, path, what)
			direct := fmt.Sprintf("write to the runner: %s is %s, want a regular file", variable, what)
			if variable == "GITHUB_STEP_SUMMARY" {
				want = direct
			}
			check(t, s.Writable(), want, fault.Internal)
			v := secret.New("hunter2hunter2")
			check(t, s.Mask(v), "", 0)
			for _, err := range map[string][]error{
				"GITHUB_OUTPUT":       {s.SetOutput("a", "b"), s.SetSecretOutput("a", v)},
				"GITHUB_ENV":          {s.SetEnv("A", "b"), s.SetSecretEnv("A", v)},
				"GITHUB_STATE":        {s.SaveState("a", "b")},
				"GITHUB_PATH":         {s.AddPath("/bin")},
				"GITHUB_STEP_SUMMARY": {s.Summary("a")},
			}[variable] {
				check(t, err, direct, fault.Internal)
			}
		}
	}
}

// TestEventThatIsNotAFile: it only affects the text of an error.
func TestEventThatIsNotAFile(t *testing.T) {
	t.Parallel()
	s := newStep(t, nil)
	pipe := filepath.Join(s.dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", s.dir, ""} {
		s.vars["GITHUB_ACTIONS"], s.vars["GITHUB_EVENT_NAME"], s.vars["GITHUB_EVENT_PATH"] = "true", "pull_request", path
		_, err := s.IDToken(t.Context(), "aud")
		check(t, err, "request ID token: the job has no permission to request one (ACTIONS_ID_TOKEN_REQUEST_URL is not set)", fault.NoIdentity)
	}
}
