//go:build race

package trust

// share is the part of the random cases that run: the race detector makes each
// of them ten times slower, and looks for races, not for values.
const share = 16
