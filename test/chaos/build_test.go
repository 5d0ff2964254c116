package chaos_test

// buildFlags are handed to `go build` for the binary under test: it is built as the test is, with the race detector or with planted bugs.
var buildFlags []string

// brokerEnv is added to the environment of the binary under test.
var brokerEnv []string
