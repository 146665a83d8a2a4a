package procexec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// placeholders is one parsed argument of a command. In the argument, {task_id} and {data.KEY} are
// replaced by values of the task. Other text in braces stays unchanged.
type placeholders struct {
	text  string
	parts []part // nil if text contains no placeholders
}

type part struct {
	literal string
	taskID  bool
	key     string // KEY of {data.KEY}, or ""
}

// parsePlaceholders parses an argument. Every string is valid.
func parsePlaceholders(text string) placeholders {
	t := placeholders{text: text}
	rest, found := text, false
	for rest != "" {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			break
		}
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			break
		}
		name := rest[i+1 : i+end]
		key, isKey := strings.CutPrefix(name, "data.")
		isID := name == "task_id"
		if !isID && (!isKey || key == "") {
			t.parts = append(t.parts, part{literal: rest[:i+1]})
			rest = rest[i+1:]
			continue
		}
		found = true
		if i > 0 {
			t.parts = append(t.parts, part{literal: rest[:i]})
		}
		if isID {
			t.parts = append(t.parts, part{taskID: true})
		} else {
			t.parts = append(t.parts, part{key: key})
		}
		rest = rest[i+end+1:]
	}
	if !found {
		t.parts = nil
		return t
	}
	if rest != "" {
		t.parts = append(t.parts, part{literal: rest})
	}
	return t
}

// Expand returns the arguments of a command for a task, with the placeholders replaced. It returns an error
// if the data of the task does not have the key of a placeholder, or if a value cannot be an argument.
func Expand(argv []string, task Task) ([]string, error) {
	expanded := make([]string, len(argv))
	for i, arg := range argv {
		var err error
		if expanded[i], err = parsePlaceholders(arg).expand(task); err != nil {
			return nil, err
		}
	}
	return expanded, nil
}

// expand replaces the placeholders by values of the task. The result is always one argument, even
// if the values contain spaces or quotes, because no shell parses it.
func (t placeholders) expand(task Task) (string, error) {
	if t.parts == nil {
		return t.text, nil
	}
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.taskID:
			b.WriteString(task.ID)
		case p.key != "":
			v, err := lookup(task.Data, p.key)
			if err != nil {
				return "", fmt.Errorf("argument %q: no value for {data.%s}: %w", t.text, p.key, err)
			}
			b.WriteString(v)
		default:
			b.WriteString(p.literal)
		}
	}
	s := b.String()
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return "", fmt.Errorf("argument %q: the task's value contains a NUL character, but an argument cannot contain one; read the task from standard input", t.text)
	case !rawjson.IsUTF8(s) && rawjson.IsUTF8(t.text):
		return "", fmt.Errorf("argument %q: the task's value contains half of a surrogate pair, but an argument cannot contain one; read the task from standard input", t.text)
	}
	return s, nil
}

// missingKeyError is returned if the data of a task does not have the key of a placeholder.
type missingKeyError struct {
	problem string
	keys    []string // keys of the object, sorted
}

// maxShownKeys is the maximum number of keys in the text of a missingKeyError.
const maxShownKeys = 20

// Error returns the problem, and the keys that exist.
func (e *missingKeyError) Error() string {
	if len(e.keys) == 0 {
		return e.problem
	}
	shown := make([]string, 0, maxShownKeys)
	for _, key := range e.keys[:min(len(e.keys), maxShownKeys)] {
		shown = append(shown, strconv.Quote(utf8cut.Start(key, maxShownKey)))
	}
	more := ""
	if len(e.keys) > maxShownKeys {
		more = ", …"
	}
	return e.problem + "; its keys are " + strings.Join(shown, ", ") + more
}

// maxShownKey is the length to which a key in an error is cut, in bytes.
const maxShownKey = 100

// lookup returns the value of the member key of data. data must be a JSON object. If it has no
// member with that name, lookup uses key as a path of member names joined by dots. lookup returns a
// string without quotes, and any other value as JSON.
func lookup(data []byte, key string) (string, error) {
	if jsontext.Value(data).Kind() != '{' {
		return "", &missingKeyError{problem: "the task's data is not an object"}
	}
	var object map[string]jsontext.Value
	err := json.Unmarshal(data, &object, rawjson.Options())
	if err != nil {
		return "", fmt.Errorf("the task's data is not valid JSON: %w", err)
	}
	value, ok := object[key]
	if !ok {
		first, rest, dotted := strings.Cut(key, ".")
		inner, ok := object[first]
		if !dotted || !ok {
			return "", &missingKeyError{problem: fmt.Sprintf("the task's data has no %q", first), keys: slices.Sorted(maps.Keys(object))}
		}
		v, err := lookup(inner, rest)
		if err != nil {
			return "", fmt.Errorf("in %q: %w", first, err)
		}
		return v, nil
	}
	if value.Kind() != '"' {
		compact, _ := rawjson.Compact(value) // value is valid JSON
		return string(compact), nil
	}
	return rawjson.Unquote(value), nil
}
