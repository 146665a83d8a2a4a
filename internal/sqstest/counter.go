package sqstest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Counter is a reverse proxy that counts the requests to an SQS server.
type Counter struct {
	// URL is the URL of the Counter.
	URL string

	mu          sync.Mutex
	actions     map[string]int
	unavailable map[string]bool // actions that are answered with 503 instead of being forwarded
}

// NewCounter starts a Counter for the server at endpoint. It is stopped at the end of the test.
func NewCounter(t testing.TB, endpoint string) *Counter {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := &Counter{actions: map[string]int{}, unavailable: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the server builds the URLs of queues from it
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		c.mu.Lock()
		c.actions[action]++
		refused := c.unavailable[action]
		c.mu.Unlock()
		if refused {
			WriteError(w, http.StatusServiceUnavailable, "ServiceUnavailable", "not now")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	c.URL = server.URL
	return c
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
