package report

import (
	"slices"
	"strconv"
)

// Spread is what several runs gave.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf returns the median and the extremes of values, and zeros for none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return Spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1]}
}

// ratios divides pair by pair. A pair that lacks one of its runs, or whose divisor is zero, has no ratio.
func ratios(ours, theirs map[int]float64) []float64 {
	var all []float64
	for pair := range maxPair(ours) + 1 {
		a, haveA := ours[pair]
		b, haveB := theirs[pair]
		if haveA && haveB && b != 0 {
			all = append(all, a/b)
		}
	}
	return all
}

func maxPair(runs map[int]float64) int {
	last := -1
	for pair := range runs {
		last = max(last, pair)
	}
	return last
}

func values(runs map[int]float64) []float64 {
	var all []float64
	for pair := range maxPair(runs) + 1 {
		if v, ok := runs[pair]; ok {
			all = append(all, v)
		}
	}
	return all
}

// short prints a number with three digits that matter.
func short(v float64) string {
	switch {
	case v >= 99.95:
		return grouped(int64(v + 0.5))
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 0.1 || v == 0:
		return trimZeros(strconv.FormatFloat(v, 'f', 2, 64))
	default:
		return trimZeros(strconv.FormatFloat(v, 'f', 3, 64))
	}
}

func trimZeros(s string) string {
	for s[len(s)-1] == '0' && len(s) > 1 && s != "0" {
		s = s[:len(s)-1]
	}
	if s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	return s
}

// grouped writes thousands with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
