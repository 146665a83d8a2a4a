package results

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// columnType is the type of a column of a Parquet file.
type columnType uint8

const (
	textColumn columnType = iota
	boolColumn
	intColumn     // 64 bits
	decimalColumn // 38 digits
	floatColumn   // 64 bits
	timeColumn
)

// eventColumn is a column with a field of the event.
type eventColumn struct {
	name, field string // field is the name of the field of the event, or usage. and a name
	kind        columnType
	// rare columns are omitted if no event has the field.
	rare bool
}

// eventColumns are the first columns of a table, in this order.
var eventColumns = [...]eventColumn{
	{name: "task_id", field: "task_id"},
	{name: "outcome", field: "event_type"},
	{name: "timestamp", field: "timestamp", kind: timeColumn},
	{name: "hostname", field: "hostname"},
	{name: "attempt", field: "attempt", kind: intColumn},
	{name: "slot", field: "slot", kind: intColumn},
	{name: "elapsed_time", field: "elapsed_time", kind: floatColumn},
	{name: "exit_code", field: "exit_code", kind: intColumn},
	{name: "exception", field: "exception"},
	{name: "stderr_line", field: "stderr_line"},
	{name: "retry", field: "retry", kind: boolColumn},
	{name: "retry_denied", field: "retry_denied"},
	{name: "rerun", field: "rerun", kind: boolColumn},
	{name: "run_id", field: "run_id"},
	{name: "cpu_seconds", field: "usage.cpu_seconds", kind: floatColumn},
	{name: "peak_memory_bytes", field: "usage.peak_memory_bytes", kind: intColumn},
	{name: "result_truncated", field: "result_truncated", kind: boolColumn, rare: true},
	{name: "result_bytes", field: "result_bytes", kind: intColumn, rare: true},
	{name: "result_base64", field: "result_base64", rare: true},
}

const (
	taskIDColumn  = 0
	outcomeColumn = 1
	// resultColumn is the name of the column of the results that are not objects.
	resultColumn = "result"
	prefix       = "result_"
)

// columnName returns the name of the column for a key of a result. It is the key, unless this key is the name of
// another column, or empty. In that case it has the prefix. Case is ignored, because many programs
// ignore it in the names of columns. A key that already looks like the result of this rule
// gets one more prefix, so different keys have different columns.
func columnName(key string) string {
	bare := key
	for {
		if isReserved(bare) {
			return prefix + key
		}
		if len(bare) < len(prefix) || !strings.EqualFold(bare[:len(prefix)], prefix) {
			return key
		}
		bare = bare[len(prefix):]
	}
}

func isReserved(name string) bool {
	if name == "" || strings.EqualFold(name, resultColumn) {
		return true
	}
	for i := range eventColumns {
		if strings.EqualFold(name, eventColumns[i].name) {
			return true
		}
	}
	return false
}

const (
	// maxColumns is the maximum number of columns for keys of results, and maxNameBytes that of the total length of
	// their names. The memory of a Parquet file that is being written depends on its columns.
	maxColumns   = 1000
	maxNameBytes = 1 << 20
)

// A column of a table.
type column struct {
	name string
	kind columnType
	seen kinds // the kinds of the values, if the column belongs to results
}

// A table contains the columns that a format with a fixed header needs.
type table struct {
	columns []column
	// event has the index of each event column in columns, or -1. result has the index of the column
	// for the results that are not objects, or -1. keys has those of the keys of results.
	event  [len(eventColumns)]int
	result int
	keys   map[string]int
	bytes  int
	values []jsontext.Value // of the row that set has set
}

// newTable returns a table with the columns that are not rare.
func newTable() *table {
	t := &table{result: -1, keys: map[string]int{}}
	for i := range eventColumns {
		t.event[i] = -1
		if !eventColumns[i].rare {
			t.addEvent(i)
		}
	}
	return t
}

func (t *table) addEvent(i int) {
	t.event[i] = len(t.columns)
	t.columns = append(t.columns, column{name: eventColumns[i].name, kind: eventColumns[i].kind})
}

// learn adds the columns that a row needs.
func (t *table) learn(r *row) error {
	for i, v := range r.event {
		if v != nil && t.event[i] < 0 {
			t.addEvent(i)
		}
	}
	for _, f := range r.result {
		i, err := t.indexOf(f.key)
		if err != nil {
			return err
		}
		t.columns[i].seen |= kindsOf(f.value)
	}
	return nil
}

// indexOf returns the index of the column for a key of a result. It adds the column if there is none.
func (t *table) indexOf(key []byte) (int, error) {
	if key == nil {
		if t.result < 0 {
			t.result = len(t.columns)
			t.columns = append(t.columns, column{name: resultColumn})
		}
		return t.result, nil
	}
	if i, ok := t.keys[string(key)]; ok {
		return i, nil
	}
	t.bytes += len(key)
	if len(t.keys) == maxColumns || t.bytes > maxNameBytes {
		return 0, fmt.Errorf("the results have too many different keys for a table: more than %d, or longer than 1 MiB in all; use --format jsonl, which has no limit, or move keys that differ between tasks into a nested object", maxColumns)
	}
	t.keys[string(key)] = len(t.columns)
	t.columns = append(t.columns, column{name: columnName(string(key))})
	return len(t.columns) - 1, nil
}

// finish determines the types of the columns. The table must not learn afterwards. Different keys have
// the same name if they differ only in lone surrogates, which are replaced; finish makes the names different.
func (t *table) finish() {
	names := map[string]bool{}
	for i := range t.columns {
		c := &t.columns[i]
		if i == t.result || c.seen != 0 {
			c.kind = c.seen.columnType()
		}
		c.name = strings.ToValidUTF8(c.name, "\uFFFD")
		for names[c.name] {
			c.name += "_"
		}
		names[c.name] = true
	}
	t.values = make([]jsontext.Value, len(t.columns))
}

// set sets t.values to the values of a row. It returns false if the row has a value for which there is no
// column.
func (t *table) set(r *row) bool {
	clear(t.values)
	for i, v := range r.event {
		switch c := t.event[i]; {
		case v == nil || v.Kind() == 'n':
		case c < 0:
			return false
		default:
			t.values[c] = v
		}
	}
	for _, f := range r.result {
		c, ok := t.result, true
		if f.key != nil {
			c, ok = t.keys[string(f.key)]
		}
		if !ok || c < 0 {
			return false
		}
		if f.value.Kind() != 'n' {
			t.values[c] = f.value
		}
	}
	return true
}

// kinds is a set of kinds of JSON values.
type kinds uint8

const (
	hasNull kinds = 1 << iota
	hasBool
	hasText        // strings, and objects and arrays as JSON text
	hasInt         // an integer that a float64 represents exactly
	hasLargeInt    // another integer of 64 bits
	hasDecimal     // an integer of up to 38 digits
	hasHugeNumber  // any other integer, and a number that is too large for a float64
	hasFloat       // a number with a fraction or an exponent
	numbers        = hasInt | hasLargeInt | hasDecimal | hasFloat
	maxDigits      = 38
	maxExactDigits = 15 // integers with so many digits are below 2^53
)

func kindsOf(v jsontext.Value) kinds {
	switch v.Kind() {
	case 'n':
		return hasNull
	case 't', 'f':
		return hasBool
	case '0':
		return kindOfNumber(v)
	}
	return hasText
}

func kindOfNumber(v []byte) kinds {
	digits := bytes.TrimPrefix(v, []byte("-"))
	switch {
	case bytes.ContainsAny(v, ".eE"):
		if _, err := strconv.ParseFloat(string(v), 64); err != nil {
			return hasHugeNumber
		}
		return hasFloat
	case len(digits) <= maxExactDigits:
		return hasInt
	case len(digits) > maxDigits:
		return hasHugeNumber
	}
	i, err := strconv.ParseInt(string(v), 10, 64)
	switch {
	case err != nil:
		return hasDecimal
	case i < -(1<<53) || i > 1<<53:
		return hasLargeInt
	}
	return hasInt
}

// columnType returns the smallest type that represents all values.
func (k kinds) columnType() columnType {
	switch k &^= hasNull; {
	case k == hasBool:
		return boolColumn
	case k == 0 || k&^numbers != 0:
		return textColumn
	case k&hasFloat == 0 && k&hasDecimal == 0:
		return intColumn
	case k&hasFloat == 0:
		return decimalColumn
	case k&(hasLargeInt|hasDecimal) == 0:
		return floatColumn
	}
	return textColumn // a float64 would change the integers
}

// appendText appends the text of a value: a string without its quotation marks, and any other value as JSON. Lone
// surrogates in strings are replaced by U+FFFD.
func appendText(b []byte, v jsontext.Value) []byte {
	if v.Kind() != '"' {
		return append(b, v...)
	}
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return append(b, inner...)
	}
	return append(b, strings.ToValidUTF8(rawjson.Unquote(v), "\uFFFD")...)
}
