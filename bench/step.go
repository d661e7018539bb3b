//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A stepCase is a way to start something, as the runner starts a step.
type stepCase struct {
	name   string
	args   []string // the program and its arguments
	again  bool     // in the folders of the run before, as a later step of the same job
	memory []int64
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
	action, err := writeAction(root)
	if err != nil {
		return err
	}
	shim, started := filepath.Join(action, "main.js"), filepath.Join(action, "no-execve.js")
	cases := []stepCase{
		{name: "empty action", args: []string{node, filepath.Join(action, "empty.js")}},
		{name: "binary without node", args: []string{filepath.Join(root, "oidc-dbt")}},
		{name: "step, the first of a job", args: []string{node, shim}},
		{name: "step, a later one", args: []string{node, shim}, again: true},
		{name: "the same, as a child of node", args: []string{node, "--require", started, shim}, again: true},
	}
	env := append(ownRoots(os.Environ()), "ACTIONS_ID_TOKEN_REQUEST_URL="+c.issuerFront.URL+"/token?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN="+c.issuer.RequestToken())
	var job *exec.Cmd
	for i := range runs + 2 {
		for n := range cases {
			s := &cases[n]
			if job == nil || !s.again {
				if job, err = c.action(root, env); err != nil {
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
				s.wall, s.memory = append(s.wall, got.wall), append(s.memory, memory.Load())
			}
		}
	}
	printSteps(cases, node, runs)
	return nil
}

func printSteps(cases []stepCase, node string, runs int) {
	version, err := exec.Command(node, "--version").Output()
	if err != nil {
		version = []byte("of an unknown version")
	}
	fmt.Printf("node %s, %s/%s, %d processors, medians of %d runs in turn\n\n", strings.TrimSpace(string(version)),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runs)
	fmt.Println("| case | whole time | more than an empty action | memory of its processes, at the request for the ID token |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, s := range cases {
		more := make([]time.Duration, runs)
		for i := range more {
			more[i] = s.wall[i] - cases[0].wall[i]
		}
		memory := "-"
		if m := middle(s.memory); m > 0 {
			memory = fmt.Sprintf("%.1f MiB", float64(m)/(1<<20))
		}
		fmt.Printf("| %s | %.1f ms | %+.1f ms | %s |\n", s.name, ms(middle(s.wall)), ms(middle(more)), memory)
	}
}

// writeAction writes the action's folder as a release has it, and an empty action.
func writeAction(root string) (dir string, err error) {
	dir = filepath.Join(root, "_actions", "oidc-dbt")
	system := map[string]string{"linux": "linux", "darwin": "macos"}[runtime.GOOS]
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if err := os.MkdirAll(filepath.Join(dir, "dist"), 0o755); err != nil {
		return "", err
	}
	if err := os.Link(filepath.Join(root, "oidc-dbt"), filepath.Join(dir, "dist", "oidc-dbt-"+system+"-"+arch)); err != nil {
		return "", err
	}
	shim, err := os.ReadFile("main.js")
	if err != nil {
		return "", fmt.Errorf("run this in the repository's root: %w", err)
	}
	for name, text := range map[string]string{"main.js": string(shim), "empty.js": "", "no-execve.js": "delete process.execve;\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
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
