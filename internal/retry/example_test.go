package retry_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctworker/ctworker/internal/retry"
)

func ExampleDo() {
	away, tries := errors.New("no route to host"), 0
	err := retry.Do(context.Background(), retry.Transients(func(err error) bool { return errors.Is(err, away) }), func() error {
		if tries++; tries == 1 {
			return away
		}
		return nil
	})
	fmt.Println(tries, err)
	// Output: 2 <nil>
}
