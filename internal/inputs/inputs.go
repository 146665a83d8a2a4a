// Package inputs makes tasks of the values after ":::" in a command line, or of the lines of a file after
// "::::", as GNU parallel does.
package inputs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
	"github.com/ctworker/ctworker/pipeline"
)

const (
	values = ":::"
	lines  = "::::"
	// placeholder is replaced by the placeholder of the value in the data of a task.
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
// contains no placeholder, the value becomes its last argument.
func Split(argv []string) (command []string, in *Inputs, err error) {
	at := slices.IndexFunc(argv, isSeparator)
	if at < 0 {
		return argv, nil, nil
	}
	command, separator, rest := slices.Clone(argv[:at]), argv[at], argv[at+1:]
	switch {
	case len(command) == 0:
		return nil, nil, fmt.Errorf("no command before %s: give it first, as in: ctworker run -- echo {} %[1]s a b c", separator)
	case slices.ContainsFunc(rest, isSeparator):
		return nil, nil, errors.New("the command line contains ::: or :::: several times: give all inputs after one of them")
	case separator == lines && len(rest) != 1:
		return nil, nil, fmt.Errorf(":::: is followed by %d arguments: give one file, with one input per line, or - for standard input", len(rest))
	case separator == values && len(rest) == 0:
		return nil, nil, errors.New("no inputs after :::, so there are no tasks: give at least one, as in: ctworker run -- echo {} ::: a b c")
	}
	in = &Inputs{values: rest}
	if separator == lines {
		in = &Inputs{file: rest[0]}
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
		line := scanner.Text() // without the line break, also if it is CR LF
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

// newTask returns the task of a value. where is its place, for the error.
func newTask(value, where string) (pipeline.Task, error) {
	if !utf8.ValidString(value) {
		return pipeline.Task{}, fmt.Errorf("%s: %q is not UTF-8, and JSON cannot contain it: rename the file, if it is the name of one", where, value)
	}
	data := append(rawjson.AppendQuote([]byte(`{"value":`), value), '}')
	return pipeline.Task{ID: taskID(value), Data: data}, nil
}

const (
	// maxID is the maximum length of a value that is its own task ID, in bytes.
	maxID = 128
	// idStart is the length of the part of a longer value that its task ID contains.
	idStart = 40
)

// taskID returns the ID of the task of a value. It depends only on the value, so that --resume finds the
// task after inputs were added or removed. If the value is long or not printable, the ID ends with
// a part of the value's SHA-256.
func taskID(value string) string {
	if value != "" && len(value) <= maxID && strings.IndexFunc(value, unprintable) < 0 {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	start := strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, utf8cut.Start(value, idStart))
	return start + "#" + hex.EncodeToString(sum[:8])
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
