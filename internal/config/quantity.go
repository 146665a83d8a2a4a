package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	kib int64 = 1 << (10 * (iota + 1))
	mib
	gib
	tib
)

// quantity returns the codec of a number that is not negative, such as a price. what describes the
// value in errors, for example "a number of GB". want describes the valid values.
func quantity(what, want string) codec[float64] {
	return codec[float64]{
		parse: func(raw string) (float64, error) {
			// Reject Inf, NaN and hexadecimal numbers, which ParseFloat accepts.
			if strings.Trim(raw, "0123456789.eE+-") != "" {
				return 0, fmt.Errorf("not %s; %s", what, want)
			}
			f, err := strconv.ParseFloat(raw, 64)
			switch {
			case errors.Is(err, strconv.ErrRange):
				return 0, fmt.Errorf("too large; %s", want)
			case err != nil:
				return 0, fmt.Errorf("not %s; %s", what, want)
			case f < 0:
				return 0, fmt.Errorf("below 0; %s", want)
			}
			return math.Abs(f), nil // converts -0 to 0
		},
		format: formatFloat,
	}
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// memory returns the codec of a size. The text is a number of GB (2^30 bytes), or a number with a
// unit, such as 500M or 2GiB. The Config holds the size in bytes. 0 bytes represent a missing
// value, which means unlimited.
func memory(want string) codec[int64] {
	number := quantity("a size", want)
	return codec[int64]{
		parse: func(raw string) (int64, error) {
			text, unit := cutUnit(raw)
			if unit == 0 {
				unit = gib
			}
			return bytesOf(number, text, unit, want)
		},
		format: func(n int64) string {
			if n == 0 {
				return ""
			}
			return formatFloat(float64(n) / float64(gib))
		},
	}
}

// bytesOf parses a number of units, and returns the size in bytes, rounded down. unit is the size
// of a unit in bytes.
func bytesOf(number codec[float64], text string, unit int64, want string) (int64, error) {
	f, err := number.parse(text)
	if err != nil {
		return 0, err
	}
	if f *= float64(unit); f >= math.MaxInt64 {
		return 0, fmt.Errorf("too large; %s", want)
	}
	return int64(f), nil
}

// gigabytes returns the codec of a size. The text is a number of GB (2^30 bytes), or a number with
// a unit, such as 500M or 2GiB. The Config holds the size in GB.
func gigabytes(want string) codec[float64] {
	number := quantity("a number of GB", want)
	return codec[float64]{
		parse: func(raw string) (float64, error) {
			text, unit := cutUnit(raw)
			f, err := number.parse(text)
			if err == nil && unit != 0 {
				f = f * float64(unit) / float64(gib)
			}
			return f, err
		},
		format: number.format,
	}
}

// cutUnit splits a size such as 500M, 500MB or 2GiB into its number and its unit. All three forms
// of a unit, in upper or lower case, mean a power of 1024. unit is the size of the unit in bytes,
// or 0 if there is no unit.
func cutUnit(raw string) (number string, unit int64) {
	upper := strings.ToUpper(raw)
	for _, u := range units {
		for _, suffix := range []string{u.name + "IB", u.name + "B", u.name} {
			if strings.HasSuffix(upper, suffix) {
				return strings.TrimSpace(raw[:len(raw)-len(suffix)]), u.bytes
			}
		}
	}
	return raw, 0
}

var units = []struct { //nolint:gochecknoglobals // a table
	name  string
	bytes int64
}{{"T", tib}, {"G", gib}, {"M", mib}, {"K", kib}}

// size returns the codec of a size. The text is a whole number of bytes, or a number with a unit,
// such as 16MiB or 1.5G. The Config holds the size in bytes.
func size(want string) codec[int64] {
	number := quantity("a size", want)
	return codec[int64]{
		parse: func(raw string) (int64, error) {
			text, unit := cutUnit(raw)
			if unit != 0 && strings.ContainsAny(text, ".eE") {
				return bytesOf(number, text, unit, want)
			}
			unit = max(unit, 1)
			n, err := strconv.ParseInt(text, 10, 64)
			switch {
			case errors.Is(err, strconv.ErrSyntax):
				return 0, fmt.Errorf("not a number of bytes; %s", want)
			case err != nil || n > math.MaxInt64/unit || n < -math.MaxInt64/unit:
				return 0, fmt.Errorf("out of range; %s", want)
			}
			return n * unit, nil
		},
		format: func(n int64) string {
			for _, u := range units {
				if n != 0 && n%u.bytes == 0 {
					return strconv.FormatInt(n/u.bytes, 10) + u.name + "iB"
				}
			}
			return strconv.FormatInt(n, 10)
		},
	}
}
