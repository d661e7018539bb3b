package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// stepVariables tell the processes of a step from those of the runner: the path
// of a file that GitHub's runner creates for one step (GitHub Docs, Workflow
// commands, Environment files), and the id that Azure Pipelines' agent gives to
// a job, which the agent itself does not have.
var stepVariables = []string{"GITHUB_OUTPUT", "SYSTEM_JOBID"}

// RunnerStream returns the stream on which workflow commands reach the CI runner
// and no other reader: standard error if it leads there, else a stream of the
// step's first process, so that they do not get into what a script pipes into a
// file or another program. It is nil if neither is found; getenv is this
// process's.
//
// The first process is the highest ancestor that has the step's own variable, or
// this process if the step has none. Its pipe is the runner's unless another
// process is seen to read from it, as with `exec > >(tee log)`.
func RunnerStream(getenv func(string) string, stderr io.Writer) io.Writer {
	first, parent := os.Getpid(), os.Getppid()
	for _, name := range stepVariables {
		if value := getenv(name); value != "" {
			first, parent = firstOfStep(name + "=" + value)
			break
		}
	}
	var own os.FileInfo
	if f, ok := stderr.(*os.File); ok {
		own, _ = f.Stat()
	}
	for _, number := range []string{"2", "1"} {
		path := filepath.Join("/proc", strconv.Itoa(first), "fd", number)
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		kind := info.Mode().Type()
		switch {
		case kind&os.ModeCharDevice != 0 && !isTerminalAt(path): // /dev/null, say; a runner may use a terminal
			continue
		case kind == os.ModeNamedPipe && !readBy(path, parent, first == os.Getpid()):
			continue
		case own != nil && os.SameFile(own, info) && !kind.IsRegular():
			return stderr
		case kind == os.ModeNamedPipe, kind&os.ModeCharDevice != 0:
			return &ownLine{path: path}
		}
	}
	return nil
}

// firstOfStep returns the highest ancestor of this process, or this process,
// that was started with the variable, and its parent.
func firstOfStep(variable string) (first, parent int) {
	pid := os.Getpid()
	for range maxAncestors {
		stat, ok := readStat(pid)
		if !ok {
			break
		}
		if pid != os.Getpid() {
			environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
			if err != nil || !bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+variable+"\x00")) {
				break
			}
		}
		first, parent = pid, stat.parent
		pid = stat.parent
	}
	return first, parent
}

// readBy reports whether, as far as can be seen, only the process reads from a
// pipe. A reader in another container, or of another user, is invisible; if
// seen is set, the process must be visible.
func readBy(path string, reader int, seen bool) bool {
	name, err := os.Readlink(path)
	if err != nil {
		return false
	}
	found := reader == 0 // it is outside the container
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != name {
			continue
		}
		const readable = 0o400 // of a link in fd: how the file was opened
		info, err := os.Lstat(link)
		if err != nil || info.Mode().Perm()&readable == 0 {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if pid == reader {
			found = true
		} else if !inheritedBriefly(link, pid, reader) {
			return false
		}
	}
	return found || !seen
}

// inheritedBriefly reports whether a descriptor of process pid is closed by
// now, or will be when the process runs its program: between fork and exec, a
// child of the reader holds all that the reader has open.
func inheritedBriefly(link string, pid, reader int) bool {
	dir, number := filepath.Dir(filepath.Dir(link)), filepath.Base(link)
	text, err := os.ReadFile(filepath.Join(dir, "fdinfo", number)) // proc_pid_fdinfo(5)
	if err != nil {
		_, err = os.Lstat(link)
		return err != nil
	}
	_, flags, _ := strings.Cut(string(text), "flags:\t")
	octal, _, _ := strings.Cut(flags, "\n")
	open, err := strconv.ParseUint(octal, 8, 64)
	if err != nil || open&syscall.O_CLOEXEC == 0 {
		return false
	}
	stat, ok := readStat(pid)
	return !ok || stat.parent == reader
}

// maxAtomic is how much can be written to a pipe without mixing with other
// writers. (pipe(7), PIPE_BUF)
const maxAtomic = 4096

// ownLine writes lines into the pipe of another process. It begins each with a
// line break: the step's programs may be in the middle of a line.
type ownLine struct {
	path string
	mu   sync.Mutex
}

func (w *ownLine) Write(line []byte) (int, error) {
	if len(line)+1 > maxAtomic {
		return 0, errors.New("too long to write to a pipe atomically")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := openStream(w.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write(append([]byte{'\n'}, line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// openStream opens a pipe or a terminal for writing. It neither blocks on a pipe
// without a reader nor makes the terminal this process's own.
func openStream(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

func isTerminalAt(path string) bool {
	f, err := openStream(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return term.IsTerminal(int(f.Fd()))
}
