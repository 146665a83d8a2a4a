package sqstest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// If a client cancels a poll and then sends another request, the server receives that request only
// after the poll has ended.
func TestCounter_CancelsClosedPollFirst(t *testing.T) {
	polls := make(chan syscall.Conn, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "AmazonSQS.ReceiveMessage" {
			polls <- r.Context().Value(connKey{}).(syscall.Conn)
			<-r.Context().Done()
			return
		}
		if !isClosed(<-polls) {
			t.Error("a request arrived while the canceled poll was still active")
		}
	}))
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	server.Start()
	t.Cleanup(server.Close)
	c := NewCounter(t, server.URL)
	do := func(ctx context.Context, action string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", "AmazonSQS."+action)
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- do(ctx, "ReceiveMessage") }()
		conn := <-polls
		polls <- conn // for the next request
		cancel()
		if err := <-ended; err == nil {
			t.Error("the canceled poll returned no error")
		}
		if err := do(t.Context(), "ChangeMessageVisibility"); err != nil {
			t.Error(err)
		}
	}
}
