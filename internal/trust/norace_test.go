//go:build !race

package trust

// share is the part of the random cases that run: all of them.
const share = 1
