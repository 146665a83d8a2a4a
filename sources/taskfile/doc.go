// Package taskfile reads tasks from a local file, or from standard input, as a
// pipeline.Source. Files are streamed: one entry is in memory at a time,
// whatever the file's size.
//
//	file ─► gzip, zstd ─► text ─► entries ─► Receive
//	        content.go    text.go  json.go   taskfile.go
//	                               yaml.go
//	                               yamlfast.go
//	                               yamlsplit.go
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
// Data from JSON is delivered byte for byte. Data from YAML becomes the JSON
// that says the same: numbers keep their digits, objects the order of their
// keys; dates and binary values become strings of their text. Nothing in a
// file is executed, and none can take more memory than some multiple of
// Options.MaxTaskSize: a few times for JSON, and for YAML, whose parser builds
// a tree, a hundred times or so.
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
