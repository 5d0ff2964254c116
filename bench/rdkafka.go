package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// rdkafkaSource is librdkafka's own load generator, which Debian's librdkafka-dev brings as an example.
const rdkafkaSource = "/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c"

//go:embed rdkafka/rd.h
var rdHeader []byte

// rdkafka returns the path of rdkafka_performance: the one that is installed, or one that is built from Debian's sources.
func (r *sideRun) rdkafka(ctx context.Context) (string, error) {
	if program, err := exec.LookPath("rdkafka_performance"); err == nil {
		return program, nil
	}
	program := filepath.Join(r.scratch, "rdkafka", "rdkafka_performance")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if _, err := os.Stat(rdkafkaSource); err != nil {
		return "", fmt.Errorf("rdkafka_performance is not there, and neither is its source: apt-get install librdkafka-dev build-essential (%w)", err)
	}
	// The source includes ../src/rd.h, rd.h and rdtime.h, which are not installed.
	folder := filepath.Join(r.scratch, "rdkafka")
	source, err := os.ReadFile(rdkafkaSource)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Join(folder, "src"), 0o700), os.MkdirAll(filepath.Join(folder, "examples"), 0o700))
	}
	if err == nil {
		err = errors.Join(
			os.WriteFile(filepath.Join(folder, "src", "rd.h"), rdHeader, 0o600),
			os.WriteFile(filepath.Join(folder, "src", "rdtime.h"), nil, 0o600),
			os.WriteFile(filepath.Join(folder, "examples", "rdkafka_performance.c"), source, 0o600))
	}
	if err != nil {
		return "", err
	}
	cc := exec.CommandContext(ctx, "cc", "-O2", "-w", "-D_GNU_SOURCE", "-I"+filepath.Join(folder, "src"), "-I/usr/include/librdkafka", "-o", program,
		filepath.Join(folder, "examples", "rdkafka_performance.c"), "-lrdkafka")
	if out, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build rdkafka_performance: %w: %s", err, out)
	}
	return program, nil
}
