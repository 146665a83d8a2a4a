// Package taskfile reads tasks from a local file or from standard input, as a
// pipeline.Source. Files are streamed: only 64 KiB and one entry are in memory, whatever the
// size of the file.
//
//	file ─► gzip, zstd ────► text ─────────► entries ─► Receive
//	        decompress.go    linereader.go   json.go    taskfile.go
//	                                         yaml*.go, csv.go
//
// YAML takes more steps. The text is split into entries (yamlsplit.go, yamlflow.go).
// Characters that the parser would misread are replaced (yamlmask.go). The entries of
// a chunk are parsed together (yaml.go). The nodes are converted to JSON (yamlvalue.go)
// with the core schema of YAML 1.2 (yamlscalar.go). The first value that YAML 1.1 reads
// differently is reported (yaml11.go).
//
// A task file is a list of objects. Each object has a task_id, which is a non-empty string or an
// integer, and data, which is any JSON value. Other keys are ignored. The file is one of these:
//
//   - a JSON array (.json), or JSON objects one after the other, with or
//     without line breaks between them (.jsonl, .ndjson, .json),
//   - a YAML list (.yaml, .yml) in block or flow style, or several documents that each
//     contain such a list; an alias must refer to an anchor in the same task,
//   - a CSV table (.csv, .tsv) whose first row names the columns: each further row
//     is a task, whose data is an object with a string for each column, and
//   - any of these compressed with gzip or zstd.
//
// The values of a .csv file are separated by commas, or by semicolons or tabs if the first row
// has no comma. A column task_id contains the IDs of the tasks. Without this column, the ID is the
// text of the row. If the text is long or not printable, the ID is its first characters and a hash.
//
// The file name determines the format. If the extension is unknown, the first byte that is not
// white space determines it: "[" starts a JSON array, "{" starts JSON lines, and anything else is
// YAML. Compression is detected from the content. Text is UTF-8.
//
// # Guarantee
//
// Data from JSON is delivered byte for byte. YAML is read as YAML 1.2, and its data is converted
// to JSON: decimal numbers keep their digits, objects keep the order of their keys, and dates become
// strings. Nothing in a file is executed. Memory is limited to a multiple of Options.MaxTaskSize:
// a few times that size for JSON, and about a hundred times that size for YAML, whose parser
// builds a tree.
//
// An invalid entry ends the reading with an *Error, which contains the file, the entry, the line
// and the reason. The tasks before the invalid entry are delivered. No entry is skipped silently.
//
// # Scope
//
// Package remote reads remote files. This package does not record which tasks have been done: a
// file that is read again yields the same tasks, unless Options.Skip skips some. To generate tasks
// in code, use package function.
package taskfile
