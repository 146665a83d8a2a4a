// Package remote reads a file that is elsewhere, from its first byte to its last: over
// https:// or http://, in Amazon S3 (s3://) or in Google Cloud Storage (gs://).
//
//	Open ─▶ object (http.go, s3.go, gs.go) ─▶ reader (resume.go) ─▶ the bytes
//	            ▲                                │ the connection broke, or stalls
//	            └──── the rest, of the same ─────┘
//
// # The guarantee
//
// What is read are the bytes of one version of the file. Where a connection breaks, the
// reading goes on at the byte where it was; where the file has been changed meanwhile,
// or nobody can tell whether it has, it ends with an error. Nothing is kept on disk, and
// of the file no more than a few kilobytes in memory.
//
// A password in an address, and what is behind its "?", are in no error and in no name,
// and are sent to no other host.
//
// # What it is not for
//
// It does not unpack, and knows no tasks: package taskfile does.
package remote
