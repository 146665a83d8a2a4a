package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// toxiproxy is a proxy that simulates a bad network. It runs as a separate process, in the version
// that tools/go.mod requires, so that users of the library do not depend on toxiproxy.
type toxiproxy struct {
	t       *testing.T
	api     string
	address string // the proxy's address for clients
	log     lockedBuffer
}

const toxiproxyCommand = "github.com/Shopify/toxiproxy/v2/cmd/server"

// newToxiproxy starts a proxy for the server at target.
func newToxiproxy(t *testing.T, target string) *toxiproxy {
	t.Helper()
	program := filepath.Join(t.TempDir(), "toxiproxy")
	build := exec.Command("go", "build", "-trimpath", "-modfile=tools/go.mod", "-o", program, toxiproxyCommand)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // shares the build cache of "make build"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	host, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &toxiproxy{t: t, api: "http://" + net.JoinHostPort(host, port)}
	cmd := exec.Command(program, "-host", host, "-port", port)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p.retry("/version", nil)
	p.create(target)
	return p
}

// freeAddress returns an address that is not in use.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (p *toxiproxy) create(target string) {
	p.t.Helper()
	listen := freeAddress(p.t)
	p.retry("/proxies", map[string]any{
		"name": "cloud", "listen": listen, "upstream": target, "enabled": true,
	})
	p.address = listen
}

// retry repeats a request until it succeeds. The API may not have started yet, or another process
// may temporarily use the address that toxiproxy listens on.
func (p *toxiproxy) retry(path string, body any) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		err := p.request(path, body)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("toxiproxy: %v\n%s", err, p.log.String())
		}
	}
}

func (p *toxiproxy) request(path string, body any) error {
	method, content := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.api+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return nil
}

// delay delays each response by d.
func (p *toxiproxy) delay(d time.Duration) {
	p.t.Helper()
	p.retry("/proxies/cloud/toxics", map[string]any{
		"type": "latency", "stream": "downstream", "attributes": map[string]any{"latency": d.Milliseconds()},
	})
}

// reset makes the network reset a share of the connections at the first byte of a response. The
// request has then already taken effect.
func (p *toxiproxy) reset(share float64) {
	p.t.Helper()
	p.retry("/proxies/cloud/toxics", map[string]any{
		"type": "reset_peer", "stream": "downstream", "toxicity": share, "attributes": map[string]any{"timeout": 0},
	})
}

// setEnabled opens or closes the proxy. A closed proxy accepts and keeps no connections.
func (p *toxiproxy) setEnabled(up bool) {
	p.t.Helper()
	p.retry("/proxies/cloud", map[string]any{"enabled": up})
}

// connectionCount returns the number of connections accepted so far.
func (p *toxiproxy) connectionCount() int { return strings.Count(p.log.String(), "Accepted client") }

// The network is slow, loses a tenth of the responses, and fails for longer than a lease. No task
// is lost and no worker exits. Tasks whose leases expire run again.
func TestQueue_BadNetwork(t *testing.T) { onEach(t, badNetworkCase) }

func badNetworkCase(t *testing.T, j *job) {
	tasks, lease, blackout := taskCount(120, 800), "3", 4*time.Second
	if isFullSize() {
		lease, blackout = "5", 30*time.Second
	}
	j.countAttempts()
	j.load(tasks)
	b := j.recordStarts()
	network := newToxiproxy(t, j.address())
	network.delay(500 * time.Millisecond)
	j.useAddress(j.scheme + network.address)
	args := append([]string{"-j", "4", "--lease", lease}, b.command("exec sleep 0.1")...)
	startedAt := time.Now()
	var workers []*worker
	for i := range 4 {
		workers = append(workers, j.work(fmt.Sprintf("w%d", i), args...))
	}
	b.await(0, len(workers)) // a worker needs the queue to start
	network.reset(0.1)
	b.await(tasks/2, 0)
	outage := time.Now()
	network.setEnabled(false)
	<-time.After(blackout)
	for _, w := range workers {
		select {
		case <-w.exited:
			t.Errorf("worker %s exited during the network outage; stderr:\n%s", w.name, w.stderr.String())
		default:
		}
	}
	outageEnd := time.Now()
	network.setEnabled(true)
	b.await(tasks, 0)
	took := time.Since(startedAt)
	j.await("jobs", testTimeout, isEmpty)
	stopOnBadNetwork(workers)
	j.useAddress(j.counterAddress)
	n := j.wantEventOfEach(tasks)

	repeated := countRepeated(b.byTask())
	var first time.Duration // from the end of the outage to the first start of a task
	for _, at := range b.starts {
		if first = at.at.Sub(outageEnd); first > 0 {
			break
		}
	}
	connections := network.connectionCount()
	t.Logf("%d tasks, all started after %.1f s; network outage from %.1f s to %.1f s; the next task started %.1f s later",
		tasks, took.Seconds(), outage.Sub(startedAt).Seconds(), outageEnd.Sub(startedAt).Seconds(), first.Seconds())
	t.Logf("%d tasks started more than once; %d events; %d connections, a tenth of which was reset", repeated, n, connections)
	if connections < j.minConnections { // with so many connections, it is almost certain that some were reset
		t.Errorf("%d connections, want at least %d", connections, j.minConnections)
	}
}

// stopOnBadNetwork stops workers whose requests may still fail. Such a worker exits with 1 if the
// pause between two attempts is longer than its time limit for settling.
func stopOnBadNetwork(workers []*worker) {
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
	}
	for _, w := range workers {
		code := w.exitCode()
		unsettled := code == 1 && strings.Contains(w.stderr.String(), "gave up waiting for")
		if code != 0 && !unsettled {
			w.t.Errorf("worker %s: exit code %d, want 0; stderr:\n%s", w.name, code, w.stderr.String())
		}
	}
}

// A worker that cannot request tasks does not consider the queue empty. It continues when the
// network works again.
func TestQueue_NetworkOutageIsNotAnEmptyQueue(t *testing.T) {
	onEach(t, networkOutageIsNotAnEmptyQueueCase)
}

func networkOutageIsNotAnEmptyQueueCase(t *testing.T, j *job) {
	j.load(8)
	b := j.recordStarts()
	network := newToxiproxy(t, j.address())
	j.useAddress(j.scheme + network.address)
	w := j.work("w", append([]string{"-j", "4", "--lease", "2", "--idle-timeout", "8"}, b.command(`[ -e network-up ] || exec sleep 25`)...)...)
	b.await(4, 1)
	network.setEnabled(false) // the leases expire, and the running tasks are killed
	select {
	case <-w.exited:
		t.Errorf("the worker exited with code %d; stderr:\n%s", w.cmd.ProcessState.ExitCode(), w.stderr.String())
	case <-time.After(12 * time.Second):
	}
	write(t, j.dir, "network-up", "")
	network.setEnabled(true)
	w.wantExit(0)
	j.useAddress(j.counterAddress)
	j.wantEmpty()
	if ids := idsOf(j.readEvents()); len(ids) != 8 {
		t.Errorf("events of %d tasks, want 8", len(ids))
	}
}
