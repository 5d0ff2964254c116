//go:build plant

package chaos_test

func init() { buildFlags = append(buildFlags, "-tags", "plant") }
