//go:build !linux

package storage

func adviseHuge([]byte) {}
