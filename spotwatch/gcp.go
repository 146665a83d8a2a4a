package spotwatch

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
)

// GCP watches the metadata server of Compute Engine.
type GCP struct {
	// Host is the host name of the server, with an optional port. Defaults to the value of the
	// environment variable GCE_METADATA_HOST or, if the variable is empty, to
	// metadata.google.internal.
	Host string
}

// Watch sends long polls: the server responds when the value changes, or after gcpLongPollTimeout.
// If no response arrives within gcpRequestTimeout after gcpLongPollTimeout, Watch cancels the request,
// because the connection may be broken. After a failed request, Watch sends a normal request every
// gcpPollInterval until a request succeeds.
const (
	gcpLongPollTimeout = 60 * time.Second
	gcpRequestTimeout  = 10 * time.Second
	gcpPollInterval    = 5 * time.Second
	// If a long poll takes less than gcpMinPollTime, Watch pauses for gcpMinPollTime, because the
	// server may not support long polls.
	gcpMinPollTime = time.Second
)

// Watch implements Watcher. Sources: Google, Compute Engine, Preemptible VM instances; Query VM
// metadata.
func (g GCP) Watch(ctx context.Context, report func(Notice), warn func(error)) {
	host := g.host()
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}}
	defer client.CloseIdleConnections()
	// If report or warn panics, both goroutines below end, and both.Wait panics in this goroutine.
	// The caller can therefore recover the panic, as with other Watchers.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	reporter, warner := &dedup{report: report}, &warnOnce{warn: warn}
	watch := func(path string, read func(body string) (Notice, bool)) {
		etag := ""
		for longPoll := false; ; {
			began := time.Now()
			body, tag, err := g.get(ctx, client, host, path, etag, longPoll)
			if ctx.Err() != nil {
				return
			}
			func() {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					warner.report(fmt.Errorf("request to the Compute Engine metadata server failed; until the server recovers, preemption notices for this instance are missed; outside of Google Cloud, pass --no-is-spot: %w", err))
					return
				}
				if n, ok := read(strings.TrimSpace(body)); ok {
					n.Source = "gcp instance/" + path
					reporter.reportNew(n)
				}
			}()
			// Do not send requests in a tight loop if the server returns from long polls
			// immediately.
			pause := time.Duration(0)
			if longPoll && time.Since(began) < gcpMinPollTime {
				pause = gcpMinPollTime
			}
			if etag, longPoll = tag, err == nil && tag != ""; !longPoll {
				pause = gcpPollInterval
			}
			if pause > 0 && !sleep(ctx, pause) {
				return
			}
		}
	}
	both := conc.NewWaitGroup()
	both.Go(func() {
		defer cancel()
		watch("preempted", func(body string) (Notice, bool) {
			return Notice{Kind: Termination, Action: "preempted"}, body == "TRUE"
		})
	})
	both.Go(func() {
		defer cancel()
		watch("maintenance-event", func(body string) (Notice, bool) {
			return Notice{Kind: Maintenance, Action: body}, body == "TERMINATE_ON_HOST_MAINTENANCE"
		})
	})
	both.Wait()
}

func (g GCP) host() string {
	return cmp.Or(g.Host, os.Getenv("GCE_METADATA_HOST"), "metadata.google.internal")
}

// get returns a value and the ETag of the value. If longPoll is true, get waits until the server's
// ETag differs from etag.
func (g GCP) get(ctx context.Context, client *http.Client, host, path, etag string, longPoll bool) (body, tag string, err error) {
	address := "http://" + host + "/computeMetadata/v1/instance/" + path
	limit := gcpRequestTimeout
	if longPoll {
		address += fmt.Sprintf("?wait_for_change=true&last_etag=%s&timeout_sec=%d", url.QueryEscape(etag), int(gcpLongPollTimeout.Seconds()))
		limit += gcpLongPollTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", "", err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", "", statusError{path, response}
	}
	return string(text), response.Header.Get("ETag"), nil
}
