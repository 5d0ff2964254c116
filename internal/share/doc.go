// Package share holds the share partitions of a broker (KIP-932): which records of a partition are with which member of a share group,
// which are finished, and which are to be delivered again.
package share
