//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// against measures GitHub's path with the provider `aws` in this product and in
// another binary of it, in turn: which of the two begins alternates.
func against(root, other string, runs int) error {
	other, err := filepath.Abs(other)
	if err != nil {
		return err
	}
	c, err := startCase(root, "aws", 0)
	if err != nil {
		return err
	}
	defer c.close()
	binaries := [2]string{filepath.Join(root, "oidc-dbt"), other}
	var samples [2][]sample
	for i := range runs + 2 {
		for n := range binaries {
			n = (n + i) % 2
			step, err := c.action(root, binaries[n], c.environment())
			if err != nil {
				return err
			}
			s, err := c.run(step)
			if err != nil {
				return fmt.Errorf("%s: %w", binaries[n], err)
			}
			if i >= 2 { // two runs warm the caches
				samples[n] = append(samples[n], s)
			}
		}
	}
	ratios, differences := make([]float64, runs), make([]time.Duration, runs)
	for i := range runs {
		ratios[i] = float64(samples[0][i].wall) / float64(samples[1][i].wall)
		differences[i] = samples[0][i].wall - samples[1][i].wall
	}
	slices.Sort(ratios)
	slices.Sort(differences)
	this, that := median(samples[0]), median(samples[1])
	fmt.Printf("this product takes %.2f times what the other takes (median of %d pairs), %+.1f ms: %.1f and %.1f ms, "+
		"%.1f and %.1f MiB, %d and %d requests\n", ratios[runs/2], runs, ms(differences[runs/2]), ms(this.wall), ms(that.wall),
		float64(this.memory)/(1<<20), float64(that.memory)/(1<<20), this.requests, that.requests)
	return nil
}
