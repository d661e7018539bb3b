//go:build unix

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A stepCase is a way to start something, as the runner starts a step.
type stepCase struct {
	name   string
	args   []string // the program and its arguments
	again  bool     // in the folders of the run before, as a later step of the same job
	memory []int64  // of all processes, at the request for the ID token
	peak   []int64  // of the largest process
	wall   []time.Duration
}

// steps measures a whole step, with node and the shim, in one run with an empty
// action and with the binary without node.
func steps(root, node string, runs int) error {
	c, err := startCase(root, "aws", 0)
	if err != nil {
		return err
	}
	defer c.close()
	var memory atomic.Int64
	c.asked = func(r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/token") {
			memory.Store(descendants(os.Getpid()))
		}
	}
	cases, err := stepCases(root, node)
	if err != nil {
		return err
	}
	env := c.environment()
	folders := filepath.Join(root, "job") // of a job
	var job *exec.Cmd
	for i := range runs + 2 {
		for n := range cases {
			s := &cases[n]
			if job == nil || !s.again {
				if err := errors.Join(os.RemoveAll(folders), os.Mkdir(folders, 0o755)); err != nil {
					return err
				}
				if job, err = c.action(folders, filepath.Join(root, "oidc-dbt"), env); err != nil {
					return err
				}
			}
			cmd := exec.Command(s.args[0], s.args[1:]...)
			cmd.Dir, cmd.Env = job.Dir, job.Env
			memory.Store(0)
			got, err := c.run(cmd)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if i >= 2 { // two runs warm the caches
				s.wall, s.memory, s.peak = append(s.wall, got.wall), append(s.memory, memory.Load()), append(s.peak, got.memory)
			}
		}
	}
	printSteps(cases, node, runs)
	return nil
}

// stepCases writes the action's folder as a release has it, with the binary as it is and packed.
func stepCases(root, node string) ([]stepCase, error) {
	raw, err := writeAction(filepath.Join(root, "_actions", "raw"))
	if err != nil {
		return nil, err
	}
	packed, err := writeAction(filepath.Join(root, "_actions", "packed"))
	if err != nil {
		return nil, err
	}
	binary, name := filepath.Join(root, "oidc-dbt"), filepath.Join("dist", distName())
	if err := os.Link(binary, filepath.Join(raw, name)); err != nil {
		return nil, err
	}
	if err := pack(node, binary, filepath.Join(packed, name+".zst")); err != nil {
		return nil, err
	}
	shim, packedShim := filepath.Join(raw, "main.js"), filepath.Join(packed, "main.js")
	child := []string{node, "--require", filepath.Join(raw, "no-execve.js"), shim}
	return []stepCase{
		{name: "empty action", args: []string{node, filepath.Join(raw, "empty.js")}},
		{name: "binary without node", args: []string{binary}},
		{name: "step, the first of a job", args: []string{node, shim}},
		{name: "step, a later one", args: []string{node, shim}, again: true},
		{name: "the same, as a child of node", args: child, again: true},
		{name: "step with a packed binary, the first of a job", args: []string{node, packedShim}},
		{name: "step with a packed binary, a later one", args: []string{node, packedShim}, again: true},
	}, nil
}

func printSteps(cases []stepCase, node string, runs int) {
	version, err := exec.Command(node, "--version").Output()
	if err != nil {
		version = []byte("of an unknown version")
	}
	fmt.Printf("node %s, %s/%s, %d processors, medians of %d runs in turn\n\n", strings.TrimSpace(string(version)),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runs)
	fmt.Println("| case | whole time | more than an empty action | memory at the request for the ID token | peak memory |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, s := range cases {
		more := make([]time.Duration, runs)
		for i := range more {
			more[i] = s.wall[i] - cases[0].wall[i]
		}
		fmt.Printf("| %s | %.1f ms | %+.1f ms | %s | %s |\n", s.name, ms(middle(s.wall)), ms(middle(more)),
			mebibytes(int64(middle(s.memory)), 0), mebibytes(int64(middle(s.peak)), ownPeak()))
	}
}

// mebibytes prints an amount of memory that is more than what cannot be told from nothing.
func mebibytes(n, nothing int64) string {
	if n <= nothing {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// ownPeak is this process's own peak memory: the kernel takes it for a child's too, if the child's is less.
func ownPeak() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return peakOf(&usage)
}

// writeAction writes the action's folder as a release has it, without a binary, and an empty action.
func writeAction(dir string) (string, error) {
	if err := os.MkdirAll(filepath.Join(dir, "dist"), 0o755); err != nil {
		return "", err
	}
	shim, err := os.ReadFile("main.js")
	if err != nil {
		return "", fmt.Errorf("run this in the repository's root: %w", err)
	}
	files := map[string]string{"main.js": string(shim), "empty.js": "", "no-execve.js": "delete process.execve;\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// distName is what the binary of this platform is called in dist.
func distName() string {
	system := map[string]string{"linux": "linux", "darwin": "macos"}[runtime.GOOS]
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	return "oidc-dbt-" + system + "-" + arch
}

// pack packs the binary with node's own zstd, and writes SHA256SUMS next to it.
func pack(node, binary, packed string) error {
	const script = `const fs = require('node:fs'), zlib = require('node:zlib'), [binary, packed] = process.argv.slice(1);
		const params = {[zlib.constants.ZSTD_c_compressionLevel]: 19};
		fs.writeFileSync(packed, zlib.zstdCompressSync(fs.readFileSync(binary), {params}));`
	if out, err := exec.Command(node, "-e", script, binary, packed).CombinedOutput(); err != nil {
		return fmt.Errorf("pack the binary: %w\n%s", err, out)
	}
	file, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	sums := fmt.Sprintf("%x  oidc-dbt-%s-%s\n", hash.Sum(nil), runtime.GOOS, runtime.GOARCH)
	return os.WriteFile(filepath.Join(filepath.Dir(packed), "SHA256SUMS"), []byte(sums), 0o644)
}

// descendants returns the resident memory of a process's descendants, in bytes;
// it is 0 where there is no /proc.
func descendants(pid int) (bytes int64) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		for child := range strings.FieldsSeq(string(text)) {
			statm, _ := os.ReadFile("/proc/" + child + "/statm") // proc_pid_statm(5)
			if fields := strings.Fields(string(statm)); len(fields) > 1 {
				pages, _ := strconv.ParseInt(fields[1], 10, 64)
				bytes += pages * int64(os.Getpagesize())
			}
			id, _ := strconv.Atoi(child)
			bytes += descendants(id)
		}
	}
	return bytes
}
