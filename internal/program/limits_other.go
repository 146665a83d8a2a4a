//go:build !linux

package program

func checkLimits() (warning string, err error) { return "", nil }
