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
)

// quantity is a number from 0, such as GB or a price. what is "a number of GB".
func quantity(what, want string) codec[float64] {
	return codec[float64]{
		parse: func(raw string) (float64, error) {
			// ParseFloat also knows Inf, NaN and hexadecimal numbers.
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
			return math.Abs(f), nil // -0 would print as one
		},
		format: formatFloat,
	}
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// memory returns the codec of a number of GB, which the Config holds in bytes. 0 bytes represent
// a missing value: unlimited.
func memory(want string) codec[int64] {
	gb := quantity("a number of GB", want)
	return codec[int64]{
		parse: func(raw string) (int64, error) {
			f, err := gb.parse(raw)
			if err != nil {
				return 0, err
			}
			if f *= float64(gib); f >= math.MaxInt64 {
				return 0, fmt.Errorf("too large; %s", want)
			}
			return int64(f), nil
		},
		format: func(n int64) string {
			if n == 0 {
				return ""
			}
			return formatFloat(float64(n) / float64(gib))
		},
	}
}

// size is a whole number of bytes, KiB, MiB or GiB, held as bytes.
func size(want string) codec[int64] {
	units := []struct {
		suffix string
		bytes  int64
	}{{"GiB", gib}, {"MiB", mib}, {"KiB", kib}, {"", 1}}
	return codec[int64]{
		parse: func(raw string) (int64, error) {
			for _, unit := range units {
				digits, ok := strings.CutSuffix(raw, unit.suffix)
				if !ok {
					continue
				}
				n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
				switch {
				case errors.Is(err, strconv.ErrSyntax):
					return 0, fmt.Errorf("not a number of bytes; %s", want)
				case err != nil || n > math.MaxInt64/unit.bytes || n < -math.MaxInt64/unit.bytes:
					return 0, fmt.Errorf("out of range; %s", want)
				}
				return n * unit.bytes, nil
			}
			panic("unreachable: every text ends in the empty suffix")
		},
		format: func(n int64) string {
			for _, unit := range units {
				if n%unit.bytes == 0 {
					return strconv.FormatInt(n/unit.bytes, 10) + unit.suffix
				}
			}
			panic("unreachable: every number is a multiple of 1")
		},
	}
}
