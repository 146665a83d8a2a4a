package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// holders has which worker received which attempt of which task.
type holders struct {
	t      *testing.T
	target *url.URL

	mu sync.Mutex
	of map[held]string
}

type held struct {
	task    string
	attempt int
}

func newHolders(t *testing.T, endpoint string) *holders {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return &holders{t: t, target: target, of: map[held]string{}}
}

// before returns the address of a proxy that reads what the worker receives.
func (h *holders) before(worker string) string {
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(h.target)
			r.Out.Host = r.In.Host // the queues' addresses are made of it
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.received(worker, body)
			return err
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	h.t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return proxy.URL
}

func (h *holders) received(worker string, body []byte) {
	var answer struct {
		Messages []struct {
			Body       string
			Attributes struct {
				Count int `json:"ApproximateReceiveCount,string"`
			}
		}
	}
	if json.Unmarshal(body, &answer) != nil {
		return // an error
	}
	for _, m := range answer.Messages {
		var task struct {
			ID string `json:"task_id"`
		}
		if json.Unmarshal([]byte(m.Body), &task) == nil {
			h.mu.Lock()
			h.of[held{task.ID, m.Attributes.Count}] = worker
			h.mu.Unlock()
		}
	}
}

// again has how long what was held by a worker that died took to begin again, by
// whether it ran there or was on its way to.
type again struct {
	ran, waited durations
	// lapses are the tasks that began again while the worker that held them lived.
	lapses int
	// unknown are those of which nobody knows who had them: an answer died with a worker.
	unknown int
}

// begunAgain looks at what came of each death. No worker is left.
func (h *holders) begunAgain(byTask map[string][]beginning, deaths map[string]time.Time) (a again) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for task, all := range byTask {
		for i, at := range all {
			if at.attempt == 1 {
				continue
			}
			holder, known := h.of[held{task, at.attempt - 1}]
			death, died := deaths[holder]
			switch {
			case !known:
				a.unknown++
			case !died || death.After(at.at):
				a.lapses++
			case i > 0 && all[i-1].worker == holder:
				a.ran.add(at.at.Sub(death))
			default:
				a.waited.add(at.at.Sub(death))
			}
		}
	}
	return a
}

// durations are some, to tell of.
type durations []time.Duration

func (d *durations) add(one time.Duration) { *d = append(*d, one) }

func (d durations) max() (most time.Duration) {
	for _, one := range d {
		most = max(most, one)
	}
	return most
}

func (d durations) String() string {
	return fmt.Sprintf("%d tasks, %.2f s at most", len(d), d.max().Seconds())
}

// Workers that are killed lose no task: what they held runs again within a lease.
func TestQueueKilledWorkers(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second
	tasks, nap, every := size(300, 3000), "0.2", time.Second
	if full() {
		nap, every = "0.15", 5*time.Second
	}
	j := newJob(t)
	queue, events := j.queueOf("jobs"), j.queueOf("jobs-events")
	j.load(tasks)
	b, h := j.newJournal(), newHolders(t, j.counter.URL)
	args := append([]string{"-j", "4", "--lease", "4"}, b.command("exec sleep "+nap)...)
	began := time.Now()
	var workers []*worker
	started := 0
	begin := func() *worker {
		started++
		name := fmt.Sprintf("w%d", started)
		j.via(h.before(name))
		defer j.via(j.counter.URL)
		return j.work(name, args...)
	}
	for range 4 {
		workers = append(workers, begin())
	}
	deaths := map[string]time.Time{}
	kill := time.NewTicker(every)
	defer kill.Stop()
	limit := time.After(hanging)
	for n := 0; n < tasks; n, _ = b.begun() {
		select {
		case <-b.more:
		case <-kill.C:
			i := rand.IntN(len(workers))
			w := workers[i]
			deaths[w.name] = time.Now()
			w.signal(syscall.SIGKILL)
			<-w.ended
			if code := w.cmd.ProcessState.ExitCode(); code != -1 {
				t.Errorf("worker %s had ended with code %d; stderr:\n%s", w.name, code, w.stderr.String())
			}
			workers[i] = begin()
		case <-limit:
			t.Fatalf("%d tasks have begun after %v; of the queue: %+v", n, hanging, j.status("tasks"))
		}
	}
	took := time.Since(began)
	j.await(queue, hanging, isEmpty)
	stop(workers)
	n := j.wantAll(tasks, events)

	byTask := b.byTask()
	a := h.begunAgain(byTask, deaths)
	t.Logf("%d tasks, all begun after %.1f s; %d workers killed", tasks, took.Seconds(), len(deaths))
	t.Logf("%d tasks began more than once; %d events; leases that ended while the worker lived: %d", repeats(byTask), n, a.lapses)
	t.Logf("from the death of a worker until what ran there began again: %s; what waited there: %s; unknown: %d", a.ran, a.waited, a.unknown)
	if len(deaths) < 2 || len(a.ran) == 0 {
		t.Errorf("%d workers were killed, and %d tasks that ran there began again", len(deaths), len(a.ran))
	}
	if most := max(a.ran.max(), a.waited.max()); most > lease+10*time.Second {
		t.Errorf("a lease of %v, and a task of a dead worker began again after %v", lease, most)
	}
}
