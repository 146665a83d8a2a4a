package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/journal"

	"golang.org/x/sys/unix"
)

// value is one field of a Config, read and written as text.
type value interface {
	// set parses raw and stores the value in the field. If raw is invalid, set does not change the
	// field, and returns an error that describes what is wrong and the valid values.
	set(raw string) error
	// text returns the value of the field in a form that set parses to the same value. It returns
	// "" if the field has no value.
	text() string
}

// codec converts between a T and its text. One value of T may represent a missing value: format
// returns "" for this value, and parse never returns it.
type codec[T any] struct {
	parse  func(raw string) (T, error)
	format func(T) string
}

// field is a setting that the Config holds directly.
type field[T any] struct {
	at *T
	codec[T]
}

func (f field[T]) set(raw string) error {
	v, err := f.parse(raw)
	if err != nil {
		return err
	}
	*f.at = v
	return nil
}

func (f field[T]) text() string { return f.format(*f.at) }

// optional is a setting that the Config holds as a pointer. The pointer is nil if the setting has
// no value.
type optional[T any] struct {
	at **T
	codec[T]
}

func (o optional[T]) set(raw string) error {
	v, err := o.parse(raw)
	if err != nil {
		return err
	}
	*o.at = &v
	return nil
}

func (o optional[T]) text() string {
	if *o.at == nil {
		return ""
	}
	return o.format(**o.at)
}

// text returns the codec of a text that is not empty. An empty text is an error, because it is
// probably a mistake: --job-id "$JOB" passes an empty text if JOB is not set. want describes the
// valid values in errors, for example "a job ID".
func text(want string) codec[string] {
	return codec[string]{
		parse: func(raw string) (string, error) {
			if raw == "" {
				return "", fmt.Errorf("empty; give %s", want)
			}
			if strings.ContainsRune(raw, 0) { // an environment variable cannot contain it
				return "", fmt.Errorf("contains a NUL byte; give %s", want)
			}
			return raw, nil
		},
		format: func(s string) string { return s },
	}
}

// rerunKinds returns the codec of a list of kinds of failed tasks.
func rerunKinds() codec[string] {
	return codec[string]{
		parse: func(raw string) (string, error) {
			_, err := journal.ParseKinds(raw)
			return raw, err
		},
		format: func(s string) string { return s },
	}
}

// localFile returns the codec of the name of a file on this machine.
func localFile() codec[string] {
	const want = "the name of a file"
	c := text(want)
	parse := c.parse
	c.parse = func(raw string) (string, error) {
		if strings.Contains(raw, "://") {
			return "", fmt.Errorf("a URL, but ctworker writes this file only to a local disk; give %s on this machine, and copy the file after the run", want)
		}
		return parse(raw)
	}
	return c
}

// hostPort returns the codec of an address on which ctworker listens.
func hostPort() codec[string] {
	const want = "give HOST:PORT, such as 127.0.0.1:6060"
	return codec[string]{
		parse: func(raw string) (string, error) {
			host, port, err := net.SplitHostPort(raw)
			if err != nil {
				return "", fmt.Errorf("not an address; %s", want)
			}
			if host == "" {
				return "", fmt.Errorf("the host is missing, so ctworker would listen on every network of this machine; %s", want)
			}
			if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
				return "", fmt.Errorf("%q is not a port; %s", port, want)
			}
			return raw, nil
		},
		format: func(s string) string { return s },
	}
}

// portOrHostPort returns the codec of an address whose host defaults to the loopback address.
func portOrHostPort() codec[string] {
	c := hostPort()
	parse := c.parse
	c.parse = func(raw string) (string, error) {
		if !strings.Contains(raw, ":") {
			raw = ":" + raw
		}
		if strings.HasPrefix(raw, ":") {
			raw = "127.0.0.1" + raw
		}
		return parse(raw)
	}
	return c
}

// signalName returns the codec of the name of a signal, with or without the prefix SIG.
func signalName() codec[syscall.Signal] {
	return codec[syscall.Signal]{
		parse: func(raw string) (syscall.Signal, error) {
			sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(raw), "SIG"))
			if sig == 0 {
				return 0, errors.New("not the name of a signal; give a name such as USR1 or TERM")
			}
			return sig, nil
		},
		format: func(sig syscall.Signal) string {
			if sig == 0 {
				return ""
			}
			return strings.TrimPrefix(unix.SignalName(sig), "SIG")
		},
	}
}

// oneOf returns the codec of a text that must be one of words.
func oneOf(words ...string) codec[string] {
	return codec[string]{
		parse: func(raw string) (string, error) {
			if slices.Contains(words, raw) {
				return raw, nil
			}
			return "", fmt.Errorf("give %s", alternatives(words))
		},
		format: func(s string) string { return s },
	}
}

// alternatives joins words to a text such as "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func provider() codec[string] {
	return codec[string]{
		parse: func(raw string) (string, error) {
			for _, known := range []string{AWS, GCP} {
				if strings.EqualFold(raw, known) {
					return known, nil
				}
			}
			return "", fmt.Errorf("not a provider; give %s or %s", AWS, GCP)
		},
		format: func(s string) string { return s },
	}
}

// boolean returns the codec of a boolean. It accepts the usual spellings in upper and lower case.
// Any other text is an error, because a misspelled value must not count as false. The specification
// uses 1, true, 0 and false. The pool manager of the specification exports Python's True and False.
func boolean() codec[bool] {
	return codec[bool]{
		parse: func(raw string) (bool, error) {
			switch strings.ToLower(raw) {
			case "1", "true", "yes", "on":
				return true, nil
			case "0", "false", "no", "off":
				return false, nil
			default:
				return false, errors.New("not a boolean; give 1, true, yes, on, 0, false, no or off")
			}
		},
		format: strconv.FormatBool,
	}
}

// integer returns the codec of a whole number from minimum to maximum.
func integer[T int | int64](minimum, maximum T) codec[T] {
	want := fmt.Sprintf("give a whole number from %d to %d", minimum, maximum)
	if int64(maximum) == math.MaxInt64 {
		want = fmt.Sprintf("give a whole number of at least %d", minimum)
	}
	return codec[T]{
		parse: func(raw string) (T, error) {
			n, err := strconv.ParseInt(raw, 10, 64)
			switch {
			case errors.Is(err, strconv.ErrSyntax):
				return 0, fmt.Errorf("not a whole number; %s", want)
			case err != nil || n < int64(minimum) || n > int64(maximum):
				return 0, fmt.Errorf("out of range; %s", want)
			}
			return T(n), nil
		},
		format: func(n T) string { return strconv.FormatInt(int64(n), 10) },
	}
}

// autoTasks is the value of "auto", which means one task per usable CPU. Load replaces it by the
// number of usable CPUs.
const autoTasks = -1

// taskCount returns the codec of a number of concurrent tasks, or the word auto.
func taskCount(maximum int) codec[int] {
	c := integer(1, maximum)
	parse := c.parse
	c.parse = func(raw string) (int, error) {
		if raw == "auto" {
			return autoTasks, nil
		}
		n, err := parse(raw)
		if err != nil {
			return 0, fmt.Errorf("%w, or auto to run one task per usable CPU", err)
		}
		return n, nil
	}
	return c
}

// seconds returns the codec of a number of seconds, with or without an exponent. The value is exact
// to the nanosecond, because a printed value must be parsed to the same value.
func seconds(want string) codec[time.Duration] {
	return codec[time.Duration]{
		parse: func(raw string) (time.Duration, error) {
			unsigned := strings.TrimPrefix(raw, "-")
			digits, point, ok := decimal(unsigned)
			switch {
			case !ok:
				return 0, fmt.Errorf("not a number of seconds; %s", want)
			case unsigned != raw:
				return 0, fmt.Errorf("below 0; %s", want)
			case digits == "":
				return 0, nil
			case point > len("9223372036"): // the digits of math.MaxInt64 nanoseconds in seconds
				return 0, fmt.Errorf("too large; %s", want)
			case point <= -len("123456789"): // the decimal places of a nanosecond
				return 0, fmt.Errorf("below a nanosecond; %s", want)
			}
			// ParseDuration does not accept an exponent. Write the number without one.
			digits = strings.Repeat("0", max(-point, 0)) + digits + strings.Repeat("0", max(point-len(digits), 0))
			point = max(point, 0)
			d, err := time.ParseDuration(digits[:point] + "." + digits[point:] + "s")
			if err != nil {
				return 0, fmt.Errorf("too large; %s", want)
			}
			return d, nil
		},
		format: func(d time.Duration) string {
			whole, rest := d/time.Second, d%time.Second
			if rest == 0 {
				return strconv.FormatInt(int64(whole), 10)
			}
			return strings.TrimRight(fmt.Sprintf("%d.%09d", whole, rest), "0")
		},
	}
}

// decimal parses a number without a sign. The number is 0.DIGITS times 10 to the power of point.
// For the number 0, digits is empty. For any other number, digits does not begin with 0.
func decimal(raw string) (digits string, point int, ok bool) {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(raw), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", 0, false
	}
	power := 0
	if hasExponent {
		var err error
		power, err = strconv.Atoi(exponent)
		if errors.Is(err, strconv.ErrSyntax) {
			return "", 0, false
		}
		// Atoi returns the nearest int if the exponent is out of range.
		power = min(max(power, -maxPower), maxPower)
	}
	significant := strings.TrimLeft(digits, "0")
	return significant, len(whole) - (len(digits) - len(significant)) + power, true
}

// maxPower is the maximum absolute value of an exponent, so that sums with the exponent do not
// overflow. It is larger than the number of digits of any argument.
const maxPower = math.MaxInt / 4

// atLeast returns c with an additional check: a value below minimum is an error.
func atLeast(c codec[time.Duration], minimum time.Duration, want string) codec[time.Duration] {
	parse := c.parse
	c.parse = func(raw string) (time.Duration, error) {
		v, err := parse(raw)
		if err == nil && v < minimum {
			return 0, fmt.Errorf("below %v; %s", minimum.Seconds(), want)
		}
		return v, err
	}
	return c
}

// sizeFrom returns the codec of a size that is at least minimum.
func sizeFrom(minimum int64, want string) codec[int64] {
	c := size(want)
	parse := c.parse
	c.parse = func(raw string) (int64, error) {
		v, err := parse(raw)
		if err == nil && v < minimum {
			return 0, fmt.Errorf("below %d; %s", minimum, want)
		}
		return v, err
	}
	return c
}

// positive returns c with an additional check: a value that is not above 0 is an error.
func positive[T int64 | time.Duration](c codec[T], want string) codec[T] {
	parse := c.parse
	c.parse = func(raw string) (T, error) {
		v, err := parse(raw)
		if err == nil && v <= 0 {
			return 0, fmt.Errorf("not above 0; %s", want)
		}
		return v, err
	}
	return c
}
