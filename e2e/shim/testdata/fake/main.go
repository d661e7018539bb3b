// Command fake takes the place of the action's binary: it reports how it was started, and ends as FAKE_END says.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	self, _ := os.Executable()
	dir, _ := os.Getwd()
	stdin, _ := io.ReadAll(os.Stdin)
	flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, 1, syscall.F_GETFL, 0)
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"argv0": os.Args[0], "env": os.Environ(), "nonblocking": flags&syscall.O_NONBLOCK != 0,
		"args": os.Args[1:], "executable": self, "dir": dir, "stdin": string(stdin),
		"input": os.Getenv("INPUT_PROJECT-DIR"), "request": os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"), "pid": os.Getpid(),
	})
	fmt.Fprintln(os.Stderr, "to stderr")
	switch end := os.Getenv("FAKE_END"); end {
	case "wait": // for a signal, and end with a status that tells which
		got := make(chan os.Signal, 1)
		signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		fmt.Println("ready")
		select {
		case s := <-got:
			time.Sleep(50 * time.Millisecond) // it has something to clean up: node must wait
			fmt.Println("cleaned up")
			os.Exit(40 + int(s.(syscall.Signal)))
		case <-time.After(10 * time.Minute):
			os.Exit(99)
		}
	case "die": // of a signal that it does not handle
		fmt.Println("ready")
		time.Sleep(10 * time.Minute)
	case "killed": // while its command still runs
		command := exec.Command("sleep", "600")
		command.Stdout = os.Stdout
		if err := command.Start(); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "":
	default:
		status, _ := strconv.Atoi(end)
		os.Exit(status)
	}
}
