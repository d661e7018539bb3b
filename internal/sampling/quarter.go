//go:build !thorough && !race && !emulated

package sampling

// Share is the part of the random cases that run: one of so many. All run
// nightly; the cases are the same in each run, so a change that breaks something
// is nearly always found by a part of them.
const Share = 4
