package process_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// TestRunnerStream: a pipe that another process reads is not the runner's. A
// child of the runner that only has not run its program yet does not read it.
func TestRunnerStream(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reader string // the other process
		want   string
	}{
		"the runner only":             {"", "for the runner"},
		"a child that is starting":    {"closes it on exec", "for the runner"},
		"a program that got the pipe": {"keeps it", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			switch tt.reader {
			case "closes it on exec":
				hold(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), out.Fd()))
			case "keeps it":
				hold(t, "", out)
			}
			c := self(t, "stream", nil, nil)
			env := append(c.Env, "GITHUB_OUTPUT="+t.TempDir())
			cmd := &exec.Cmd{Path: c.Args[0], Args: c.Args, Env: env, Stdout: in, Stderr: in}
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			in.Close()
			if got, err := io.ReadAll(out); err != nil || string(got) != tt.want {
				t.Errorf("the runner reads %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// hold starts a process that has files open, and a pipe that closes on exec,
// until the test ends.
func hold(t *testing.T, pipe string, files ...*os.File) {
	t.Helper()
	c := self(t, "hold", nil, nil)
	cmd := &exec.Cmd{Path: c.Args[0], Args: c.Args, Env: append(c.Env, "PROCESS_TEST_PIPE="+pipe), ExtraFiles: files}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
}
