// Package digest defines the digest of a worker: the state of the worker that each of its keep_alive
// events contains. Package worker writes it, and package monitor reads it.
package digest
