//go:build !linux

package disk

import "errors"

func resident(uintptr, int64, int64) (bool, error) { return false, errors.ErrUnsupported }
