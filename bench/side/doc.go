// Package side starts, watches and stops the brokers that are compared: ours, Apache Kafka as released, the floor (see bench/floor), and
// any broker at a given address.
//
// A Side is a way to run a broker; a Broker is one that runs, in a process of its own with its output in a file. What a process uses is
// read from /proc, so CPU, memory and writes are known on Linux only.
package side
