package worker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

// The host name replaces the ID of the instance only until the metadata service responds.
func TestInstance_RetriesUntilMetadataServiceResponds(t *testing.T) {
	var available, zoneFailed atomic.Bool
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !available.Load():
			http.NotFound(w, r)
		case r.URL.Path == "/latest/meta-data/instance-id":
			requests.Add(1)
			_, _ = io.WriteString(w, "i-1")
		case r.URL.Path == "/latest/meta-data/placement/availability-zone" && !zoneFailed.Swap(true):
			http.Error(w, "busy", http.StatusServiceUnavailable)
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
		t.Errorf("instance ID is %q, want the host name", id)
	}
	available.Store(true)
	if id, zone := w.instance(t.Context()); id != "i-1" || zone != "" {
		t.Errorf("instance ID is %q in zone %q, want i-1 in an unknown zone", id, zone)
	}
	for range 2 {
		if id, zone := w.instance(t.Context()); id != "i-1" || zone != "us-east-1a" {
			t.Errorf("instance ID is %q in zone %q, want i-1 in us-east-1a", id, zone)
		}
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests for the ID, want 2: one incomplete, one complete", n)
	}
	w = &Worker{hostname: "host", opts: Options{Config: &config.Config{}}}
	if id, _ := w.instance(t.Context()); id != "host" {
		t.Errorf("without a provider, the instance ID is %q, want the host name", id)
	}
}
