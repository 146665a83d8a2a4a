// Package inputs makes tasks from the values after ":::" in a command line, or from the lines of a file
// after "::::", as GNU parallel does.
package inputs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskid"
	"github.com/ctworker/ctworker/pipeline"
)

const (
	values = ":::"
	lines  = "::::"
	// Split replaces placeholder by valuePlaceholder, which stands for the value in the data of a task.
	placeholder, valuePlaceholder = "{}", "{data.value}"
	// maxLine is the maximum length of a line, in bytes.
	maxLine = 16 << 20
)

// Inputs are the inputs of a command line.
type Inputs struct {
	values []string
	file   string // "" if values are the inputs
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
		return nil, nil, fmt.Errorf("no command before %s: give it first, as in: ctworker run -- echo {} %[1]s a b c", in.separator())
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
		return before, &Inputs{file: rest[0]}, nil
	}
	return before, &Inputs{values: rest}, nil
}

func (in *Inputs) separator() string {
	if in.file != "" {
		return lines
	}
	return values
}

func isSeparator(arg string) bool { return arg == values || arg == lines }

// Tasks returns an iterator of one task per input. It yields an error if a value is not UTF-8, or if the
// file cannot be read. stdin is read if the file is "-".
func (in *Inputs) Tasks(stdin io.Reader) iter.Seq2[pipeline.Task, error] {
	return func(yield func(pipeline.Task, error) bool) {
		if in.file == "" {
			for i, v := range in.values {
				if !yield(newTask(v, fmt.Sprintf("input %d after :::", i+1))) {
					return
				}
			}
			return
		}
		if err := in.eachLine(stdin, yield); err != nil {
			yield(pipeline.Task{}, err)
		}
	}
}

// Check returns an error if the file does not exist or cannot be opened.
func (in *Inputs) Check() error {
	if in.file == "" || in.file == "-" {
		return nil
	}
	f, err := os.Open(in.file)
	if err != nil {
		return fmt.Errorf("the inputs after :::: cannot be read: %w", err)
	}
	return f.Close()
}

// Recount returns an iterator over the same tasks as Tasks, which can be used independently of Tasks. It
// returns nil if the file can be read only once.
func (in *Inputs) Recount() iter.Seq2[pipeline.Task, error] {
	if in.file != "" {
		info, err := os.Stat(in.file)
		if in.file == "-" || err != nil || !info.Mode().IsRegular() {
			return nil
		}
	}
	return in.Tasks(nil)
}

func (in *Inputs) eachLine(stdin io.Reader, yield func(pipeline.Task, error) bool) error {
	r := stdin
	if in.file != "-" {
		f, err := os.Open(in.file)
		if err != nil {
			return fmt.Errorf("the inputs after :::: cannot be read: %w", err)
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	number := 0
	for scanner.Scan() {
		number++
		line := scanner.Text() // without the line break, LF or CR LF
		if line == "" {
			continue
		}
		if !yield(newTask(line, fmt.Sprintf("%s, line %d", in.file, number))) {
			return nil
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("%s, line %d: %w", in.file, number+1, err)
	}
	return nil
}

// newTask returns the task of a value. where is the position of the value, for the error.
func newTask(value, where string) (pipeline.Task, error) {
	if !utf8.ValidString(value) {
		return pipeline.Task{}, fmt.Errorf("%s: %q is not UTF-8, so it cannot be written as JSON: if it is a file name, rename the file", where, value)
	}
	data := append(rawjson.AppendQuote([]byte(`{"value":`), value), '}')
	return pipeline.Task{ID: taskid.Of(value), Data: data}, nil
}
