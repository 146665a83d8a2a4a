package spotwatch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Azure watches the scheduled events of Azure's instance metadata service.
type Azure struct {
	// Endpoint is the URL of the service. Defaults to http://169.254.169.254.
	Endpoint string
}

// Azure recommends to poll every second. The first response may take two minutes, so the time limit
// of a request is longer than two minutes.
const (
	azurePollInterval   = time.Second
	azureErrorBackoff   = 5 * time.Second // pause after an error
	azureRequestTimeout = 130 * time.Second
)

// Watch implements Watcher.
// Source: Microsoft, Azure Metadata Service: Scheduled Events for Linux VMs.
func (a Azure) Watch(ctx context.Context, report func(Notice), warn func(error)) {
	endpoint := a.endpoint()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	reporter, warner := &dedup{report: report}, &warnOnce{warn: warn}
	name := ""
	for {
		wait := azurePollInterval
		var err error
		if name == "" { // the name of this machine; the service also returns the events of other machines in its group
			name, err = azureGet(ctx, client, endpoint+"/metadata/instance/compute/name?api-version=2021-02-01&format=text")
		}
		body := ""
		if err == nil {
			body, err = azureGet(ctx, client, endpoint+"/metadata/scheduledevents?api-version=2020-07-01")
		}
		var notices []Notice
		if err == nil {
			notices, err = parseAzureEvents(body, name)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			warner.report(fmt.Errorf("request to the Azure instance metadata service failed; until the service recovers, eviction notices for this machine are missed: %w", err))
			wait = azureErrorBackoff
		}
		for _, n := range notices {
			reporter.reportNew(n)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (a Azure) endpoint() string { return cmp.Or(a.Endpoint, "http://169.254.169.254") }

func azureGet(ctx context.Context, client *http.Client, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, azureRequestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Metadata", "true")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", statusError{request.URL.Path, response}
	}
	return strings.TrimSpace(string(text)), nil
}

func parseAzureEvents(body, name string) (notices []Notice, err error) {
	var document struct {
		Events []struct {
			EventType, NotBefore string
			Resources            []string
		}
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		return nil, fmt.Errorf("scheduledevents: %w", err)
	}
	for _, e := range document.Events {
		kind := Termination
		switch e.EventType {
		case "Preempt", "Terminate":
		case "Reboot", "Redeploy":
			kind = Maintenance
		default:
			continue
		}
		if !slices.Contains(e.Resources, name) {
			continue
		}
		at, _ := time.Parse(time.RFC1123, e.NotBefore) // NotBefore is empty if the event has started
		notices = append(notices, Notice{Kind: kind, Action: e.EventType, Deadline: at, Source: "azure scheduledevents"})
	}
	return notices, nil
}
