package sqstest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Counter is a reverse proxy that counts the requests to an SQS server. Once a client has closed
// the connection of a long poll, the Counter cancels the poll at the server before it forwards any
// later request. Otherwise the poll could receive messages that the client releases next.
type Counter struct {
	// URL is the URL of the Counter.
	URL string

	mu          sync.Mutex
	actions     map[string]int
	unavailable map[string]bool // actions that are answered with 503 instead of being forwarded
	polls       map[*poll]bool  // the polls that are being forwarded
}

// A poll is a ReceiveMessage request.
type poll struct {
	conn syscall.Conn  // the client's connection
	done chan struct{} // closed when the request to the server has ended
}

// connKey is the context key of a client's connection.
type connKey struct{}

// NewCounter starts a Counter for the server at endpoint. It is stopped at the end of the test.
func NewCounter(t testing.TB, endpoint string) *Counter {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := &Counter{actions: map[string]int{}, unavailable: map[string]bool{}, polls: map[*poll]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the server builds the URLs of queues from it
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		c.mu.Lock()
		c.actions[action]++
		refused := c.unavailable[action]
		c.mu.Unlock()
		if refused {
			WriteError(w, http.StatusServiceUnavailable, "ServiceUnavailable", "not now")
			return
		}
		if action == "ReceiveMessage" {
			defer c.addPoll(r)()
		} else {
			c.awaitClosedPolls()
		}
		proxy.ServeHTTP(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	c.URL = server.URL
	return c
}

// addPoll registers a poll, and returns a function to call when the poll has ended.
func (c *Counter) addPoll(r *http.Request) func() {
	conn, _ := r.Context().Value(connKey{}).(syscall.Conn)
	p := &poll{conn: conn, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.polls[p] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.polls, p)
		close(p.done)
	}
}

// awaitClosedPolls waits for the end of the polls whose client has closed the connection. The HTTP
// server cancels them as soon as it notices.
func (c *Counter) awaitClosedPolls() {
	c.mu.Lock()
	polls := slices.Collect(maps.Keys(c.polls))
	c.mu.Unlock()
	for _, p := range polls {
		if isClosed(p.conn) {
			<-p.done
		}
	}
}

// isClosed reports whether the peer has closed the connection.
func isClosed(c syscall.Conn) bool {
	conn, err := c.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = conn.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		closed = n == 0 && err == nil || err == unix.ECONNRESET
	})
	return closed || err != nil
}

// SetUnavailable makes requests for the action fail with status 503, or ends that.
func (c *Counter) SetUnavailable(action string, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unavailable[action] = away
}

// Count returns the number of requests for the action.
func (c *Counter) Count(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.actions[action]
}

// Total returns the number of all requests.
func (c *Counter) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := 0
	for _, n := range c.actions {
		all += n
	}
	return all
}

// Table returns a table with the number of requests by action, in total and per task for n tasks.
func (c *Counter) Table(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	all := 0
	for _, action := range slices.Sorted(maps.Keys(c.actions)) {
		_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f a task\n", action, c.actions[action], float64(c.actions[action])/float64(n))
		all += c.actions[action]
	}
	_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f a task\n", "in all", all, float64(all)/float64(n))
	return b.String()
}
