// Command addition is an example of a command that ctworker runs for each task:
// it adds two numbers. "addition generate N" makes a task file of N tasks.
//
//	addition generate 1000 > tasks.json
//	ctworker run --task-file tasks.json -j auto -- addition
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// task is what ctworker writes to the standard input of each process.
type task struct {
	ID   string `json:"task_id"`
	Data struct {
		Num1 float64 `json:"num1"`
		Num2 float64 `json:"num2"`
	} `json:"data"`
}

func main() {
	var err error
	switch {
	case len(os.Args) == 1:
		err = add(os.Stdin, os.Stdout)
	case len(os.Args) == 3 && os.Args[1] == "generate":
		err = generate(os.Stdout, os.Args[2])
	default:
		err = errors.New("usage: addition | addition generate N")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "addition:", err)
		os.Exit(1) // anything but 0 is told as task_exited
	}
}

// add runs one task: it is read from in, and its result, here a JSON object, is
// what is written to out.
func add(in io.Reader, out io.Writer) error {
	var t task
	if err := json.NewDecoder(in).Decode(&t); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	return json.NewEncoder(out).Encode(map[string]any{"sum": t.Data.Num1 + t.Data.Num2})
}

// generate writes a task file: a JSON array of tasks.
func generate(out io.Writer, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number of tasks", count)
	}
	w := bufio.NewWriter(out)
	_, _ = fmt.Fprintln(w, "[")
	for i := range n {
		comma := ","
		if i == n-1 {
			comma = ""
		}
		_, _ = fmt.Fprintf(w, `  {"task_id": "addition-task-%06d", "data": {"num1": %d, "num2": %d}}%s`+"\n", i, i, 2*i, comma)
	}
	_, _ = fmt.Fprintln(w, "]")
	return w.Flush() // reports an error of any write before it
}
