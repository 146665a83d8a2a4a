package taskfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ctworker/ctworker/pipeline"
)

// task makes the task of the entry in chunk.
func (y *yamlEntries) task(keep bool) (pipeline.Task, error) {
	if task, ok := y.fastTask(keep); ok {
		return task, nil
	}
	return y.parsedTask(keep)
}

// fastTask makes it if the entry is one that fastYAML knows.
func (y *yamlEntries) fastTask(keep bool) (task pipeline.Task, ok bool) {
	f := &y.fast
	if !f.read(y.chunk, y.limit) {
		return task, false
	}
	if keep {
		task.ID = unquote(f.out[f.id.from:f.id.to])
		task.Data = y.slab.keep(f.out[f.data.from:f.data.to])
	}
	return task, true
}

// parsedTask makes the task of any entry.
func (y *yamlEntries) parsedTask(keep bool) (task pipeline.Task, err error) {
	list, err := parseYAML(bytes.NewReader(y.chunk))
	if err != nil {
		return task, y.syntax(err)
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) != 1 {
		return task, at(y.entryLine, nil, "not one entry of a list: each starts with '- ' on a line of its own, ended by LF or CRLF")
	}
	c := &y.yamlValues
	c.reset(y.chunkLine, y.limit)
	entry := list.Content[0]
	if entry.Kind != yaml.MappingNode {
		return task, at(y.entryLine, nil, "the entry is %s: %s", yamlType(entry), wantObject)
	}
	if entry.Tag != mapTag {
		return task, c.unknownTag(entry)
	}
	if err := c.enter(entry); err != nil {
		return task, err
	}
	fields, err := c.fields(entry)
	if err != nil {
		return task, err
	}
	var id, data *yaml.Node
	for _, f := range fields {
		switch f.name {
		case "task_id":
			id = f.value
		case "data":
			data = f.value
		}
	}
	switch {
	case id == nil:
		return task, at(y.entryLine, nil, reasonNoID)
	case data == nil:
		return task, at(y.entryLine, nil, reasonNoData)
	}
	if id.Kind == yaml.AliasNode {
		id = id.Alias
	}
	if err := y.checkID(id); err != nil {
		return task, err
	}
	if err := c.value(data); err != nil {
		return task, err
	}
	if keep {
		task.ID = id.Value
		task.Data = y.slab.keep(c.out)
	}
	return task, nil
}

func (y *yamlEntries) checkID(id *yaml.Node) error {
	is := yamlType(id)
	if id.Style == 0 && id.Tag == strTag {
		if _, ok := number(id.Value); ok { // one too large for the parser
			is = "a number"
		}
	}
	switch {
	case id.Kind == yaml.ScalarNode && id.Tag != nullTag && is != "a string":
		return at(y.entryLine, nil, "task_id is %s: it must be a string, so put it in quotes: \"%s\"", is, id.Value)
	case is != "a string":
		return at(y.entryLine, nil, "task_id is %s: it must be a string", is)
	case id.Value == "":
		return at(y.entryLine, nil, reasonEmpty)
	}
	return nil
}

// parseYAML parses one document.
func parseYAML(r io.Reader) (root *yaml.Node, err error) {
	defer func() {
		// The parser panics where it meets a fault of its own. That must not
		// end a run of a million tasks without a word about which.
		if p := recover(); p != nil {
			err = fmt.Errorf("the YAML parser fails: %v", p)
		}
	}()
	decoder := yaml.NewDecoder(r)
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("more than one document")
		}
		return nil, err
	}
	return document.Content[0], nil
}

// syntax puts an error of the YAML parser in words.
func (y *yamlEntries) syntax(err error) error {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(reason, "line "); ok {
		// Its line is relative to the chunk, and not always the fault's.
		_, reason, _ = strings.Cut(rest, ": ")
	}
	// The parser has no error types. This is the one message whose words say
	// nothing to someone who does not know how the file is read.
	if rest, ok := strings.CutPrefix(reason, "unknown anchor '"); ok {
		name, _, _ := strings.Cut(rest, "'")
		before := y.chunk[:max(bytes.Index(y.chunk, []byte("*"+name)), 0)]
		return at(y.chunkLine+countLines(before), err,
			"alias *%s refers to an anchor outside this task: every task must stand on its own", name)
	}
	line := y.faultLine()
	if y.isTabbed(line) {
		return at(line, err, reasonTabs)
	}
	return at(line, err, "not valid YAML: %s", reason)
}

// faultLine finds the line at which the parser gives up, by feeding it the
// chunk a byte at a time and seeing how far it gets. A parser that reaches the
// end, as for a quote that is not closed, knows no better place than the
// entry's start.
func (y *yamlEntries) faultLine() int64 {
	const lookahead = 4 // the most that the parser peeks at for no reason
	slow := &slowReader{rest: append(bytes.Clone(y.chunk), "\n\n\n\n\n\n\n\n"...)}
	size := len(slow.rest)
	_, _ = parseYAML(slow) // it fails again
	if slow.ended {
		return y.entryLine
	}
	read := min(size-len(slow.rest), len(y.chunk))
	return y.chunkLine + countLines(y.chunk[:max(read-lookahead, 0)])
}

// slowReader gives a byte at a time, so that nobody reads ahead.
type slowReader struct {
	rest  []byte
	ended bool
}

func (s *slowReader) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		s.ended = true
		return 0, io.EOF
	}
	n := copy(p[:min(1, len(p))], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// isTabbed reports whether a line of the chunk is indented with a tab.
func (y *yamlEntries) isTabbed(line int64) bool {
	rest := y.chunk
	for range line - y.chunkLine {
		_, rest, _ = bytes.Cut(rest, []byte{'\n'})
	}
	return bytes.HasPrefix(bytes.TrimLeft(rest, " "), []byte{'\t'})
}
