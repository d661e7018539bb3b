package setup

// Few returns the first n of cases that prove the same in other places, and all
// of them nightly: with the build tag wide, which also whole tests have.
func Few[T any](n int, cases ...T) []T {
	if wide {
		return cases
	}
	return cases[:n]
}

// Threads returns the numbers of threads with which dbt outlives its credentials:
// many log in at the same time, one logs in after each model.
func Threads() []int { return Few(1, 8, 1) }
