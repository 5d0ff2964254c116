package chaos_test

// buildFlags are handed to `go build` for the binary under test.
var buildFlags []string
