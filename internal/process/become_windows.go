package process

import "io/fs"

// Become has nothing to do: there is no root to give up.
func Become(fs.FileInfo) error { return nil }
