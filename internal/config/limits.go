package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// FailureLimit is the value of --max-failures. The zero FailureLimit permits any number of failures.
type FailureLimit struct {
	// Count is a number of failed tasks; 0 if there is no such limit.
	Count int64
	// Percent is a share of the tasks that have ended; 0 if there is no such limit.
	Percent float64
}

// String returns the limit as the user writes it, such as "10" or "2.5%", or "" if there is none.
func (l FailureLimit) String() string {
	switch {
	case l.Count > 0:
		return strconv.FormatInt(l.Count, 10)
	case l.Percent > 0:
		return strconv.FormatFloat(l.Percent, 'f', -1, 64) + "%"
	}
	return ""
}

// failureLimit returns the codec of a FailureLimit.
func failureLimit() codec[FailureLimit] {
	const want = "give a number of tasks, such as 10, or a share of the tasks that have ended, such as 5%"
	return codec[FailureLimit]{
		parse: func(raw string) (FailureLimit, error) {
			if share, ok := strings.CutSuffix(raw, "%"); ok {
				percent, err := strconv.ParseFloat(share, 64)
				if err != nil || !(percent > 0 && percent <= 100) { // also refuses NaN
					return FailureLimit{}, errors.New("not a percentage above 0 and up to 100; " + want)
				}
				return FailureLimit{Percent: percent}, nil
			}
			n, err := strconv.ParseInt(raw, 10, 64)
			if err != nil || n < 1 {
				return FailureLimit{}, errors.New("not a whole number of at least 1; " + want)
			}
			return FailureLimit{Count: n}, nil
		},
		format: FailureLimit.String,
	}
}

// ExitCodes is a set of exit codes from 1 to 255. The zero ExitCodes is empty.
type ExitCodes [4]uint64 // one bit per code

// Contain reports whether code is in the set. The negative code of a signal is in no set.
func (c ExitCodes) Contain(code int) bool {
	return code >= 0 && code < 256 && c[code/64]&(1<<(code%64)) != 0
}

// With returns the set with the codes from first to last added. Both are from 0 to 255.
func (c ExitCodes) With(first, last int) ExitCodes {
	for code := first; code <= last; code++ {
		c[code/64] |= 1 << (code % 64)
	}
	return c
}

// String returns the set as the user writes it, such as "75,100-110".
func (c ExitCodes) String() string {
	var parts []string
	for code := 1; code < 256; code++ {
		first := code
		for c.Contain(code+1) && c.Contain(first) {
			code++
		}
		switch {
		case !c.Contain(first):
		case code == first:
			parts = append(parts, strconv.Itoa(first))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", first, code))
		}
	}
	return strings.Join(parts, ",")
}

// exitCodes returns the codec of a set of exit codes.
func exitCodes() codec[ExitCodes] {
	const want = "give a list such as 2,100-110"
	return codec[ExitCodes]{
		parse: func(raw string) (all ExitCodes, err error) {
			for part := range strings.SplitSeq(raw, ",") {
				first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
				if !isRange {
					last = first
				}
				from, err1 := strconv.ParseUint(first, 10, 8)
				to, err2 := strconv.ParseUint(last, 10, 8)
				if err1 != nil || err2 != nil || from == 0 || to < from {
					return ExitCodes{}, fmt.Errorf("%q is neither an exit code from 1 to 255 nor a range of such codes; %s", strings.TrimSpace(part), want)
				}
				all = all.With(int(from), int(to))
			}
			return all, nil
		},
		format: ExitCodes.String,
	}
}
