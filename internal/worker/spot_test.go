package worker

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ctworker/ctworker/spotwatch"
)

// A metadata service that fails when the run starts does not disable the watch for termination
// notices.
func TestIfSpot_WatchesIfServiceFailedAtStart(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(w, "token")
		case "/latest/meta-data/instance-life-cycle":
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case "/latest/meta-data/spot/instance-action":
			_, _ = io.WriteString(w, `{"action": "terminate", "time": "2030-01-01T00:00:00Z"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := false
	ifSpot{spotwatch.AWS{Endpoint: server.URL}}.Watch(ctx, func(n spotwatch.Notice) {
		seen = n.Kind == spotwatch.Termination
		cancel()
	}, func(err error) { t.Log(err) })
	if !seen {
		t.Error("no termination notice")
	}
}
