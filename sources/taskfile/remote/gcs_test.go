package remote

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// bearer is a transport that sends the same token with each request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// After Google has refused the credentials, renewed credentials are loaded.
func TestGS_RenewedCredentials(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "new" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "tasks")
	}))
	t.Cleanup(server.Close)
	var renewed atomic.Bool
	f := &gcsFile{address: server.URL, total: -1, connect: func(context.Context) (*http.Client, error) {
		if renewed.Load() {
			return &http.Client{Transport: bearer("new")}, nil
		}
		return &http.Client{Transport: bearer("old")}, nil
	}}
	client, err := f.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.use(client)
	for range 2 {
		if _, err := f.open(t.Context(), 0); err == nil {
			t.Fatal("the old token is taken")
		}
	}
	renewed.Store(true)
	body, err := f.open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	if got, err := io.ReadAll(body); err != nil || string(got) != "tasks" {
		t.Errorf("%q, %v", got, err)
	}
}
