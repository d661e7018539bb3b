package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// half ends the names of files that are not whole yet.
const half = ".oidc-dbt"

// leftover is the age at which a half-written file is abandoned: writing one
// takes milliseconds.
const leftover = time.Minute

// Replace has the file hold content, 0600: the old whole or the new one,
// whenever it is read, also where several processes replace it. It removes what
// a process that was killed in it has left.
func Replace(path string, content []byte) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "." // not the system's folder for temporary files
	}
	next, err := os.CreateTemp(dir, "."+name+".*"+half) // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = next.Write(content)
	info, serr := next.Stat()
	if cerr := next.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		_ = os.Remove(next.Name()) // half of it is of no use
		return fmt.Errorf("write %s: %w", name, err)
	}
	if serr == nil {
		sweepHalves(dir, name, info.ModTime())
	}
	return nil
}

// Room returns the error that Replace would meet now with a content of a size.
func Room(path string, size int) error {
	dir, name := filepath.Split(path)
	trial, err := os.CreateTemp(dir, "."+name+".*"+half)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = trial.Write(make([]byte, size))
	err = errors.Join(err, trial.Close(), os.Remove(trial.Name()))
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// sweepHalves removes halves of a file that are old at a time of the file
// system's own clock. What cannot be removed is met again.
func sweepHalves(dir, name string, now time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), "."+name+".")
		if middle, found := strings.CutSuffix(middle, half); !ok || !found || middle == "" ||
			strings.Trim(middle, "0123456789") != "" || e.Type() != fs.FileMode(0) {
			continue
		}
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > leftover {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
