package taskproto

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Hello is the first message to a worker process.
type Hello struct {
	Version int `json:"version"`
	Slot    int `json:"slot"`
	// MaxResultSize is the maximum size of a result in bytes; 0 means no limit.
	MaxResultSize int64 `json:"max_result_size"`
	// Worker is the JSON object with the worker data.
	Worker jsontext.Value `json:"worker"`
}

// Append appends the message to b, as one line. An empty Worker becomes {}.
func (h Hello) Append(b []byte) []byte {
	worker := h.Worker
	if len(worker) == 0 {
		worker = jsontext.Value("{}")
	}
	return fmt.Appendf(b, `{"hello":{"version":%d,"slot":%d,"max_result_size":%d,"worker":%s}}`+"\n", h.Version, h.Slot, h.MaxResultSize, worker)
}

// ParseHello parses the first line that ctworker sends. It returns an error if ctworker and this
// program use different versions of the protocol.
func ParseHello(line []byte) (Hello, error) {
	var first struct {
		Hello *Hello `json:"hello"`
	}
	if err := Unmarshal(line, &first); err != nil || first.Hello == nil {
		return Hello{}, errors.New("the first line from ctworker is not a hello message")
	}
	if v := first.Hello.Version; v != Version {
		return Hello{}, fmt.Errorf("ctworker uses version %d of the task protocol, and this program uses version %d: build the program with the version of ctworker that runs it", v, Version)
	}
	return *first.Hello, nil
}

// Ready is the first message of a worker process.
type Ready struct {
	Version int `json:"version"`
	// Ahead reports whether the process claims tasks. ctworker can then send it tasks in advance.
	Ahead bool   `json:"ahead"`
	SDK   string `json:"sdk"`
	// Ring reports whether the process uses the ring.
	Ring bool `json:"ring"`
}

// Append appends the message to b, as one line. SDK must contain only characters that JSON does not
// escape.
func (r Ready) Append(b []byte) []byte {
	b = fmt.Appendf(b, `{"ready":{"version":%d,"ahead":%t,`, r.Version, r.Ahead)
	if r.Ring {
		b = append(b, `"ring":true,`...)
	}
	return fmt.Appendf(b, `"sdk":"%s"}}`+"\n", r.SDK)
}
