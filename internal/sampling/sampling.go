// Package sampling says how many of their random cases tests try: all of them nightly, a quarter otherwise,
// and fewer where each takes ten times longer, under the race detector and under an emulator.
package sampling
