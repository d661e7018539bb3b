//go:build !linux

package process

import "context"

// WorkerGone would tell of the end of the runner's worker; here it is nil, and
// what is left ends with the runner's own clean-up, or by itself.
func WorkerGone(context.Context) <-chan struct{} { return nil }
