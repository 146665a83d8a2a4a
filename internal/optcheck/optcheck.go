// Package optcheck has the checks that the Validate methods of options share. Each returns nil,
// or an error that names the field, its value and what is right.
package optcheck

import (
	"errors"
	"fmt"
	"time"
)

// NotNegative checks a number or a duration.
func NotNegative[T int | int64 | time.Duration](field string, value T) error {
	if value < 0 {
		return fmt.Errorf("%s is %v: it must not be negative", field, value)
	}
	return nil
}

// Between checks a value that may be 0, which stands for the default.
func Between[T int | int64 | time.Duration](field string, value, minimum, maximum T) error {
	if value != 0 && (value < minimum || value > maximum) {
		return fmt.Errorf("%s is %v: it must be from %v to %v", field, value, minimum, maximum)
	}
	return nil
}

// Required checks a text that must not be empty.
func Required(field, value string) error {
	if value == "" {
		return fmt.Errorf("%s is empty: it is required", field)
	}
	return nil
}

// Join joins the errors of all faulty fields of typ, such as "sqs.Options"; nil if there are none.
func Join(typ string, errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	return nil
}
