package process

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"time"
)

// workerName is that of the runner's process for one job. (actions/runner, src/Runner.Worker)
const workerName = "Runner.Worker"

// workerLook is the interval at which the worker is checked.
const workerLook = 2 * time.Second

// maxAncestors bounds the search: the step, node, the worker, and wrappers in between.
const maxAncestors = 16

// WorkerGone returns a channel that is closed when the runner's worker, an
// ancestor of this process, has ended. A worker that is killed cleans up
// nothing. The channel is nil if there is no visible worker, as in a container.
func WorkerGone(ctx context.Context) <-chan struct{} {
	pid := os.Getppid()
	var worker procStat
	for range maxAncestors {
		stat, ok := readStat(pid)
		if !ok {
			return nil
		}
		if stat.name == workerName {
			worker = stat
			break
		}
		pid = stat.parent
	}
	if worker.name == "" {
		return nil
	}
	gone := make(chan struct{})
	go func() {
		for {
			// The same PID with another start time is another process.
			if now, ok := readStat(pid); !ok || now.start != worker.start {
				close(gone)
				return
			}
			select {
			case <-time.After(workerLook):
			case <-ctx.Done():
				return
			}
		}
	}()
	return gone
}

// procStat is what proc_pid_stat(5) says of a process.
type procStat struct {
	name   string
	parent int
	start  string // ticks since the machine's start
}

func readStat(pid int) (stat procStat, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	open, shut := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || open < 0 || shut < open {
		return stat, false
	}
	fields := bytes.Fields(text[shut+1:]) // from the third, the state, on
	if len(fields) < 20 || fields[0][0] == 'Z' {
		return stat, false // a zombie has ended
	}
	stat = procStat{name: string(text[open+1 : shut]), start: string(fields[19])}
	stat.parent, err = strconv.Atoi(string(fields[1]))
	return stat, err == nil
}
