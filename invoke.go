package ctworker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// caller calls the function for a task at a time and makes something that can be
// told of whatever it does.
type invoker struct {
	f         Func
	maxResult int64

	buf bytes.Buffer
	enc *json.Encoder
	out outcome // of the last call
}

// outcome is what came of a call.
type outcome struct {
	result []byte // one JSON value on one line; valid until the next call
	retry  bool
	// exception is why there is no result; "" where there is one.
	exception string
	final     bool // an exception that is not to be retried
}

func newInvoker(f Func, maxResult int64) *invoker {
	c := &invoker{f: f, maxResult: maxResult}
	c.enc = json.NewEncoder(&c.buf)
	c.enc.SetEscapeHTML(false)
	return c
}

// call calls the function and leaves what came of it in c.out. It does not return
// where the function ends its goroutine by runtime.Goexit, as t.FailNow of package
// testing does; c.out says so then.
func (c *invoker) invoke(ctx context.Context, t *Task) {
	c.out = outcome{exception: "the function ended its goroutine (runtime.Goexit) and returned nothing"}
	defer func() {
		if v := recover(); v != nil {
			c.out = outcome{exception: panicText(v)}
		}
	}()
	result, err := c.f(ctx, t)
	c.out = c.encodeResult(result, err)
}

// encoded is the outcome of a function that has returned.
func (c *invoker) encodeResult(result Result, err error) outcome {
	if err != nil {
		return outcome{exception: errorText(err), final: isFinal(err)}
	}
	again, asked := result.(retry)
	if asked {
		result = again.result
	}
	if c.buf.Cap() > keptBuffer {
		c.buf = bytes.Buffer{} // a large result has passed
	}
	c.buf.Reset()
	if err := c.enc.Encode(result); err != nil {
		return outcome{exception: fmt.Sprintf("the result, a %T, cannot be encoded as JSON (%v%s): return a value that encoding/json can encode",
			result, err, faultPlace(result))}
	}
	b := bytes.TrimSuffix(c.buf.Bytes(), []byte("\n"))
	if int64(len(b)) > c.maxResult {
		return outcome{exception: fmt.Sprintf("the result takes %d bytes as JSON, and --max-result-size is %d: raise it, or write the result to a file and return the file's name",
			len(b), c.maxResult)}
	}
	return outcome{result: b, retry: asked}
}

// keptBuffer is how large a buffer is kept for the next task.
const keptBuffer = 1 << 20

// The bounds of what is told of an exception.
const (
	maxFrames = 64
	maxChain  = 64
	maxText   = 64 << 10
)

// errorText is the error and what it wraps, outermost first, a line each.
func errorText(err error) (text string) {
	var b strings.Builder
	defer func() {
		_ = recover() // an Unwrap that panics ends the chain
		text = bounded(strings.TrimSuffix(b.String(), "\n"))
	}()
	left := maxChain
	writeChain(&b, err, "", &left)
	return ""
}

// isFinal reports whether NoRetry has marked the error. An error of the user's may
// panic when it is asked; then it has not.
func isFinal(err error) bool {
	defer func() { _ = recover() }()
	return errors.As(err, new(*permanentError))
}

func writeChain(b *strings.Builder, err error, indent string, left *int) {
	for ; err != nil && *left > 0; *left-- {
		// The mark itself, and not an error that wraps it.
		if marked, ok := any(err).(*permanentError); ok {
			err = marked.error
		}
		// Formatting survives an Error method that panics.
		line := fmt.Sprintf("%T: %v", err, err)
		b.WriteString(indent + strings.ReplaceAll(line, "\n", "\n"+indent+"  ") + "\n")
		switch wraps := any(err).(type) {
		case interface{ Unwrap() error }:
			err = wraps.Unwrap()
		case interface{ Unwrap() []error }:
			*left--
			for _, each := range wraps.Unwrap() {
				writeChain(b, each, indent+"  ", left)
			}
			return
		default:
			return
		}
	}
}

// panicText is what was passed to panic, and the stack of the goroutine that
// panics: of the user's frames, from the panic to the function itself.
func panicText(v any) string {
	text := "panic: "
	if err, ok := v.(error); ok {
		text += errorText(err)
	} else {
		text += bounded(fmt.Sprint(v))
	}
	pcs := make([]uintptr, 512)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var b strings.Builder
	panicking, shown := false, 0
	for {
		frame, more := frames.Next()
		name := frame.Function
		switch {
		case !panicking:
			panicking = name == "runtime.gopanic"
		case shown == 0 && strings.HasPrefix(name, "runtime."): // how it came to panic
		case strings.HasPrefix(name, invokerPrefix): // from here on it is ours
			more = false
		case shown == maxFrames:
			b.WriteString("\n…")
			more = false
		default:
			shown++
			fmt.Fprintf(&b, "\n%s\n\t%s:%d", name, frame.File, frame.Line)
		}
		if !more {
			return text + b.String()
		}
	}
}

// invokerPrefix begins the names of caller's methods.
const invokerPrefix = "github.com/ctworker/ctworker.(*invoker)."

// bounded is text, or its beginning if it is very long.
func bounded(text string) string {
	if len(text) <= maxText {
		return text
	}
	return utf8cut.Start(text, maxText) + " … (shortened)"
}
