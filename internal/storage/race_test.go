//go:build race

package storage

// raceEnabled tells that the race detector makes everything ten times slower.
const raceEnabled = true
