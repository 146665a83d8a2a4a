package taskfile

import (
	"bytes"
	"errors"
	"io"

	"github.com/ctworker/ctworker/pipeline"
)

// yamlEntries reads YAML lists. The YAML parser holds a whole document in
// memory, so the stream is split into entries first, and the parser is given
// one at a time:
//
//   - In a block list, an entry starts at a line that has a "-" at the list's
//     own indentation. YAML wants whatever belongs to an entry, be it a string
//     of many lines, indented more deeply, so such a line is never inside one.
//     All other lines go to the entry before them, right or wrong; the parser
//     judges.
//   - In a flow list, an entry ends at a comma or at the bracket, which takes
//     a scan over the characters; see flowScanner.
type yamlEntries struct {
	lines  lines
	limit  int64
	where  place
	indent int // of the block list
	last   int64

	// The entry at hand: a list of one.
	chunk      []byte
	chunkLine  int64 // the line that chunk starts on
	entryLine  int64 // the line that the entry starts on
	rest       []byte
	flow       flowScanner
	fast       fastYAML
	yamlValues converter
	slab       slab
}

type place uint8

const (
	betweenLists place = iota // before a document's first line of content
	inBlock
	inFlow
	afterFlow // a document can hold nothing after its list
)

func newYAML(t *text, limit int64) *yamlEntries {
	return &yamlEntries{lines: lines{text: t, limit: limit}, limit: limit, fast: newFastYAML()}
}

func (y *yamlEntries) offset() int64 { return y.last }

func (y *yamlEntries) line() int64 { return max(y.lines.number, 1) }

func (y *yamlEntries) next(keep bool) (pipeline.Task, error) {
	if err := y.split(); err != nil {
		return pipeline.Task{}, y.explain(err)
	}
	task, err := y.task(keep)
	if err != nil {
		return pipeline.Task{}, err
	}
	y.last = y.lines.offset() - int64(len(y.rest))
	return task, nil
}

// explain puts what lines returned in words.
func (y *yamlEntries) explain(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge(max(y.entryLine, y.chunkLine, 1), y.limit)
	case errors.Is(err, errNotUTF8):
		return at(y.line(), err, reasonUTF8)
	}
	return err
}

// split puts the next entry into chunk.
func (y *yamlEntries) split() error {
	for {
		var found bool
		var err error
		switch y.where {
		case inBlock:
			found, err = y.blockEntry()
		case inFlow:
			found, err = y.flowEntry()
		default:
			err = y.findList()
		}
		if err != nil || found {
			return err
		}
	}
}

// findList reads up to the next list's first entry or bracket.
func (y *yamlEntries) findList() error {
	if !isBlankLine(y.rest) { // what follows a closing bracket on its line
		return y.trailing()
	}
	y.rest = nil
	for {
		line, err := y.lines.next()
		if err != nil {
			return err
		}
		content := line
		switch marker(line) {
		case documentStart:
			y.where = betweenLists
			content = line[len("---"):]
		case documentEnd:
			y.where = betweenLists
			continue
		default:
			if line[0] == '%' && y.where == betweenLists {
				continue // a directive
			}
		}
		content = bytes.TrimLeft(content, " ")
		indent := len(line) - len(content)
		switch {
		case isBlankLine(content):
			continue
		case y.where == afterFlow:
			return y.trailing()
		case content[0] == '[':
			y.where = inFlow
			y.flow = flowScanner{depth: 1}
			y.rest = content[1:]
			return nil
		case startsEntry(content) && marker(line) == noMarker:
			y.where, y.indent = inBlock, indent
			y.lines.hold()
			return nil
		case content[0] == '\t':
			return at(y.lines.number, nil, reasonTabs)
		}
		is := "the top level is not a list"
		if content[0] == '{' || content[0] == '?' || bytes.Contains(content, []byte(": ")) ||
			bytes.HasSuffix(bytes.TrimRight(content, jsonSpace), []byte(":")) {
			is = "the top level is a mapping"
		}
		return at(y.lines.number, nil, "%s: the tasks must be a list: start each with '- '", is)
	}
}

const reasonTabs = "a tab: YAML is indented with spaces only"

// blockEntry puts the lines from an entry's first to before the next one's
// into chunk. It returns false at the list's end.
func (y *yamlEntries) blockEntry() (bool, error) {
	y.chunk = y.chunk[:0]
	for {
		line, err := y.lines.next()
		isFirst := len(y.chunk) == 0
		if isFirst {
			y.chunkLine, y.entryLine = y.lines.number, y.lines.number
		}
		switch {
		case errors.Is(err, io.EOF) && !isFirst:
			y.where = betweenLists
			return true, nil
		case errors.Is(err, io.EOF):
			return false, err
		case !isFirst && y.startsEntry(line): // even if it is broken
			y.lines.hold()
			return true, nil
		case err != nil:
			return false, err
		case marker(line) != noMarker:
			y.where = betweenLists
			y.lines.hold()
			return !isFirst, nil
		}
		y.chunk = append(y.chunk, line...)
		if int64(len(y.chunk)) > y.limit {
			return false, errTooLarge
		}
	}
}

// startsEntry reports whether the line starts an entry of the block list.
func (y *yamlEntries) startsEntry(line []byte) bool {
	content := bytes.TrimLeft(line, " ")
	return len(line)-len(content) == y.indent && startsEntry(content)
}

// flowEntry puts the text up to the next comma or the closing bracket into
// chunk. It returns false if there is no entry before the bracket.
func (y *yamlEntries) flowEntry() (bool, error) {
	y.chunk = append(y.chunk[:0], '[')
	y.chunkLine, y.entryLine = y.lines.number, 0
	for {
		for i, c := range y.rest {
			next := byte('\n')
			if i+1 < len(y.rest) {
				next = y.rest[i+1]
			}
			switch y.flow.step(c, next) {
			case flowComma, flowClose:
				y.chunk = append(append(y.chunk, y.rest[:i]...), "\n]"...)
				y.rest = y.rest[i+1:]
				if c == ',' {
					if y.entryLine == 0 {
						return false, at(y.lines.number, nil, "there is a comma where an entry must start")
					}
					return true, nil
				}
				y.where = afterFlow
				return y.entryLine > 0, nil
			case flowMismatch:
				return false, at(y.lines.number, nil, "there is a } where the list's closing ] must be")
			case flowContent:
				if y.entryLine == 0 {
					y.entryLine = y.lines.number
				}
			}
		}
		y.chunk = append(y.chunk, y.rest...)
		y.rest = nil
		if int64(len(y.chunk)) > y.limit {
			return false, errTooLarge
		}
		line, err := y.lines.next()
		if errors.Is(err, io.EOF) || err == nil && marker(line) != noMarker {
			return false, at(y.lines.number, io.ErrUnexpectedEOF, "the list ends before its closing ]: it is cut off")
		}
		if err != nil {
			return false, err
		}
		y.rest = line
	}
}

func (y *yamlEntries) trailing() error {
	return at(y.lines.number, nil, "there is more after the closing ]: a document holds one list and nothing else")
}

type documentMarker uint8

const (
	noMarker documentMarker = iota
	documentStart
	documentEnd
)

// marker tells "---" and "...", which end a document wherever they are, even
// in the middle of a string.
func marker(line []byte) documentMarker {
	if len(line) > 3 && !isBlank(line[3]) || len(line) < 3 {
		return noMarker
	}
	switch string(line[:3]) {
	case "---":
		return documentStart
	case "...":
		return documentEnd
	default:
		return noMarker
	}
}

// startsEntry reports whether an unindented line starts with "- ".
func startsEntry(content []byte) bool {
	return len(content) > 0 && content[0] == '-' && (len(content) == 1 || isBlank(content[1]))
}

// isBlankLine reports whether a line, or what is left of it, says nothing.
func isBlankLine(content []byte) bool {
	content = bytes.TrimLeft(content, jsonSpace)
	return len(content) == 0 || content[0] == '#'
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
