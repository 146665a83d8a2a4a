package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// hiddenMessages is a proxy for an SQS server. While hidden is set, it answers that the queue is empty, as
// a slow server can.
type hiddenMessages struct {
	hidden atomic.Bool
	*httptest.Server
}

func hideMessages(t *testing.T, address string) *hiddenMessages {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	h := &hiddenMessages{}
	h.hidden.Store(true)
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.hidden.Load() && strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			_, _ = w.Write([]byte("{}"))
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return h
}

// While the queue still contains events, "ctworker events" does not end as if it had read all of
// them.
func TestEvents_SlowQueue(t *testing.T) {
	t.Parallel()
	c, address := startSQS(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[0], cloud: c, counter: c.counter(), counterAddress: address}
	j.useAddress(address)
	const n = 25
	var bodies []string
	for i := range n {
		bodies = append(bodies, fmt.Sprintf(`{"event_type":"task_completed","task_id":"t%d"}`, i))
	}
	c.publish("jobs-events", bodies...)
	slow := hideMessages(t, address)
	j.useAddress(slow.URL)

	in := j.do(app.ExitStrict, "events", "--output", "never.jsonl", "--idle-timeout", "0.2")
	in.wantError("reading on", "0 events written", "about 25 messages remain in the queue (25 waiting, 0 in flight, 0 delayed); run the command again to read them")

	in = j.prepare("events", "--output", "events.jsonl", "--idle-timeout", "0.2").start()
	for {
		text, grown := in.stderr.growth()
		if strings.Contains(text, "reading on") {
			break
		}
		<-grown
	}
	slow.hidden.Store(false)
	in.want(app.ExitOK)
	in.wantError("25 events written and deleted from the queue jobs-events: 25 task_completed")
}
