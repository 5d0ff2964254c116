//go:build race

package segment

// effort divides the length of tests that the race detector slows down tenfold.
const effort = 6
