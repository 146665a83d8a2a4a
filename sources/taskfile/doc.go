// Package taskfile reads tasks from a local file, or from standard input, as a
// pipeline.Source. Files are streamed: in memory are 64 KiB and one entry,
// whatever the file's size.
//
//	file ─► gzip, zstd ─► text ─► entries ─► Receive
//	        content.go    text.go  json.go   taskfile.go
//	                               yaml*.go
//
// YAML takes a few steps more: the text is split into entries (yamlsplit.go,
// yamlflow.go), those of a chunk are parsed together (yaml.go) after what the parser
// would misread has been replaced (yamlmask.go), and the nodes become JSON
// (yamlvalue.go) by the core schema of YAML 1.2 (yamlscalar.go). Values that YAML 1.1
// reads differently are reported (yaml11.go).
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
// Data from JSON is delivered byte for byte. Data from YAML, which is read as YAML
// 1.2, becomes the JSON that means the same: numbers keep their digits, objects the
// order of their keys; dates are strings. Nothing in a file is executed, and none can
// take more memory than some multiple of Options.MaxTaskSize: a few times for JSON, and
// for YAML, whose parser builds a tree, a hundred times or so.
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
