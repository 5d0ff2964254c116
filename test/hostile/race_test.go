//go:build race

package hostile_test

// raceEnabled: the race detector makes decompression ten times as dear, so fewer bombs have to do.
const raceEnabled = true
