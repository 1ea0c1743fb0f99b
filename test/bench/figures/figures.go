// Package figures says in a few words what came out of several runs of a measurement.
package figures

import (
	"fmt"
	"slices"
)

// Of takes one figure out of each run.
func Of[T any](runs []T, figure func(T) float64) []float64 {
	out := make([]float64, len(runs))
	for i, r := range runs {
		out[i] = figure(r)
	}
	return out
}

// Median is 0 if there are no runs.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// Spread is the median with the lowest and the highest.
func Spread(v []float64, format func(float64) string) string {
	return fmt.Sprintf("%s (%s – %s)", format(Median(v)), format(slices.Min(v)), format(slices.Max(v)))
}

// Format is a way to write figures, as Printf takes it.
func Format(verb string) func(float64) string {
	return func(v float64) string { return fmt.Sprintf(verb, v) }
}
