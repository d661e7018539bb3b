//go:build race || emulated

package sampling

// Share is the part of the random cases that run: one of so many. The race
// detector looks for races, and an emulator shows differences of the platform,
// not wrong values.
const Share = 16
