// Package scrub checks the data folder of a broker that has stopped, mends what can be made anew, sets aside what can not, and gives out
// what was set aside. It is what `ottla scrub` does.
package scrub
