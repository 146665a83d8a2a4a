package cloudqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc"

	"github.com/ctworker/ctworker/internal/plumbing"
	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// LineWriter writes lines. When WriteLines has returned nil, the lines are durable.
type LineWriter interface {
	WriteLines(ctx context.Context, lines [][]byte) error
}

// Tail writes the events in a queue to a LineWriter. After it has written an event, it deletes the
// event from the queue.
type Tail struct {
	run *pipeline.Run

	mu     sync.Mutex
	counts map[string]int64
	total  int64
}

// OtherMessages is the type under which Counts counts messages that are not events.
const OtherMessages = "no event"

// OtherTypes is the type under which Counts counts events of further types if it already counts
// maxTypes types.
const OtherTypes = "of other types"

// maxTypes limits the number of event types that are counted separately. maxTypeName limits the
// length of their names. Without these limits, another program that sends arbitrary messages to the
// queue could make the memory grow without bound.
const (
	maxTypes    = 50
	maxTypeName = 100
)

const (
	tailBatchSize = 256
	tailPrefetch  = 500
)

// StartTail starts to write the events of a queue. The Tail stops when ctx ends. Unless idle is 0,
// it also stops when no event has arrived for idle.
func StartTail(ctx context.Context, source pipeline.Source, lines LineWriter, idle time.Duration, log zerolog.Logger) *Tail {
	t := &Tail{
		run: pipeline.New(ctx, pipeline.Options{
			Slots: tailPrefetch, IdleTimeout: idle, Log: log,
			OnFail: func(error) {
				log.Info().Msg("an error occurred; deleting the written events from the queue, then stopping")
			},
		}),
		counts: map[string]int64{},
	}
	events := pipeline.From(t.run, "events", source)
	events = pipeline.Via(events, "extend", stages.Extend(t.run, stages.ExtendOptions{Log: log}))
	pipeline.ToBatches(events, "write", t.write(lines, log))
	return t
}

// Wait waits until the Tail has stopped, and returns its error.
func (t *Tail) Wait() error { return t.run.Wait() }

// Counts returns the numbers of events that have been written, by type and in total.
func (t *Tail) Counts() (byType map[string]int64, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts), t.total
}

// write returns the stage that writes events and then deletes them from the queue.
func (t *Tail) write(lines LineWriter, log zerolog.Logger) pipeline.BatchConsumer[*pipeline.Delivery] {
	return func(ctx context.Context, in pipeline.Batches[*pipeline.Delivery]) error {
		plumbing.HoldsDeliveries(ctx)
		settle := t.run.Phases().Settle
		var deleting conc.WaitGroup
		defer deleting.Wait()
		for {
			batch := in.Next(nil, tailBatchSize, 0, nil)
			if len(batch) == 0 {
				return nil
			}
			if batch = held(batch); len(batch) == 0 {
				continue
			}
			text := make([][]byte, len(batch))
			types := map[string]int64{}
			for i, d := range batch {
				var name string
				text[i], name = formatLine(d.Task.Data)
				types[name]++
			}
			if err := lines.WriteLines(settle, text); err != nil {
				for _, d := range batch {
					d.ReleaseAsync()
				}
				return err
			}
			t.count(types, len(batch))
			for _, d := range batch {
				deleting.Go(func() {
					err := d.Ack(settle)
					if errors.Is(err, pipeline.ErrPermanent) { // every other deletion would also fail
						t.run.Fail(fmt.Errorf("delete written events from the queue: %w", err))
					} else if err != nil {
						log.Warn().Err(err).Msg("event was written, but could not be deleted from the queue; it will be delivered and written again")
					}
				})
			}
		}
	}
}

func (t *Tail) count(types map[string]int64, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, n := range types {
		if _, known := t.counts[name]; !known && len(t.counts) >= maxTypes {
			name = OtherTypes
		}
		t.counts[name] += n
	}
	t.total += int64(n)
}

// held returns the deliveries in batch whose leases are valid. It releases the other deliveries,
// because their messages will be delivered again, or have already been delivered to another reader.
func held(batch []*pipeline.Delivery) []*pipeline.Delivery {
	return slices.DeleteFunc(batch, func(d *pipeline.Delivery) bool {
		if d.Held() {
			return false
		}
		d.ReleaseAsync()
		return true
	})
}

// formatLine converts a message to one line of JSON, and returns the line and the event_type of the
// message. A message that is not valid JSON becomes a JSON string.
func formatLine(message []byte) (text []byte, name string) {
	var e struct {
		Type string `json:"event_type"`
	}
	compact, ok := rawjson.Compact(message)
	switch {
	case !ok:
		return rawjson.AppendQuote(nil, message), OtherMessages
	case json.Unmarshal(compact, &e) != nil || e.Type == "":
		return compact, OtherMessages
	}
	return compact, strings.ToValidUTF8(e.Type[:min(len(e.Type), maxTypeName)], "")
}
