// Package inputs makes tasks from the values after ":::" in a command line, or from the lines of a file
// after "::::", as GNU parallel does.
package inputs

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/taskid"
	"github.com/ctworker/ctworker/pipeline"
)

const (
	values = ":::"
	lines  = "::::"
	// Split replaces placeholder by valuePlaceholder, which stands for the value in the data of a task.
	placeholder, valuePlaceholder = "{}", "{data.value}"
)

// Inputs are the inputs of a command line.
type Inputs struct {
	// File is the name of the file with the inputs; "" if they are values in the command line.
	File   string
	values []string
}

// Split divides the arguments of a command line into the command and its inputs. The inputs are nil if
// the arguments contain neither ":::" nor "::::".
//
// In the command, {} becomes {data.value}, because the data of a task is {"value": …}. If the command
// contains no placeholder, Split appends {data.value} as the last argument.
func Split(argv []string) (command []string, in *Inputs, err error) {
	command, in, err = Cut(argv)
	if err != nil || in == nil {
		return command, in, err
	}
	if len(command) == 0 {
		return nil, nil, errors.New("no command before the inputs; give it first, as in: ctworker run -- echo {} ::: a b c")
	}
	used := false
	for i, arg := range command {
		used = used || strings.Contains(arg, placeholder) || strings.Contains(arg, valuePlaceholder) || strings.Contains(arg, "{task_id}")
		command[i] = strings.ReplaceAll(arg, placeholder, valuePlaceholder)
	}
	if !used {
		command = append(command, valuePlaceholder)
	}
	return command, in, nil
}

// Cut divides arguments into the arguments before ":::" or "::::" and the inputs after it. The inputs are
// nil if the arguments contain neither ":::" nor "::::".
func Cut(args []string) (before []string, in *Inputs, err error) {
	at := slices.IndexFunc(args, isSeparator)
	if at < 0 {
		return args, nil, nil
	}
	before, separator, rest := slices.Clone(args[:at]), args[at], args[at+1:]
	switch {
	case slices.ContainsFunc(rest, isSeparator):
		return nil, nil, errors.New("the command line contains ::: or :::: several times: give all inputs after one of them")
	case separator == lines && len(rest) != 1:
		return nil, nil, fmt.Errorf(":::: is followed by %d arguments: give one file, with one input per line, or - for standard input", len(rest))
	case separator == values && len(rest) == 0:
		return nil, nil, errors.New("no inputs after :::, so there are no tasks: give at least one, as in: ctworker run -- echo {} ::: a b c")
	case separator == lines:
		return before, &Inputs{File: rest[0]}, nil
	}
	for i, value := range rest {
		if !utf8.ValidString(value) {
			return nil, nil, fmt.Errorf("input %d after :::, %q, is not UTF-8, so it cannot be written as JSON: if it is a file name, rename the file", i+1, value)
		}
	}
	return before, &Inputs{values: rest}, nil
}

func isSeparator(arg string) bool { return arg == values || arg == lines }

// Tasks returns an iterator of one task per value after ":::". It returns nil if the inputs are in a file.
func (in *Inputs) Tasks() iter.Seq2[pipeline.Task, error] {
	if in.File != "" {
		return nil
	}
	return func(yield func(pipeline.Task, error) bool) {
		for _, value := range in.values {
			id, data := taskid.OfInput(value)
			if !yield(pipeline.Task{ID: id, Data: data}, nil) {
				return
			}
		}
	}
}
