// Package optcheck provides the checks that the Validate methods of options have in common. A check
// returns nil if the value is valid. Otherwise it returns an error that names the field, its value
// and what is allowed.
package optcheck

import (
	"errors"
	"fmt"
	"time"
)

// NotNegative checks that value is at least 0.
func NotNegative[T int | int64 | time.Duration](field string, value T) error {
	if value < 0 {
		return fmt.Errorf("%s is %v: it must not be negative", field, value)
	}
	return nil
}

// Between checks that value is from minimum to maximum. The value 0 is valid as well, because it
// stands for the default.
func Between[T int | int64 | time.Duration](field string, value, minimum, maximum T) error {
	if value != 0 && (value < minimum || value > maximum) {
		return fmt.Errorf("%s is %v: it must be from %v to %v", field, value, minimum, maximum)
	}
	return nil
}

// Required checks that value is not empty.
func Required(field, value string) error {
	if value == "" {
		return fmt.Errorf("%s is empty: it is required", field)
	}
	return nil
}

// Join combines the errors of all invalid fields of the type typ, such as "sqs.Options". If all
// errs are nil, Join returns nil.
func Join(typ string, errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	return nil
}
