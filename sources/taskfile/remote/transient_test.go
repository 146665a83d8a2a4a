package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// HTTP statuses that are transient in a response of a provider are also transient for a file.
func TestHTTP_RepeatsTransientStatuses(t *testing.T) {
	t.Parallel()
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 529} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			content := data(1000)
			var asked atomic.Int32
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) == 1 {
					w.WriteHeader(code)
					return
				}
				_, _ = w.Write(content)
			}))
			if got, err := read(t, s.URL+"/tasks.jsonl", Options{}); err != nil || !bytes.Equal(got, content) || asked.Load() != 2 {
				t.Errorf("%d bytes, %d requests: %v", len(got), asked.Load(), err)
			}
		})
	}
	for _, code := range []int{400, 404, 405, 410, 501} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.WriteHeader(code)
			}))
			if _, err := read(t, s.URL+"/tasks.jsonl", Options{}); err == nil || asked.Load() != 1 {
				t.Errorf("%d requests: %v", asked.Load(), err)
			}
		})
	}
}

// panicking is an object whose method open panics at every other call.
type panicking struct {
	content []byte
	calls   int
}

func (p *panicking) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	if p.calls++; p.calls%2 == 1 {
		panic("nil dereference")
	}
	return io.NopCloser(bytes.NewReader(p.content[offset:])), nil
}

func (p *panicking) size() int64 { return int64(len(p.content)) }
func (*panicking) close()        {}

// A panic in a library is handled like a broken connection.
func TestReader_GoesOnAfterAPanic(t *testing.T) {
	t.Parallel()
	p := &panicking{content: data(1500)}
	r := newReader("x", p, Options{}.withDefaults())
	defer func() { _ = r.Close() }()
	buffer := make([]byte, 200)
	n, err := r.Read(buffer)
	if err != nil || !bytes.Equal(buffer[:n], p.content[:n]) || p.calls != 2 {
		t.Errorf("%d bytes after %d openings: %v", n, p.calls, err)
	}
}
