// Package remote reads remote task files from https:// or http://, Amazon S3 (s3://) or Google
// Cloud Storage (gs://).
//
//	OpenTasks ─▶ object (http.go, s3.go, gcs.go) ─▶ reader (resume.go) ─▶ package taskfile
//	                ▲                                  │ the connection fails or stalls
//	                └── continue the same version ─────┘
//
// # Guarantee
//
// All bytes come from one version of the file. If the connection fails, reading continues at the
// same offset. If it cannot continue, because the file has changed or because the server does not
// report whether the file has changed, reading ends with an error. Nothing is stored on disk, and
// only a few kilobytes are held in memory.
//
// The password and the query of a URL do not appear in errors and names, and are not sent to other
// hosts.
//
// # Scope
//
// Package taskfile decompresses and parses the file.
package remote
