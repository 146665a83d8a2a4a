package taskfile

import (
	"bytes"

	"gopkg.in/yaml.v3"
)

const (
	reasonStart = "an entry starts here, but not with '- ' in column %d: " +
		"start all entries like the first one, and indent their other lines alike"
	reasonIndent = "the line is indented less than the entry that it follows: " +
		"indent it like the entry's other lines, or start an entry with '- ' in column %d"
)

// cutEntry handles an entry of a block list that cannot be parsed because a line has too little
// indentation, for example the first line of another entry without its dash. The splitter cannot
// recognize such a line, because any indentation is valid within brackets and quotes.
//
// If the line starts another entry, and the text before the line is a complete entry, cutEntry
// returns the complete entry, and stores the error of the line in y.fault. In all other cases, the
// line may belong to the entry, and cutEntry returns an error. If no line has too little
// indentation, cutEntry explains err, which is the error of the parser.
func (y *yamlEntries) cutEntry(entry yamlEntry, err error) (list *yaml.Node, isMasked bool, _ error) { //nolint:gocyclo // one case per kind of line
	explained := y.syntaxError(entry, err)
	if y.split.isFlow {
		return nil, false, explained
	}
	text := y.split.text[entry.start:entry.end]
	stop, _ := y.stopLine(entry)
	column := contentColumn(text, y.split.indent)

	// The parser stops at the invalid line, or a few lines later if the line starts a scalar. If the
	// parser stopped within the first bytes of a line, stopLine may return the line before it.
	const maxTries = 8 // each try parses part of the entry
	tries := 0
	before := firstLines(text, stop-entry.textLine+2)
	for len(before) > 0 && tries < maxTries {
		before = before[:bytes.LastIndexByte(before[:len(before)-1], '\n')+1]
		line, _, _ := bytes.Cut(text[len(before):], []byte{'\n'})
		content := bytes.TrimLeft(line, " ")
		if len(before) == 0 || isBlankLine(content) || content[0] == '\t' {
			continue
		}
		starts, indent := startsTask(content), len(line)-len(content)
		if indent >= column && !(starts && startsEntry(content)) {
			continue
		}
		tries++
		list, isMasked, parseErr := y.parse(entry.start, entry.start+len(before))
		if parseErr != nil || list.Kind != yaml.SequenceNode || len(list.Content) != 1 {
			continue
		}
		if indent >= column && y.continuesWithDash(before, indent) {
			continue
		}
		y.values.reset(entry.textLine-1, isMasked, y.split.limit)
		if _, _, fieldsErr := y.fields(entry, list.Content[0]); !starts || fieldsErr != nil {
			return nil, false, at(entry.textLine+countLines(before), err, reasonIndent, y.split.indent+1)
		}
		y.fault = at(entry.textLine+countLines(before), err, reasonStart, y.split.indent+1)
		y.unread = int64(len(text) - len(before))
		return list, isMasked, nil
	}
	return nil, false, explained
}

// contentColumn returns the smallest indentation of the lines of an entry of a block list, outside
// of brackets and quotes. indent is the indentation of the entry's dash.
func contentColumn(text []byte, indent int) int {
	line, rest, _ := bytes.Cut(text, []byte{'\n'})
	content := bytes.TrimLeft(line[indent+1:], " ")
	for isBlankLine(content) && len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		content = bytes.TrimLeft(line, " ")
	}
	if len(content) > 0 && (content[0] == '&' || content[0] == '!') {
		return indent + 1 // the value with the anchor or the tag may follow on another line
	}
	return max(len(line)-len(content), indent+1)
}

// startsTask reports whether a line looks like the first line of an entry, with or without a dash.
// content is the line without its indentation.
func startsTask(content []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(content, "-{ \"'"), []byte("task_id"))
}

// continuesWithDash reports whether a "- " with the given indentation may follow the text.
func (y *yamlEntries) continuesWithDash(text []byte, indent int) bool {
	y.parsed, _ = appendMasked(y.parsed[:0], text)
	y.parsed = append(append(y.parsed, bytes.Repeat([]byte{' '}, indent)...), "- x: x\n"...)
	_, err := parseYAML(bytes.NewReader(y.parsed))
	return err == nil
}
