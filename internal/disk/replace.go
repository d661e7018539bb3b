package disk

import (
	"fmt"
	"os"
	"path/filepath"
)

// Replace has the file hold content, 0600: the old whole or the new one,
// whenever it is read.
func Replace(path string, content []byte) error {
	dir, name := filepath.Split(path)
	next, err := os.CreateTemp(dir, name+".*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = next.Write(content)
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
	return nil
}
