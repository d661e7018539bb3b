// Package sampling says how many of their random cases tests try: all, or fewer under the race detector and an emulator.
package sampling
