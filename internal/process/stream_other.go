//go:build !linux

package process

import "io"

// RunnerStream returns nil: this system cannot tell a stream that only the CI
// runner reads from a file or another program's pipe.
func RunnerStream(func(string) string, io.Writer) io.Writer { return nil }
