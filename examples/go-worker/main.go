// Command go-worker is a complete worker program made from a Go function that adds two numbers.
//
//	go run ./examples/addition generate 1000 > tasks.json
//	go build -o go-worker ./examples/go-worker
//	./go-worker --task-file tasks.json -j auto
//
// Afterwards, events.log contains the sums. "./go-worker --help" lists the flags that ctworker.Main
// adds.
package main

import (
	"context"
	"errors"
	"math"

	"github.com/ctworker/ctworker"
)

func main() { ctworker.Main(add) }

// addition is the data of a task.
type addition struct {
	Num1 float64 `json:"num1"`
	Num2 float64 `json:"num2"`
}

// sum is the result of a task.
type sum struct {
	Sum float64 `json:"sum"`
}

// add runs one task. ctworker reports an error of add in a task_exception event.
func add(_ context.Context, t *ctworker.Task) (ctworker.Result, error) {
	var in addition
	if err := t.Decode(&in); err != nil {
		return nil, err
	}
	s := in.Num1 + in.Num2
	if math.IsInf(s, 0) {
		return nil, errors.New("the sum is too large for a float64")
	}
	return sum{s}, nil
}
