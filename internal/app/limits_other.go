//go:build !linux

package app

func checkLimits() (warning string, err error) { return "", nil }
