//go:build !plant

package plant

// On reports whether the bug is planted: never in this build.
func On(Bug) bool { return false }
