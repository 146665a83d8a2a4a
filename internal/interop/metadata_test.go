//go:build interop

package interop

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The names of this machine in the metadata services.
const (
	awsInstance = "i-0123456789abcdef0"
	gcpInstance = "rmscr-interop-0"
)

// startMetadata starts a server that simulates the metadata services of both clouds, without
// a termination notice, and returns its address.
func startMetadata(t *testing.T) (address string) {
	t.Helper()
	closed := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
			_, _ = io.WriteString(w, "token")
		case "/latest/meta-data/instance-id":
			_, _ = io.WriteString(w, awsInstance)
		case "/computeMetadata/v1/instance/name":
			_, _ = io.WriteString(w, gcpInstance)
		case "/computeMetadata/v1/instance/preempted", "/computeMetadata/v1/instance/maintenance-event":
			w.Header().Set("ETag", "1")
			if r.URL.Query().Get("last_etag") == "1" { // a long poll, and the value never changes
				select {
				case <-r.Context().Done():
				case <-closed:
				}
			}
			_, _ = io.WriteString(w, map[bool]string{true: "FALSE", false: "NONE"}[strings.HasSuffix(r.URL.Path, "preempted")])
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(func() {
		close(closed)
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://")
}
