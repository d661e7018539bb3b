//go:build thorough && !race && !emulated

package sampling

// Share is the part of the random cases that run: all of them.
const Share = 1
