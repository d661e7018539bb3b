package disk

import (
	"errors"
	"os"
)

// ErrHeld is why a file is not taken: a running process holds it.
var ErrHeld = errors.New("held by another process")

// Hold makes a file, 0600, and holds it until it is closed or this process
// ends, however that comes about. There is no moment at which the file is there
// and not held.
func Hold(path string) (*os.File, error) { return hold(path) }

// Take holds a file that Hold has made, if no process holds it any more: else
// the error is ErrHeld, or says why that is not known.
func Take(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, err
	}
	f, err := take(path)
	if err != nil {
		return nil, err
	}
	err = ownFile(f)
	if now, serr := f.Stat(); err == nil && serr == nil && !os.SameFile(info, now) {
		err = ErrHeld // another has been made meanwhile
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
