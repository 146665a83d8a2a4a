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

// toxiproxy is a network that is bad on purpose: a process of its own, of the version
// in tools/go.mod, so that the library's users do not inherit its dependencies.
type toxiproxy struct {
	t       *testing.T
	api     string
	address string // leads to the server, through it
	log     lockedBuffer
}

const toxiproxyCommand = "github.com/Shopify/toxiproxy/v2/cmd/server"

// newToxiproxy starts one before the server at target.
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
	p.await("/version", nil)
	p.create(target)
	return p
}

// freeAddress is one that nobody listens at now.
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
	p.await("/proxies", map[string]any{
		"name": "cloud", "listen": listen, "upstream": target, "enabled": true,
	})
	p.address = listen
}

// await asks until the answer is good: the API may not have started, and an address
// that is to be listened at may be somebody's for a moment.
func (p *toxiproxy) await(path string, body any) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		err := p.ask(path, body)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("toxiproxy: %v\n%s", err, p.log.String())
		}
	}
}

func (p *toxiproxy) ask(path string, body any) error {
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

// delay has each answer come so much later.
func (p *toxiproxy) delay(d time.Duration) {
	p.t.Helper()
	p.await("/proxies/cloud/toxics", map[string]any{
		"type": "latency", "stream": "downstream", "attributes": map[string]any{"latency": d.Milliseconds()},
	})
}

// reset has a share of the connections reset: at the first byte of an answer, when the
// request has had its effect.
func (p *toxiproxy) reset(share float64) {
	p.t.Helper()
	p.await("/proxies/cloud/toxics", map[string]any{
		"type": "reset_peer", "stream": "downstream", "toxicity": share, "attributes": map[string]any{"timeout": 0},
	})
}

// up has the network be there, or not: then nobody listens, and all connections end.
func (p *toxiproxy) up(up bool) {
	p.t.Helper()
	p.await("/proxies/cloud", map[string]any{"enabled": up})
}

// connections is how many there have been.
func (p *toxiproxy) connections() int { return strings.Count(p.log.String(), "Accepted client") }

// Through a slow network that loses one in ten answers, and is away for longer than a
// lease, no task is lost, and no worker ends. Leases that run out meanwhile have tasks
// run again.
func TestQueueThroughABadNetwork(t *testing.T) { onEach(t, throughABadNetworkCase) }

func throughABadNetworkCase(t *testing.T, j *job) {
	tasks, lease, blackout := size(120, 800), "3", 4*time.Second
	if full() {
		lease, blackout = "5", 30*time.Second
	}
	j.countAttempts()
	j.load(tasks)
	b := j.newJournal()
	network := newToxiproxy(t, j.address())
	network.delay(500 * time.Millisecond)
	j.via(j.scheme + network.address)
	args := append([]string{"-j", "4", "--lease", lease}, b.command("exec sleep 0.1")...)
	began := time.Now()
	var workers []*worker
	for i := range 4 {
		workers = append(workers, j.work(fmt.Sprintf("w%d", i), args...))
	}
	b.await(0, len(workers)) // to start, a worker needs the queue
	network.reset(0.1)
	b.await(tasks/2, 0)
	away := time.Now()
	network.up(false)
	<-time.After(blackout)
	for _, w := range workers {
		select {
		case <-w.ended:
			t.Errorf("worker %s ended while the network was away; stderr:\n%s", w.name, w.stderr.String())
		default:
		}
	}
	back := time.Now()
	network.up(true)
	b.await(tasks, 0)
	took := time.Since(began)
	j.await("jobs", hanging, isEmpty)
	stopOnBadNetwork(workers)
	j.via(j.home)
	n := j.wantAll(tasks)

	again := repeats(b.byTask())
	var first time.Duration // after it was back
	for _, at := range b.all {
		if first = at.at.Sub(back); first > 0 {
			break
		}
	}
	connections := network.connections()
	t.Logf("%d tasks, all begun after %.1f s; the network was away from %.1f to %.1f s, and %.1f s later a task began",
		tasks, took.Seconds(), away.Sub(began).Seconds(), back.Sub(began).Seconds(), first.Seconds())
	t.Logf("%d tasks began more than once; %d events; %d connections, of which a tenth was to be reset", again, n, connections)
	if connections < j.connections { // with as many it is all but sure that some were reset
		t.Errorf("there were only %d connections", connections)
	}
}

// stopOnBadNetwork ends workers whose requests may still fail. The pause between two attempts
// can be longer than a stopped worker waits for settlements; then it exits with 1.
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

// A worker that cannot ask for tasks does not take the queue for empty: it goes on when
// the network is back.
func TestQueueIsNotEmptyWhileTheNetworkIsAway(t *testing.T) {
	onEach(t, isNotEmptyWhileTheNetworkIsAwayCase)
}

func isNotEmptyWhileTheNetworkIsAwayCase(t *testing.T, j *job) {
	j.load(8)
	b := j.newJournal()
	network := newToxiproxy(t, j.address())
	j.via(j.scheme + network.address)
	w := j.work("w", append([]string{"-j", "4", "--lease", "2", "--idle-timeout", "3"}, b.command(`[ -e back ] || exec sleep 25`)...)...)
	b.await(4, 1)
	network.up(false) // the leases are lost, and nothing runs
	select {
	case <-w.ended:
		t.Errorf("it ended with code %d; stderr:\n%s", w.cmd.ProcessState.ExitCode(), w.stderr.String())
	case <-time.After(12 * time.Second):
	}
	write(t, j.dir, "back", "")
	network.up(true)
	w.ends(0)
	j.via(j.home)
	j.wantEmpty()
	if ids := idsOf(j.readEvents()); len(ids) != 8 {
		t.Errorf("events of %d tasks", len(ids))
	}
}
