package results

import (
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/ctworker/ctworker/internal/rawjson"
)

const (
	// A row group ends after maxGroupRows rows, or when its values have maxGroupBytes bytes as JSON. The
	// compressed pages of a row group stay in memory until its end.
	maxGroupRows  = 1 << 17
	maxGroupBytes = 1 << 26
	// Each column has a buffer of up to maxPageBytes. All buffers together have up to maxBufferBytes.
	maxPageBytes, minPageBytes = 1 << 18, 1 << 13
	maxBufferBytes             = 1 << 26
	maxDictionaryBytes         = 1 << 20
	decimalBytes               = 16
)

// parquetWriter writes a Parquet file, compressed with Zstandard.
type parquetWriter struct {
	w       *parquet.GenericWriter[any]
	t       *table
	misfits *int64
	rows    []parquet.Row // one row
	text    []byte        // the texts of the row
	size    int           // the size of the row group
	count   int           // the number of its rows
}

func newParquetWriter(w io.Writer, t *table, misfits *int64) (*parquetWriter, error) {
	config, err := parquet.NewWriterConfig(
		schemaOf(t),
		parquet.Compression(&zstd.Codec{}),
		parquet.CreatedBy("ctworker", "", ""),
		parquet.WriteBufferSize(writeBuffer),
		parquet.PageBufferSize(min(max(maxBufferBytes/len(t.columns), minPageBytes), maxPageBytes)),
		parquet.DictionaryMaxBytes(maxDictionaryBytes),
	)
	if err != nil {
		return nil, err
	}
	return &parquetWriter{w: parquet.NewGenericWriter[any](w, config), t: t, misfits: misfits, rows: []parquet.Row{make(parquet.Row, len(t.columns))}}, nil
}

// orderedGroup is a group whose fields have the order of the columns. A parquet.Group sorts them by name.
type orderedGroup struct {
	parquet.Group
	columns []column
}

// Fields implements parquet.Node.
func (g orderedGroup) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range g.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(g.columns))
	for i := range g.columns {
		fields[i] = byName[g.columns[i].name]
	}
	return fields
}

func schemaOf(t *table) *parquet.Schema {
	g := orderedGroup{parquet.Group{}, t.columns}
	for i := range t.columns {
		node := nodeOf(t.columns[i].kind)
		switch t.columns[i].name {
		case "outcome", "hostname", "run_id": // few different values
			node = parquet.Encoded(node, &parquet.RLEDictionary)
		}
		if !required(i) {
			node = parquet.Optional(node)
		}
		g.Group[t.columns[i].name] = node
	}
	return parquet.NewSchema("results", g)
}

// required reports whether each row has a value in column i. The first columns are always the same.
func required(i int) bool { return i == taskIDColumn || i == outcomeColumn }

func nodeOf(kind columnType) parquet.Node {
	switch kind {
	case boolColumn:
		return parquet.Leaf(parquet.BooleanType)
	case intColumn:
		return parquet.Int(64)
	case decimalColumn:
		return parquet.Decimal(0, maxDigits, parquet.FixedLenByteArrayType(decimalBytes))
	case floatColumn:
		return parquet.Leaf(parquet.DoubleType)
	case timeColumn:
		return parquet.Timestamp(parquet.Microsecond)
	case textColumn:
	}
	return parquet.String()
}

func (p *parquetWriter) write(r *row) error {
	if !p.t.set(r) {
		return errChanged
	}
	p.text = p.text[:0]
	for i, v := range p.t.values {
		var value parquet.Value // null
		defined := 1
		if v != nil {
			p.size += len(v)
			value = p.valueOf(p.t.columns[i].kind, v)
			if value.IsNull() {
				*p.misfits++
			}
		}
		if value.IsNull() || required(i) {
			defined = 0
		}
		p.rows[0][i] = value.Level(0, defined, i)
	}
	if _, err := p.w.WriteRows(p.rows); err != nil {
		return err
	}
	if p.count++; p.count < maxGroupRows && p.size < maxGroupBytes {
		return nil
	}
	p.count, p.size = 0, 0
	return p.w.Flush()
}

func (p *parquetWriter) close() error { return p.w.Close() }

// valueOf returns a value of a column. It returns null for a value that is not of the type of the
// column, which occurs only in event columns.
func (p *parquetWriter) valueOf(kind columnType, v jsontext.Value) parquet.Value {
	switch {
	case kind == textColumn:
		start := len(p.text)
		p.text = appendText(p.text, v)
		return parquet.ByteArrayValue(p.text[start:])
	case kind == boolColumn && (v.Kind() == 't' || v.Kind() == 'f'):
		return parquet.BooleanValue(v.Kind() == 't')
	case kind == timeColumn && v.Kind() == '"':
		if t, err := parseTime(rawjson.Unquote(v)); err == nil {
			return parquet.Int64Value(t.UnixMicro())
		}
	case v.Kind() == '0':
		return numberOf(kind, string(v))
	}
	return parquet.Value{}
}

// numberOf returns a number of a column, or null if its type does not fit.
func numberOf(kind columnType, text string) parquet.Value {
	switch kind {
	case intColumn:
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return parquet.Int64Value(i)
		}
	case floatColumn:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return parquet.DoubleValue(f)
		}
	case decimalColumn:
		if i, ok := new(big.Int).SetString(text, 10); ok {
			if i.Sign() < 0 { // two's complement
				i.Add(i, new(big.Int).Lsh(big.NewInt(1), 8*decimalBytes))
			}
			return parquet.FixedLenByteArrayValue(i.FillBytes(make([]byte, decimalBytes)))
		}
	case boolColumn, timeColumn, textColumn:
	}
	return parquet.Value{}
}

// parseTime parses the timestamp of an event. It is in UTC unless it has a time zone.
func parseTime(text string) (time.Time, error) {
	if len(text) > len("2006-01-02T") && strings.ContainsAny(text[len("2006-01-02T"):], "Z+-") {
		return time.Parse(time.RFC3339Nano, text)
	}
	return time.Parse("2006-01-02T15:04:05", text) // accepts a fraction of a second
}
