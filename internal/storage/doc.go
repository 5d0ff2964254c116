// Package storage is the partition log: append, read, retention, checkpoints and recovery over one write-ahead log for all
// partitions of a broker.
package storage
