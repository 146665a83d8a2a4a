package taskfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// yamlEntries reads YAML lists. It parses all entries that the splitter finds in a chunk of the
// file together, as one list, because parsing them separately is much slower. If an entry is
// invalid, yamlEntries parses each entry of the chunk separately, so that the error names the right
// entry. Both ways yield the same values.
type yamlEntries struct {
	split yamlSplitter
	err   error // the splitter's error after the entries
	index int   // of the next entry
	last  int64 // the offset in the file after the last entry

	// fault is the error of invalid lines after the entry that next returned last. The splitter
	// has assigned these lines to that entry.
	fault  error // the error of the first of these lines, or nil
	unread int64 // number of bytes in these lines

	// nodes contains the parsed entries. A node is nil if its entry must be parsed separately.
	// lines contains, for each entry, its line number in the parsed text.
	nodes    []*yaml.Node
	lines    []int64
	isMasked bool

	parsed []byte // the text that was parsed last
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
	if y.fault != nil {
		return pipeline.Task{}, y.fault
	}
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
	y.last = entry.offset - y.unread
	return task, nil
}

// parseAll parses all entries together, and stores them in nodes. If this fails, all nodes remain nil,
// and the method task parses each entry separately.
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
			y.nodes[i] = nil // the method task parses the entry separately, and reports the error
		}
	}
}

// parserLines counts line breaks as the parser does: a lone carriage return is a line break.
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

// parse parses y.split.text[start:end], which consists of complete entries.
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
			if list, isMasked, err = y.cutEntry(entry, err); err != nil {
				return task, err
			}
		}
		if list.Kind != yaml.SequenceNode || len(list.Content) != 1 {
			return task, at(entry.line, nil, "the text is not exactly one list entry: start each entry with '- ' on its own line, and end lines with LF or CRLF")
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
		task.Data = y.slab.copy(y.values.out)
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
		if id, ok := rawjson.IntegerID([]byte(text)); ok {
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
