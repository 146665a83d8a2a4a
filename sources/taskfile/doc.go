// Package taskfile reads tasks from a local file, or from standard input, as a
// pipeline.Source. Files are streamed: whatever their size, only 64 KiB and one entry
// are in memory.
//
//	file ─► gzip, zstd ─► text ─► entries ─► Receive
//	        content.go    text.go  json.go   taskfile.go
//	                               yaml*.go
//
// YAML takes more steps. The text is split into entries (yamlsplit.go, yamlflow.go).
// Characters that the parser would misread are replaced (yamlmask.go). The entries of
// a chunk are parsed together (yaml.go). The nodes are converted to JSON (yamlvalue.go)
// with the core schema of YAML 1.2 (yamlscalar.go). The first value that YAML 1.1 reads
// differently is reported (yaml11.go).
//
// A task file is a list of objects, each with a task_id, which is a non-empty
// string, and data, which is any JSON value; other keys are ignored. It is
//
//   - a JSON array (.json), or JSON objects one after the other, with or
//     without line breaks between them (.jsonl, .ndjson, .json),
//   - a YAML list (.yaml, .yml) in block or flow style, or several documents
//     that each hold one; anchors are known within one task, and
//   - any of these compressed with gzip or zstd.
//
// The name decides the format; where it does not say, the first byte does: "["
// begins a JSON array, "{" JSON lines, and anything else YAML. Compression is
// recognised by the content. Text is UTF-8.
//
// # Guarantee
//
// Data from JSON is delivered byte for byte. YAML is read as YAML 1.2, and its data is
// converted to JSON: numbers keep their digits, objects the order of their keys; dates
// are strings. Nothing in a file is executed. Memory is limited to a multiple of
// Options.MaxTaskSize: a few times that size for JSON, about a hundred times for YAML,
// whose parser builds a tree.
//
// A broken entry ends the reading with an *Error that says in which file, at
// which entry and line, and what would be right. The tasks before it are
// delivered. No entry is passed over in silence.
//
// # What it is not for
//
// It opens no file that is elsewhere (package remote does), and it does not remember what was done: a
// file read again yields the same tasks again, unless Options.Skip says where
// to begin. A list is read once; to draw tasks from code, see the function
// source.
package taskfile
