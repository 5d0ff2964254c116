//go:build race

package chaos_test

func init() {
	raceEnabled = true
	buildFlags = append(buildFlags, "-race")
}
