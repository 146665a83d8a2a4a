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
	// Host is the server's host and port. Default: GCE_METADATA_HOST, and else
	// metadata.google.internal.
	Host string
}

// A request hangs until there is a change, or for gcpHang; one that has not been answered
// gcpLate after that never will be. Where hanging does not work, the server is asked every
// gcpEvery. Google's own client does not bound a request that hangs, so it is not used.
const (
	gcpLongPollTimeout = 60 * time.Second
	gcpRequestTimeout  = 10 * time.Second
	gcpEvery           = 5 * time.Second
	// gcpPause is the pause after a long poll that was answered within less than this time.
	gcpPause = time.Second
)

// Watch implements Watcher.
// Source: Google, Compute Engine, Preemptible VM instances; Query VM metadata.
func (g GCP) Watch(ctx context.Context, report func(Notice), warn func(string)) {
	host := g.host()
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}}
	defer client.CloseIdleConnections()
	// A panic in report or warn is this goroutine's, as with other watchers: it ends both
	// watches, and Wait below passes it on.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	tell, complain := &dedup{report: report}, &warnOnce{warn: warn}
	watch := func(path string, read func(body string) (Notice, bool)) {
		etag := ""
		for hanging := false; ; {
			began := time.Now()
			body, tag, err := g.get(ctx, client, host, path, etag, hanging)
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
					complain.once("the metadata server of Compute Engine does not answer as it should; without it this instance's preemption is not seen; outside of Google Cloud leave out --is-spot: " + err.Error())
					return
				}
				if n, ok := read(strings.TrimSpace(body)); ok {
					n.Source = "gcp instance/" + path
					tell.reportChange(n)
				}
			}()
			// Pause if the server does not wait for a change.
			pause := time.Duration(0)
			if hanging && time.Since(began) < gcpPause {
				pause = gcpPause
			}
			if etag, hanging = tag, err == nil && tag != ""; !hanging {
				pause = gcpEvery
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

// get returns a value with its tag; hanging, once it has another tag than etag.
func (g GCP) get(ctx context.Context, client *http.Client, host, path, etag string, hanging bool) (body, tag string, err error) {
	address := "http://" + host + "/computeMetadata/v1/instance/" + path
	limit := gcpRequestTimeout
	if hanging {
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
		return "", "", fmt.Errorf("%s answers %s", path, response.Status)
	}
	return string(text), response.Header.Get("ETag"), nil
}
