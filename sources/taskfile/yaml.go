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

// yamlEntries reads YAML lists. The entries that a splitter finds in a chunk of the
// file are parsed together, as one list, which is much faster than parsing each one.
// If any of them is invalid, each is parsed separately, so that the error names the
// right entry. Both ways of parsing give the same values.
type yamlEntries struct {
	split yamlSplitter
	err   error // the splitter's error after the entries
	index int   // of the next entry
	last  int64 // the offset in the file after the last entry

	// The entries as nodes, and the line of each in the parsed text. A node is nil if
	// its entry has to be parsed separately.
	nodes    []*yaml.Node
	lines    []int64
	isMasked bool

	parsed []byte // the text parsed last
	values converter
	slab   slab
}

func newYAML(t *text, opts contentOptions) *yamlEntries {
	y := &yamlEntries{split: yamlSplitter{lines: lines{text: t}, limit: opts.limit}}
	y.values.onAmbiguous = opts.onAmbiguous
	return y
}

func (y *yamlEntries) offset() int64 { return y.last }

func (y *yamlEntries) line() int64 { return y.split.line() }

func (y *yamlEntries) next(keep bool) (pipeline.Task, error) {
	if y.index == len(y.split.entries) {
		if y.err != nil {
			return pipeline.Task{}, y.err
		}
		y.err, y.index = y.split.fill(), 0
		if len(y.split.entries) == 0 {
			return pipeline.Task{}, y.err
		}
		y.parseAll()
	}
	entry := y.split.entries[y.index]
	task, err := y.task(entry, keep)
	if err != nil {
		return pipeline.Task{}, err
	}
	y.index++
	y.last = entry.offset
	return task, nil
}

// parseAll parses all entries together if they are valid, and otherwise leaves nodes nil.
func (y *yamlEntries) parseAll() {
	entries := y.split.entries
	if cap(y.nodes) < len(entries) {
		y.nodes, y.lines = make([]*yaml.Node, len(entries)), make([]int64, len(entries))
	}
	y.nodes, y.lines = y.nodes[:len(entries)], y.lines[:len(entries)]
	clear(y.nodes)
	list, isMasked, err := y.parse(0, y.split.taken())
	if err != nil || list.Kind != yaml.SequenceNode || len(list.Content) != len(entries) {
		return
	}
	line := int64(1)
	for i, e := range entries {
		y.lines[i] = line
		line += parserLines(y.split.text[e.start:e.end])
		// An unclosed quote, for example, may include the beginning of the next entry.
		if start := int64(list.Content[i].Line); start < y.lines[i] || start >= line && i < len(entries)-1 {
			clear(y.nodes)
			return
		}
		y.nodes[i] = list.Content[i]
	}
	y.isMasked = isMasked
	if bytes.IndexByte(y.parsed, '*') < 0 {
		return
	}
	for i, node := range y.nodes {
		if refersBefore(node, y.lines[i]) {
			y.nodes[i] = nil // parsed separately, which reports the error
		}
	}
}

// parserLines counts line breaks as the parser does: a lone carriage return is one.
func parserLines(text []byte) int64 {
	n := countLines(text)
	if returns := bytes.Count(text, []byte{'\r'}); returns > 0 {
		n += int64(returns - bytes.Count(text, []byte("\r\n")))
	}
	return n
}

// refersBefore reports whether n contains an alias of an anchor above line.
func refersBefore(n *yaml.Node, line int64) bool {
	if n.Kind == yaml.AliasNode {
		return int64(n.Alias.Line) < line
	}
	for _, child := range n.Content {
		if refersBefore(child, line) {
			return true
		}
	}
	return false
}

// parse parses the splitter's text[start:end], which consists of complete entries.
func (y *yamlEntries) parse(start, end int) (list *yaml.Node, isMasked bool, err error) {
	y.parsed, isMasked = appendMasked(y.parsed[:0], y.split.text[start:end])
	if y.split.isFlow {
		y.parsed[0] = '['
		y.parsed = append(y.parsed, ']')
	}
	list, err = parseYAML(bytes.NewReader(y.parsed))
	return list, isMasked, err
}

// task makes the task of an entry.
func (y *yamlEntries) task(entry yamlEntry, keep bool) (task pipeline.Task, err error) {
	node := y.nodes[y.index]
	y.nodes[y.index] = nil
	if node != nil {
		y.values.reset(entry.textLine-y.lines[y.index], y.isMasked, y.split.limit)
	} else {
		list, isMasked, err := y.parse(entry.start, entry.end)
		if err != nil {
			return task, y.syntax(entry, err)
		}
		if list.Kind != yaml.SequenceNode || len(list.Content) != 1 {
			return task, at(entry.line, nil, "not one entry of a list: start each entry with '- ' on its own line, and end lines with LF or CRLF")
		}
		node = list.Content[0]
		y.values.reset(entry.textLine-1, isMasked, y.split.limit)
	}
	id, data, err := y.fields(entry, node)
	if err != nil {
		return task, err
	}
	y.values.isChecking = true
	name, err := y.id(entry, id)
	if err != nil {
		return task, err
	}
	if err := y.values.value(data); err != nil {
		return task, err
	}
	if keep {
		task.ID = name
		task.Data = y.slab.keep(y.values.out)
	}
	return task, nil
}

// fields returns the values of an entry's task_id and data.
func (y *yamlEntries) fields(entry yamlEntry, node *yaml.Node) (id, data *yaml.Node, err error) {
	c := &y.values
	if node.Kind != yaml.MappingNode {
		return nil, nil, at(entry.line, nil, "the entry is %s: %s", c.typeOf(node), wantObject)
	}
	if node.Tag != mapTag {
		return nil, nil, c.fault(node, "%s", unknownTag(c.tag(node)))
	}
	if err := c.enter(node); err != nil {
		return nil, nil, err
	}
	fields, err := c.fields(node)
	if err != nil {
		return nil, nil, err
	}
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
		return nil, nil, at(entry.line, nil, reasonNoID)
	case data == nil:
		return nil, nil, at(entry.line, nil, reasonNoData)
	}
	return id, data, nil
}

// id returns the text of a task_id.
func (y *yamlEntries) id(entry yamlEntry, id *yaml.Node) (string, error) {
	if id.Kind == yaml.AliasNode {
		id = id.Alias
	}
	if id.Kind != yaml.ScalarNode {
		return "", at(entry.line, nil, "task_id is %s: it must be a string or an integer", y.values.typeOf(id))
	}
	text, s, err := y.values.scalar(id)
	switch {
	case err != nil:
		return "", err
	case s.kind == nullScalar:
		return "", at(entry.line, nil, "task_id is null: it must be a string or an integer")
	case s.kind != stringScalar:
		if id, ok := pipeline.IntegerID([]byte(text)); ok {
			return id, nil
		}
		return "", at(entry.line, nil, "task_id is %s: it must be a string, so put it in quotes: \"%s\"", s.kind, excerpt(text))
	case text == "":
		return "", at(entry.line, nil, reasonEmpty)
	}
	return text, nil
}

// parseYAML parses one document.
func parseYAML(r io.Reader) (root *yaml.Node, err error) {
	defer func() {
		// A bug in the parser causes a panic. Return it as the error of this entry.
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the YAML parser: %v", p)
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

// syntax explains an error of the YAML parser for an entry that was parsed separately.
func (y *yamlEntries) syntax(entry yamlEntry, err error) error {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(reason, "line "); ok {
		// This line is relative to the entry, and not always that of the error.
		_, reason, _ = strings.Cut(rest, ": ")
	}
	// The parser has no error types. Replace this message, which is misleading to a user
	// who does not know that entries are parsed separately.
	if rest, ok := strings.CutPrefix(reason, "unknown anchor '"); ok {
		name, _, _ := strings.Cut(rest, "'")
		before := y.parsed[:max(bytes.Index(y.parsed, []byte("*"+name)), 0)]
		return at(entry.textLine+countLines(before), err,
			"alias *%s refers to an anchor outside this task: define the anchor within the task", name)
	}
	if strings.HasPrefix(reason, "exceeded max depth") {
		return at(entry.line, err, reasonDepth, maxDepth)
	}
	line := y.faultLine(entry)
	switch space := indentation(y.parsed, line-entry.textLine); {
	case bytes.HasPrefix(space, []byte{'\t'}):
		return at(line, err, reasonTabs)
	case strings.Contains(reason, "a tab character where an indentation space is expected"):
		reason += "; if a block scalar starts with a tab, give its indentation, such as |2"
	case bytes.IndexByte(space, '\t') >= 0:
		reason += "; there is a tab in the indentation of the line"
	}
	return at(line, err, "%s: %s", reasonSyntax, reason)
}

// The parser does not support all valid YAML, and does not distinguish unsupported from
// invalid text.
const (
	reasonSyntax = "invalid or unsupported YAML"
	reasonDepth  = "the entry is nested more than %d deep"
)

// faultLine finds the line of a syntax error by feeding the entry to the parser one byte
// at a time, and counting how much of it the parser reads. If the parser reads all of it,
// as for an unclosed quote, faultLine returns the line of the entry's start.
func (y *yamlEntries) faultLine(entry yamlEntry) int64 {
	const lookahead = 4 // maximum bytes that the parser reads ahead
	slow := &slowReader{rest: append(bytes.Clone(y.parsed), "\n\n\n\n\n\n\n\n"...)}
	size := len(slow.rest)
	_, _ = parseYAML(slow) // fails with the known error
	if slow.ended {
		return entry.line
	}
	read := min(size-len(slow.rest), len(y.parsed))
	return entry.textLine + countLines(y.parsed[:max(read-lookahead, 0)])
}

// slowReader returns one byte per Read, so that the parser cannot read ahead.
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

// indentation returns the white space that a line of text, counted from 0, starts with.
func indentation(text []byte, line int64) []byte {
	for range line {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
}
