package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func hold(path string) (*os.File, error) { return alone(path, windows.CREATE_NEW) }

func take(path string) (*os.File, error) { return alone(path, windows.OPEN_EXISTING) }

// alone opens a file that no other process can open, remove or rename meanwhile.
func alone(path string, disposition uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	handle, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, disposition,
		windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	switch {
	case errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return nil, ErrHeld
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}
