package function_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// An infinite sequence: each task is created when the source requests it.
func Example() {
	ctx := context.Background()
	squares := function.New(func(yield func(pipeline.Task, error) bool) {
		defer fmt.Println("closed")
		for i := 1; ; i++ {
			task := pipeline.Task{ID: fmt.Sprint("square-", i), Data: fmt.Appendf(nil, `{"n": %d}`, i)}
			if !yield(task, nil) {
				return
			}
		}
	})
	for range 2 {
		tasks, err := squares.Receive(ctx, 1)
		if errors.Is(err, io.EOF) {
			break
		}
		fmt.Printf("%s %s\n", tasks[0].Task.ID, tasks[0].Task.Data)
	}
	_ = squares.Close(ctx)
	// Output:
	// square-1 {"n": 1}
	// square-2 {"n": 2}
	// closed
}
