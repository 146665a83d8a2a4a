package taskfile

import (
	"bytes"
	"errors"
	"io"
)

// A yamlSplitter finds the entries of YAML lists. The parser alone cannot read a large file,
// because it holds its whole input in memory.
//
//   - In a block list, an entry starts at a line with a "-" at the list's own indentation.
//     Such a line is never inside an entry, because YAML requires that all lines of an entry
//     are indented more deeply, even the lines of a multi-line string. All other lines belong
//     to the entry before them. The parser reports lines that are invalid there.
//   - In a flow list, an entry ends at a comma or at the closing bracket. To find the end of
//     an entry, the splitter scans the characters; see flowScanner.
type yamlSplitter struct {
	lines   lines
	limit   int64
	state   splitState
	indent  int    // of the block list
	rest    []byte // the unread part of a flow list's line
	flow    flowScanner
	noComma bool // rest starts an entry of a flow list without a comma before it
	isFlow  bool // the entries are of a flow list

	// text contains the entries that the last fill found, followed by the beginning of the current
	// entry. All these entries belong to the same list.
	text    []byte
	entries []yamlEntry
	current yamlEntry // the entry being read
}

// A yamlEntry locates an entry: text[start:end] contains its lines. In a flow list, text[start:end]
// also contains a comma before the entry and a line end after it.
type yamlEntry struct {
	start, end int
	textLine   int64 // the line in the file that text[start] is on
	line       int64 // the line in the file that the entry starts on
	offset     int64 // the offset in the file of the end of the entry
}

type splitState uint8

const (
	betweenLists splitState = iota // before a document's first line of content
	inBlock
	inFlow
	afterFlow // a document must not have anything after its list
)

// errPaused means that the splitter has found entries, and that it must read from the source to
// find another entry. This read may block.
var errPaused = errors.New("paused")

// fill finds at least one entry, and all further entries in the data that has already been read. An
// error applies to the text after these entries.
func (y *yamlSplitter) fill() error {
	rest := y.text[y.current.start:]
	y.text = y.text[:copy(y.text, rest)]
	y.current.start = 0
	y.entries = y.entries[:0]
	y.isFlow = y.state == inFlow
	for {
		var found bool
		var err error
		switch {
		case y.state == inBlock:
			found, err = y.blockEntry()
		case y.state == inFlow:
			found, err = y.flowEntry()
		case len(y.entries) > 0: // the list has ended
			return nil
		default:
			err = y.findList()
			y.isFlow = y.state == inFlow
		}
		if found {
			y.current.end = len(y.text)
			y.current.offset = y.lines.offset() - int64(len(y.rest))
			y.entries = append(y.entries, y.current)
		}
		if found || y.state != inBlock && y.state != inFlow {
			y.text = y.text[:y.taken()]
			y.current = yamlEntry{start: len(y.text)}
		}
		if errors.Is(err, errPaused) {
			return nil
		}
		if err != nil {
			return y.explain(err)
		}
	}
}

// taken returns the length of the text that belongs to entries.
func (y *yamlSplitter) taken() int {
	if len(y.entries) == 0 {
		return 0
	}
	return y.entries[len(y.entries)-1].end
}

// nextLine returns the next line. If reading the line may block, and fill has found entries
// already, it returns errPaused.
func (y *yamlSplitter) nextLine() ([]byte, error) {
	if len(y.entries) > 0 && !y.lines.isBuffered() {
		return nil, errPaused
	}
	return y.lines.next()
}

// explain converts an error of lines to an *Error.
func (y *yamlSplitter) explain(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge(max(y.current.line, y.current.textLine, 1), y.limit)
	case errors.Is(err, errNotUTF8):
		return at(y.line(), err, reasonUTF8)
	}
	return err
}

func (y *yamlSplitter) line() int64 { return max(y.lines.number, 1) }

// findList reads up to the first entry of a block list, or the opening bracket of a flow list.
func (y *yamlSplitter) findList() error { //nolint:gocyclo // one case per kind of line
	if !isBlankLine(y.rest) { // the text after a closing bracket on the same line
		return y.trailing()
	}
	isComment := len(y.rest) > 0
	y.rest = nil
	for {
		line, err := y.lines.next()
		if err != nil {
			return err
		}
		if y.lines.isContinuation {
			if isComment {
				continue
			}
			return at(y.lines.number, nil, "the line is too long: only lines within the list of tasks may be this long")
		}
		isComment = bytes.HasPrefix(bytes.TrimLeft(line, jsonSpace), []byte{'#'})
		content := line
		switch marker(line) {
		case documentStart:
			y.state = betweenLists
			content = line[len("---"):]
		case documentEnd:
			y.state = betweenLists
			continue
		default:
			if line[0] == '%' && y.state == betweenLists {
				continue // a directive
			}
		}
		content = bytes.TrimLeft(content, " ")
		indent := len(line) - len(content)
		switch {
		case isBlankLine(content):
			continue
		case y.state == afterFlow:
			return y.trailing()
		case content[0] == '[':
			y.state = inFlow
			y.flow = flowScanner{depth: 1}
			y.rest = content[1:]
			return nil
		case startsEntry(content) && marker(line) == noMarker:
			y.state, y.indent = inBlock, indent
			y.lines.pushBack()
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

// blockEntry appends the lines of the current entry to text. It returns false at the end of
// the list.
func (y *yamlSplitter) blockEntry() (bool, error) {
	for {
		line, err := y.nextLine()
		if errors.Is(err, errPaused) {
			return false, err
		}
		isFirst := len(y.text) == y.current.start
		if isFirst {
			y.current.textLine, y.current.line = y.lines.number, y.lines.number
		}
		startsLine := !y.lines.isContinuation
		switch {
		case errors.Is(err, io.EOF) && !isFirst:
			y.state = betweenLists
			return true, nil
		case errors.Is(err, io.EOF):
			return false, err
		case !isFirst && startsLine && y.startsEntry(line): // even if err is not nil
			y.lines.pushBack()
			return true, nil
		case err != nil:
			return false, err
		case startsLine && marker(line) != noMarker:
			y.state = betweenLists
			y.lines.pushBack()
			return !isFirst, nil
		}
		y.text = append(y.text, line...)
		if int64(len(y.text)-y.current.start) > y.limit {
			return false, errTooLarge
		}
	}
}

// startsEntry reports whether the line starts an entry of the block list.
func (y *yamlSplitter) startsEntry(line []byte) bool {
	content := bytes.TrimLeft(line, " ")
	return len(line)-len(content) == y.indent && startsEntry(content)
}

// flowEntry reads up to the next comma or closing bracket, and appends what it has read to y.text.
// It returns false if there is no entry before the bracket.
func (y *yamlSplitter) flowEntry() (bool, error) { //nolint:gocyclo // one case per character that ends a part of the text
	if y.noComma {
		return false, at(y.lines.number, nil, "there is no comma between this entry and the one before it")
	}
	for {
		if len(y.text) == y.current.start {
			y.text = append(y.text, ',')
			y.current.textLine = y.lines.number
		}
		for i, c := range y.rest {
			next := y.lines.following()
			if i+1 < len(y.rest) {
				next = y.rest[i+1]
			}
			switch y.flow.step(c, next) {
			case flowComma, flowClose:
				y.text = append(append(y.text, y.rest[:i]...), '\n')
				y.rest = y.rest[i+1:]
				if c == ',' {
					if y.current.line == 0 {
						return false, at(y.lines.number, nil, "there is a comma where an entry must start")
					}
					return true, nil
				}
				y.state = afterFlow
				return y.current.line > 0, nil
			case flowNoComma:
				y.text = append(append(y.text, y.rest[:i]...), '\n')
				y.rest = y.rest[i:]
				y.noComma = true
				return true, nil
			case flowMismatch:
				return false, at(y.lines.number, nil, "there is a } where the list's closing ] must be")
			case flowContent:
				if y.current.line == 0 {
					y.current.line = y.lines.number
				}
			}
		}
		y.text = append(y.text, y.rest...)
		y.rest = nil
		if int64(len(y.text)-y.current.start) > y.limit {
			return false, errTooLarge
		}
		line, err := y.nextLine()
		if errors.Is(err, errPaused) {
			return false, err
		}
		if errors.Is(err, io.EOF) || err == nil && !y.lines.isContinuation && marker(line) != noMarker {
			return false, y.cutOff()
		}
		if err != nil {
			return false, err
		}
		y.rest = line
	}
}

// cutOff returns the error for a flow list that has no end.
func (y *yamlSplitter) cutOff() error {
	const reason = "the list ends before its closing ]: "
	if what, line := unclosed(y.text[y.current.start+1:], y.current.textLine); what != "" {
		return at(line, io.ErrUnexpectedEOF, reason+"%s on this line is not closed, or the file is cut off", what)
	}
	return at(y.lines.number, io.ErrUnexpectedEOF, reason+"it is cut off")
}

func (y *yamlSplitter) trailing() error {
	return at(y.lines.number, nil, "there is more after the closing ]: a document holds one list and nothing else")
}

type documentMarker uint8

const (
	noMarker documentMarker = iota
	documentStart
	documentEnd
)

// marker returns the document marker of a line, "---" or "...". A marker ends a document anywhere,
// even in the middle of a string.
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

// startsEntry reports whether content, a line without its indentation, starts with "- ".
func startsEntry(content []byte) bool {
	return len(content) > 0 && content[0] == '-' && (len(content) == 1 || isBlank(content[1]))
}

// isBlankLine reports whether a line, or the rest of a line, contains only white space and comments.
func isBlankLine(content []byte) bool {
	content = bytes.TrimLeft(content, jsonSpace)
	return len(content) == 0 || content[0] == '#'
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
