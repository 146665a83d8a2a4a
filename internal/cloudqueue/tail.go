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

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// Lines are where events are written to: one a line, durable when it returns.
type Lines interface {
	WriteLines(ctx context.Context, lines [][]byte) error
}

// A Follow writes the events of a queue to lines, and deletes what it has written.
type Tail struct {
	run    *pipeline.Run
	leases *stages.Extender

	mu     sync.Mutex
	counts map[string]int64
	total  int64
}

// OtherMessages is what messages that are no events count as.
const OtherMessages = "no event"

// OtherTypes is the name under which events are counted once there are maxTypes types.
const OtherTypes = "of other types"

// maxTypes limits the number of counted types, and maxTypeName the length of their names,
// because any program may send to the queue.
const (
	maxTypes    = 50
	maxTypeName = 100
)

const (
	followBatch = 256
	followAhead = 500
)

// StartFollow follows the events until ctx ends, or until there have been none for
// idle; 0 is for ever.
func StartTail(ctx context.Context, source pipeline.Source, batch int, lines Lines, idle time.Duration, log zerolog.Logger) *Tail {
	f := &Tail{
		run: pipeline.New(ctx, pipeline.Options{
			Slots: followAhead, FetchBatchSize: batch, IdleTimeout: idle, Log: log,
			OnFail: func(error) {
				log.Info().Msg("stopping because of an error: deleting the written events from the queue")
			},
		}),
		counts: map[string]int64{},
	}
	f.leases = stages.NewExtender(stages.ExtendOptions{Log: log, OnPermanentError: f.run.Fail})
	events := pipeline.From(f.run, "events", source)
	events = pipeline.Via(events, "extend", f.leases.Stage())
	pipeline.To(events, "write", f.write(lines, log))
	return f
}

// Wait waits for the end.
func (f *Tail) Wait() error {
	defer f.leases.Close()
	return f.run.Wait()
}

// Counts are the events that have been written, by type, and in all.
func (f *Tail) Counts() (byType map[string]int64, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts), f.total
}

// write is the stage that writes and deletes.
func (f *Tail) write(lines Lines, log zerolog.Logger) pipeline.Consumer[*pipeline.Delivery] {
	return func(_ context.Context, in <-chan *pipeline.Delivery) error {
		settle := f.run.Phases().Settle
		var deleting conc.WaitGroup
		defer deleting.Wait()
		for {
			batch, ok := next(in)
			if !ok {
				return nil
			}
			if batch = held(batch); len(batch) == 0 {
				continue
			}
			text := make([][]byte, len(batch))
			types := map[string]int64{}
			for i, d := range batch {
				var name string
				text[i], name = line(d.Task.Data)
				types[name]++
			}
			if err := lines.WriteLines(settle, text); err != nil {
				for _, d := range batch {
					d.ReleaseAsync()
				}
				return err
			}
			f.count(types, len(batch))
			for _, d := range batch {
				deleting.Go(func() {
					err := d.Ack(settle)
					if errors.Is(err, pipeline.ErrPermanent) { // every other deletion would fail too
						f.run.Fail(fmt.Errorf("delete written events from the queue: %w", err))
					} else if err != nil {
						log.Warn().Err(err).Msg("event was written but could not be deleted; it will be delivered again")
					}
				})
			}
		}
	}
}

func (f *Tail) count(types map[string]int64, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range types {
		if _, known := f.counts[name]; !known && len(f.counts) >= maxTypes {
			name = OtherTypes
		}
		f.counts[name] += n
	}
	f.total += int64(n)
}

// next waits for a message, and returns it with all further ones that are available. ok is
// false once in is closed and empty.
func next(in <-chan *pipeline.Delivery) (batch []*pipeline.Delivery, ok bool) {
	d, ok := <-in
	for ok {
		batch = append(batch, d)
		if len(batch) == followBatch {
			return batch, true
		}
		select {
		case d, ok = <-in:
		default:
			return batch, true
		}
	}
	return batch, len(batch) > 0
}

// held returns the deliveries in batch whose leases are valid. The other messages are
// delivered again, or have been delivered to another reader.
func held(batch []*pipeline.Delivery) []*pipeline.Delivery {
	return slices.DeleteFunc(batch, func(d *pipeline.Delivery) bool {
		if d.Held() {
			return false
		}
		d.ReleaseAsync()
		return true
	})
}

// line is a message on one line, and its event_type. One that is no JSON object becomes
// a string.
func line(message []byte) (text []byte, name string) {
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
