package cloudqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

// messages is a source that delivers messages from memory.
type messages struct {
	mu       sync.Mutex
	waiting  []string
	deleted  map[string]int
	released int
	written  *lines
	t        *testing.T
}

func (m *messages) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	m.mu.Lock()
	var ds []*pipeline.Delivery
	for ; len(ds) < min(limit, 10) && len(m.waiting) > 0; m.waiting = m.waiting[1:] {
		d := pipeline.Task{ID: "m", Data: []byte(m.waiting[0])}
		ds = append(ds, pipeline.NewDelivery(d, m.lease(m.waiting[0]), 1))
	}
	m.mu.Unlock()
	if len(ds) > 0 {
		return ds, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*messages) Close(context.Context) error { return nil }

// lease returns the lease of a message.
func (m *messages) lease(body string) pipeline.Lease {
	return pipelinetest.FuncLease{
		Expiry: time.Now().Add(time.Minute),
		OnAck: func(context.Context) error {
			if !m.written.has(body) {
				m.t.Errorf("%s is deleted before it is written", body)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.deleted[body]++
			return nil
		},
		OnRelease: func(context.Context, time.Duration) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.released++
			return nil
		},
	}
}

// lines is a LineWriter that accepts max lines, and then returns errors like a full disk.
type lines struct {
	mu  sync.Mutex
	all map[string]bool
	max int
}

func (l *lines) WriteLines(_ context.Context, lines [][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all)+len(lines) > l.max {
		return errors.New("no space left")
	}
	for _, line := range lines {
		l.all[string(line)] = true
	}
	return nil
}

func (l *lines) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[line]
}

func follow(t *testing.T, n, maxLines int) (*messages, *Tail) {
	t.Helper()
	written := &lines{all: map[string]bool{}, max: maxLines}
	m := &messages{deleted: map[string]int{}, written: written, t: t}
	for i := range n {
		m.waiting = append(m.waiting, fmt.Sprintf(`{"event_type":"task_completed","n":%d}`, i))
	}
	return m, StartTail(t.Context(), m, written, time.Minute, zerolog.Nop())
}

// Each event is written before it is deleted from the queue.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, tail := follow(t, 1000, 1000)
		if err := tail.Wait(); err != nil {
			t.Fatal(err)
		}
		counts, total := tail.Counts()
		if total != 1000 || counts["task_completed"] != 1000 || len(m.deleted) != 1000 || m.released != 0 {
			t.Errorf("%v, %d written, %d deleted, %d released", counts, total, len(m.deleted), m.released)
		}
	})
}

// Events that cannot be written stay in the queue.
func TestFollowToAFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, tail := follow(t, 1000, 300)
		err := tail.Wait()
		if err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Fatal(err)
		}
		_, total := tail.Counts()
		if int(total) != len(m.deleted) || total > 300 || len(m.waiting)+m.released+len(m.deleted) != 1000 {
			t.Errorf("%d written, %d deleted, %d released, %d left", total, len(m.deleted), m.released, len(m.waiting))
		}
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	for message, want := range map[string][2]string{
		"{\n \"event_type\": \"keep_alive\" }": {`{"event_type":"keep_alive"}`, "keep_alive"},
		`{"a": 1}`:                             {`{"a":1}`, OtherMessages},
		"two\nlines":                           {`"two\nlines"`, OtherMessages},
		`{"event_type": 5}`:                    {`{"event_type":5}`, OtherMessages},
		"":                                     {`""`, OtherMessages},
	} {
		text, name := formatLine([]byte(message))
		if string(text) != want[0] || name != want[1] {
			t.Errorf("%q: %s, %s", message, text, name)
		}
	}
}
