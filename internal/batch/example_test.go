package batch_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/ctworker/ctworker/internal/batch"
)

func Example() {
	deletes := batch.New(batch.Options[string]{MaxItems: 10}, func(_ context.Context, ids []string) []error {
		fmt.Println(len(ids), "deleted at once")
		return nil // every ID was deleted without an error
	})
	defer deletes.Close(context.Background())

	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := deletes.Do(context.Background(), fmt.Sprint(i)); err != nil {
				fmt.Println(err)
			}
		})
	}
	all.Wait()
	// Output: 10 deleted at once
}
