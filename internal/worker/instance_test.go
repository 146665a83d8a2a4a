package worker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

// The host name stands for the instance's ID only until the metadata service answers.
func TestInstance_AsksAgainAfterNoAnswer(t *testing.T) {
	var answers atomic.Bool
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !answers.Load():
			http.NotFound(w, r)
		case r.URL.Path == "/latest/meta-data/instance-id":
			asked.Add(1)
			_, _ = io.WriteString(w, "i-1")
		case r.URL.Path == "/latest/meta-data/placement/availability-zone":
			_, _ = io.WriteString(w, "us-east-1a")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	w := &Worker{hostname: "host", opts: Options{Config: &config.Config{Provider: config.AWS}}}
	if id, _ := w.instance(t.Context()); id != "host" {
		t.Errorf("the machine is %q, want the host name", id)
	}
	answers.Store(true)
	for range 2 {
		if id, zone := w.instance(t.Context()); id != "i-1" || zone != "us-east-1a" {
			t.Errorf("the machine is %q in %q", id, zone)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests for the ID, want 1", n)
	}
	w = &Worker{hostname: "host", opts: Options{Config: &config.Config{}}}
	if id, _ := w.instance(t.Context()); id != "host" {
		t.Errorf("without a provider the machine is %q", id)
	}
}
