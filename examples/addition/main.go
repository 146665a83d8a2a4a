// Command addition is an example of a command that ctworker runs once per task. It adds two
// numbers. "addition generate N" prints a task file with N tasks.
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

// task is a task in the form in which ctworker writes it to the standard input of each process.
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
		os.Exit(1) // ctworker reports this in a task_exited event
	}
}

// add reads one task from in and writes its result, a JSON object, to out.
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
		return fmt.Errorf("invalid number of tasks %q: must be 0 or more", count)
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
	return w.Flush() // returns the error of any earlier write
}
