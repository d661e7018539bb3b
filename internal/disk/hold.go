package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
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

// Lock holds a file, which it makes if there is none, and waits for that as long
// as another process holds it. The file stays when it is closed.
func Lock(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := Take(path)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrNotExist):
			made, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|noFollow, 0o600)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			if err == nil {
				made.Close()
			}
			continue
		case !errors.Is(err, ErrHeld):
			return nil, err
		}
		timer := time.NewTimer(lockPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ErrHeld
		}
	}
}

// lockPause is between two tries to hold a file: what is done under a lock takes
// a few requests.
const lockPause = 20 * time.Millisecond
