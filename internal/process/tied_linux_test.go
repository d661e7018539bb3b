package process_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"
)

// TestTheCommandEndsWithAKilledParent: without the parent its credential is not renewed.
func TestTheCommandEndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	c := self(t, "parent", nil, nil)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	parent := &exec.Cmd{Path: c.Args[0], Args: c.Args, Env: c.Env, Stdout: in}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the command says %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	rest, err := io.ReadAll(lines) // the pipe's end is the command's
	if want := "stopped by signal: terminated"; err != nil || string(rest) != want {
		t.Errorf("the command says %q, %v, want %q", rest, err, want)
	}
}
