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

// Counter is a reverse proxy that counts the requests to an SQS server. If a client closes the
// connection of a long poll, the Counter waits until the server has canceled the poll before it
// forwards another request. Otherwise, the client could release messages with its next request, and
// the server could deliver them to the closed poll.
type Counter struct {
	// URL is the URL of the Counter.
	URL string

	mu          sync.Mutex
	actions     map[string]int
	unavailable map[string]bool // actions to which the Counter responds with status 503
	polls       map[*poll]bool  // the polls that are being forwarded
}

// poll is a ReceiveMessage request that is being forwarded.
type poll struct {
	conn syscall.Conn  // the client's connection
	done chan struct{} // closed when the request to the server has ended
}

// connKey is the key of the client's connection in the context of a request.
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
			r.Out.Host = r.In.Host // the server uses this host in the URLs of queues
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

// addPoll registers a poll, and returns a function that removes it. Call the function when the poll
// has ended.
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

// awaitClosedPolls waits for the end of all polls whose client has closed the connection. The HTTP
// server cancels a poll as soon as it notices that the client has closed the connection.
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

// isClosed reports whether the client has closed the connection.
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

// SetUnavailable makes all requests for the action fail with status 503, until SetUnavailable is
// called with away set to false.
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

// Table returns a table with the number of requests for each action, in total and divided by n, the
// number of tasks.
func (c *Counter) Table(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	all := 0
	for _, action := range slices.Sorted(maps.Keys(c.actions)) {
		_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f per task\n", action, c.actions[action], float64(c.actions[action])/float64(n))
		all += c.actions[action]
	}
	_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f per task\n", "total", all, float64(all)/float64(n))
	return b.String()
}
