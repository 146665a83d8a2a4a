package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/userstack"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// invoker calls the function for one task at a time. It converts the result, error, panic or
// runtime.Goexit of the call to an outcome.
type invoker struct {
	f         Func
	maxResult int64

	buf bytes.Buffer
	enc *json.Encoder
	out outcome // outcome of the last call
}

// outcome is the outcome of one call.
type outcome struct {
	result []byte // one JSON value on one line; valid until the next call
	retry  bool
	// exception is the reason why there is no result, or "" if there is one.
	exception string
	permanent bool // the exception must not be retried
}

func newInvoker(f Func, maxResult int64) *invoker {
	c := &invoker{f: f, maxResult: maxResult}
	c.enc = json.NewEncoder(&c.buf)
	c.enc.SetEscapeHTML(false)
	return c
}

// invoke calls the function and stores the outcome in c.out. It does not return if the function
// ends its goroutine with runtime.Goexit, as t.FailNow of package testing does. In this case, c.out
// contains an exception.
func (c *invoker) invoke(ctx context.Context, t Task) {
	c.out = outcome{exception: "the function called runtime.Goexit and returned no result"}
	defer func() {
		if v := recover(); v != nil {
			c.out = outcome{exception: panicText(v)}
		}
	}()
	result, err := c.f(ctx, t)
	c.out = c.encodeResult(result, err)
}

// encodeResult returns the outcome of a call that has returned.
func (c *invoker) encodeResult(result any, err error) outcome {
	if err != nil {
		return outcome{exception: errorText(err), permanent: isPermanent(err)}
	}
	retried, isRetry := result.(Retry)
	if isRetry {
		result = retried.Result
	}
	if c.buf.Cap() > maxKeptBuffer {
		c.buf = bytes.Buffer{} // free the memory of a large result
	}
	c.buf.Reset()
	if err := c.enc.Encode(result); err != nil {
		return outcome{exception: fmt.Sprintf("result of type %T cannot be encoded as JSON (%v%s): return a value that encoding/json can encode",
			result, err, FaultPath(result))}
	}
	b := bytes.TrimSuffix(c.buf.Bytes(), []byte("\n"))
	if int64(len(b)) > c.maxResult {
		return outcome{exception: fmt.Sprintf("result takes %d bytes as JSON, more than the limit of %d: raise --max-result-size, or write the result to a file and return the file's name",
			len(b), c.maxResult)}
	}
	return outcome{result: b, retry: isRetry}
}

// maxKeptBuffer is the maximum size of a buffer that is kept for the next task.
const maxKeptBuffer = 1 << 20

// The limits of the text of an exception.
const (
	maxChain = 64
	maxText  = 64 << 10
)

// errorText returns err and the errors that it wraps, outermost first, one per line.
func errorText(err error) (text string) {
	var b strings.Builder
	defer func() {
		_ = recover() // a panic in an Unwrap method ends the chain
		text = truncated(strings.TrimSuffix(b.String(), "\n"))
	}()
	remaining := maxChain
	writeChain(&b, err, "", &remaining)
	return ""
}

// isPermanent reports whether the error has been marked with PermanentError. If a method of the
// user's error panics, it returns false.
func isPermanent(err error) bool {
	defer func() { _ = recover() }()
	return errors.As(err, new(*PermanentError))
}

func writeChain(b *strings.Builder, err error, indent string, remaining *int) {
	for ; err != nil && *remaining > 0; *remaining-- {
		// Omit the marker itself, but not an error that wraps it.
		if marked, ok := any(err).(*PermanentError); ok {
			err = marked.Err
		}
		// Package fmt recovers a panic in an Error method.
		line := fmt.Sprintf("%T: %v", err, err)
		b.WriteString(indent + strings.ReplaceAll(line, "\n", "\n"+indent+"  ") + "\n")
		switch wrapper := any(err).(type) {
		case interface{ Unwrap() error }:
			err = wrapper.Unwrap()
		case interface{ Unwrap() []error }:
			*remaining--
			for _, each := range wrapper.Unwrap() {
				writeChain(b, each, indent+"  ", remaining)
			}
			return
		default:
			return
		}
	}
}

// panicText returns the argument of panic and the stack of the panicking goroutine, limited
// to the user's frames: from the panic to the function itself.
func panicText(v any) string {
	text := "panic: "
	if err, ok := v.(error); ok {
		text += errorText(err)
	} else {
		text += truncated(fmt.Sprint(v))
	}
	pcs := make([]uintptr, 512)
	return text + userstack.Format(pcs[:runtime.Callers(1, pcs)], func(function string) bool {
		return strings.HasPrefix(function, invokerPrefix) || strings.HasPrefix(function, adapterPrefix)
	})
}

// The prefixes of the names of two kinds of functions on the stack: the methods of invoker, and the
// function of package ctworker that adapts a user's function.
const (
	invokerPrefix = "github.com/ctworker/ctworker/internal/sdk.(*invoker)."
	adapterPrefix = "github.com/ctworker/ctworker.Func.run"
)

// truncated returns text, or its beginning if text is longer than maxText.
func truncated(text string) string {
	if len(text) <= maxText {
		return text
	}
	return utf8cut.Start(text, maxText) + " … (truncated)"
}

// appendReply appends the reply to a task. quoted is its ID as a JSON string.
func (o *outcome) appendReply(b, quoted []byte, maxResult int64) []byte {
	if o.exception != "" {
		return taskproto.AppendException(b, quoted, exceptionJSON(o.exception, maxResult), o.permanent)
	}
	return taskproto.AppendResult(b, quoted, o.retry, o.result)
}

// exceptionJSON returns text as a JSON string, truncated if it would exceed the maximum length of a
// line.
func exceptionJSON(text string, maxResult int64) []byte {
	b := rawjson.AppendQuote(nil, text)
	if int64(len(b))-maxText/2 > maxResult {
		b = rawjson.AppendQuote(b[:0], utf8cut.Start(text, maxText/16)+" … (truncated)")
	}
	return b
}
