//go:build race

package tail

// raceEnabled makes every pool poison its slabs in tests under the race detector.
const raceEnabled = true
