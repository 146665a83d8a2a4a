package taskfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func Example() {
	const tasks = `
- task_id: add-1
  data: {num1: 1, num2: 2}
- task_id: add-2
  data: {num1: 0x10, num2: 1.50}
- task_id: 3.0
  data: {num1: 4, num2: 5}
`
	ctx := context.Background()
	src, err := taskfile.Open("-", taskfile.Options{Stdin: strings.NewReader(tasks)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() {
		if err := src.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	for {
		deliveries, err := src.Receive(ctx, 10)
		for _, d := range deliveries {
			fmt.Printf("%s %s\n", d.Task.ID, d.Task.Data)
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// add-1 {"num1":1,"num2":2}
	// add-2 {"num1":16,"num2":1.50}
	// standard input: entry 3, line 6: task_id is a number: it must be a string, so put it in quotes: "3.0"
}
