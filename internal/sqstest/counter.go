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

// A Counter stands before a server and counts what it is asked for.
type Counter struct {
	// URL is its address.
	URL string

	mu      sync.Mutex
	actions map[string]int
	refused map[string]bool // actions that do not reach the server
}

// Count starts a Counter before the server at endpoint. It is ended with the test.
func Count(t testing.TB, endpoint string) *Counter {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := &Counter{actions: map[string]int{}, refused: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the queues' addresses are made of it
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		c.mu.Lock()
		c.actions[action]++
		refused := c.refused[action]
		c.mu.Unlock()
		if refused {
			Refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "not now")
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

// Refuse has an action answered as by a server that is away, or no longer.
func (c *Counter) Refuse(action string, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[action] = away
}

// Of is how often an action has been asked for.
func (c *Counter) Of(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.actions[action]
}

// All is how many requests there have been.
func (c *Counter) All() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := 0
	for _, n := range c.actions {
		all += n
	}
	return all
}

// Table is what has been asked for, by action, and in all for each of n tasks.
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
