package taskfile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// jsonEntries reads a JSON array, or a sequence of JSON objects, token by token in a single
// pass. The objects need not be on separate lines.
type jsonEntries struct {
	text  *text
	utf8  *utf8Reader
	dec   *jsontext.Decoder
	limit int64
	kind  fileKind
	begun bool
	slab  slab

	// seen detects duplicate keys in an entry. It maps each key, except task_id and data, to the
	// number of the last entry with that key. If entries have the same keys, as is usual, seen
	// needs no further memory.
	seen  map[string]*int64
	entry int64
}

// maxSeen limits the size of seen, for files whose entries all have different keys.
const maxSeen = 1024

func newJSON(t *text, k fileKind, limit int64) *jsonEntries {
	t.limit = limit
	checked := newUTF8Reader(t)
	return &jsonEntries{
		text: t,
		utf8: checked,
		// The decoder must accept lone surrogates. With the option for this, the decoder does not
		// check that the text is valid UTF-8; the utf8Reader checks it. Duplicate names within data
		// are allowed, because checking for them would cost a third of the speed.
		dec:   jsontext.NewDecoder(checked, rawjson.Options()),
		limit: limit,
		kind:  k,
		seen:  make(map[string]*int64),
	}
}

func (j *jsonEntries) offset() int64 { return j.dec.InputOffset() }

func (j *jsonEntries) line() int64 { return j.text.linesRead() + 1 }

func (j *jsonEntries) next(keep bool) (pipeline.Task, error) {
	if !j.begun {
		j.begun = true
		if err := j.begin(); err != nil {
			return pipeline.Task{}, err
		}
	}
	j.text.mark = j.dec.InputOffset()
	token, err := j.dec.ReadToken()
	if errors.Is(err, io.EOF) {
		return pipeline.Task{}, io.EOF
	}
	if err != nil {
		return pipeline.Task{}, j.syntaxError(err)
	}
	switch token.Kind() {
	case '{':
		task, err := j.object(keep)
		if j.offset() > j.utf8.invalid {
			return pipeline.Task{}, at(j.utf8.line, nil, reasonUTF8)
		}
		return task, err
	case ']':
		return pipeline.Task{}, j.end()
	default:
		return pipeline.Task{}, at(j.lineAt(j.offset()), nil, "the entry is %s: %s", jsonType(token.Kind()), wantObject)
	}
}

// begin determines whether the file is an array or a sequence of objects.
func (j *jsonEntries) begin() error {
	if j.kind == jsonLines {
		return nil
	}
	switch kind := j.dec.PeekKind(); kind {
	case '[':
		_, err := j.dec.ReadToken()
		return err
	case '{':
		j.kind = jsonLines
		return nil
	case jsontext.KindInvalid:
		_, err := j.dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return &Error{Reason: "the file is empty: a JSON file with no tasks is []"}
		}
		return j.syntaxError(err)
	default:
		return at(j.lineOfNext(), nil, "the file starts with %s: the tasks must be a list, [{...}, {...}]", jsonType(kind))
	}
}

// end checks that nothing follows the array.
func (j *jsonEntries) end() error {
	if j.dec.PeekKind(); len(bytes.Trim(j.dec.UnreadBuffer(), jsonSpace)) > 0 {
		return at(j.lineOfNext(), nil, "there is more after the closing ]: nothing may follow it")
	}
	_, err := j.dec.ReadToken()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return j.syntaxError(err)
}

// object reads the rest of an entry after its {.
func (j *jsonEntries) object(keep bool) (pipeline.Task, error) {
	j.text.mark = j.dec.InputOffset() - 1
	j.entry++
	if len(j.seen) > maxSeen {
		clear(j.seen)
	}
	var e jsonEntry
	for j.dec.PeekKind() == '"' {
		if err := j.member(&e, keep); err != nil {
			return e.task, err
		}
	}
	if _, err := j.dec.ReadToken(); err != nil { // the closing } is expected here
		return e.task, j.syntaxError(err)
	}
	switch {
	case j.dec.InputOffset()-j.text.mark > j.limit:
		return e.task, tooLarge(j.text.lineOfMark(), j.limit)
	case !e.hasID && !e.hasData && e.list != "":
		return e.task, at(j.text.lineOfMark(), nil, reasonInList, e.list)
	case !e.hasID:
		return e.task, at(j.text.lineOfMark(), nil, reasonNoID)
	case !e.hasData:
		return e.task, at(j.text.lineOfMark(), nil, reasonNoData)
	}
	return e.task, nil
}

// jsonEntry is the part of an entry that has been read.
type jsonEntry struct {
	task           pipeline.Task
	hasID, hasData bool
	list           string // in the first entry: the first other key whose value is an array
}

// member reads one member of an entry.
func (j *jsonEntries) member(e *jsonEntry, keep bool) error {
	name, err := j.dec.ReadValue()
	if err != nil {
		return j.syntaxError(err)
	}
	key := fieldOf(name)
	if j.isRepeated(e, key, name) {
		return at(j.lineAt(j.offset()), nil, "duplicate key %s in the entry", name)
	}
	if j.entry == 1 && key == isOther && e.list == "" && j.dec.PeekKind() == '[' {
		e.list = unquote(name) // before name becomes invalid
	}
	value, err := j.dec.ReadValue()
	if err != nil {
		return j.syntaxError(err)
	}
	switch key {
	case isID:
		e.hasID = true
		e.task.ID, err = j.id(value, keep)
	case isData:
		e.hasData = true
		if keep {
			e.task.Data = j.slab.copy(value)
		}
	}
	return err
}

// isRepeated reports whether the entry e already has the member name.
func (j *jsonEntries) isRepeated(e *jsonEntry, key field, name []byte) bool {
	switch key {
	case isID:
		return e.hasID
	case isData:
		return e.hasData
	}
	return j.isSeen(name)
}

// id checks the value of task_id, and makes the string if keep is true.
func (j *jsonEntries) id(v jsontext.Value, keep bool) (string, error) {
	switch {
	case v.Kind() == '0':
		id, ok := rawjson.IntegerID(v)
		if !ok {
			return "", at(j.text.lineOfMark(), nil, "task_id is %.40s, a number: it must be a string or an integer", v)
		}
		return id, nil
	case v.Kind() != '"':
		return "", at(j.text.lineOfMark(), nil, "task_id is %s: it must be a string or an integer", jsonType(v.Kind()))
	case len(v) == len(`""`):
		return "", at(j.text.lineOfMark(), nil, reasonEmpty)
	case !keep:
		return "", nil
	}
	return unquote(v), nil
}

// isSeen reports whether the entry has had this key before, and records the key.
func (j *jsonEntries) isSeen(quoted []byte) bool {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		quoted = []byte(`"` + unquote(quoted) + `"`) // "\u0061" is "a"
	}
	last := j.seen[string(quoted)]
	if last == nil {
		last = new(int64)
		j.seen[string(quoted)] = last
	}
	seen := *last == j.entry
	*last = j.entry
	return seen
}

type field uint8

const (
	isOther field = iota
	isID
	isData
)

func fieldOf(quoted []byte) field {
	switch string(quoted) {
	case `"task_id"`:
		return isID
	case `"data"`:
		return isData
	}
	if bytes.IndexByte(quoted, '\\') >= 0 {
		switch unquote(quoted) {
		case "task_id":
			return isID
		case "data":
			return isData
		}
	}
	return isOther
}

// unquote decodes a JSON string that the decoder has checked.
func unquote(quoted []byte) string { return rawjson.Unquote(quoted) }

func jsonType(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "true or false"
	default:
		return "null"
	}
}

const jsonSpace = " \t\r\n"

// lineAt returns the line of an offset in the decoder's unread buffer.
func (j *jsonEntries) lineAt(offset int64) int64 {
	unread := j.dec.UnreadBuffer()
	i := min(max(offset-j.dec.InputOffset(), 0), int64(len(unread)))
	return j.text.linesRead() - countLines(unread[i:]) + 1
}

// lineOfNext returns the line of the next token.
func (j *jsonEntries) lineOfNext() int64 {
	unread := j.dec.UnreadBuffer()
	space := len(unread) - len(bytes.TrimLeft(unread, jsonSpace))
	return j.lineAt(j.dec.InputOffset() + int64(space))
}

// syntaxError converts an error of the decoder to an *Error.
func (j *jsonEntries) syntaxError(err error) error {
	fault, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok { // the text could not be read
		if errors.Is(j.text.err, errTooLarge) {
			return tooLarge(j.text.lineOfMark(), j.limit)
		}
		return j.text.err
	}
	unread := j.dec.UnreadBuffer()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		end := j.dec.InputOffset() + int64(len(bytes.TrimRight(unread, jsonSpace)))
		if j.kind == jsonArray {
			return at(j.lineAt(end), err, "the file ends before the closing ]: it is cut off")
		}
		return at(j.lineAt(end), err, "the file ends in the middle of the entry: it is cut off")
	}
	rest := unread[min(max(fault.ByteOffset-j.dec.InputOffset(), 0), int64(len(unread))):]
	line := j.lineAt(fault.ByteOffset)
	if r, n := utf8.DecodeRune(rest); r == utf8.RuneError && n == 1 {
		return at(line, err, reasonUTF8)
	}
	if len(rest) > 0 && rest[0] == ',' && j.dec.StackDepth() <= 1 {
		if after := bytes.TrimLeft(rest[1:], jsonSpace); len(after) > 0 && after[0] == ']' {
			return at(line, err, "there is a comma before the closing ]: none may follow the last entry")
		}
		return at(line, err, "there is a comma where an entry must start")
	}
	return at(line, err, "not valid JSON: %s", strings.TrimPrefix(fault.Err.Error(), "jsontext: "))
}
