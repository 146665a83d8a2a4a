package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/pipeline"
)

const (
	// maxDistinctTasks is the number of tasks up to which a load counts different task IDs. It limits the
	// memory to about 50 MB.
	maxDistinctTasks = 2_000_000
	// recordTime is the time limit for sending the event of a load, and recordTimeAtEnd the time limit after
	// a signal.
	recordTime      = 20 * time.Second
	recordTimeAtEnd = 3 * time.Second
)

// distinctSource counts the different IDs of the tasks of a source.
type distinctSource struct {
	pipeline.Source
	ids  *journal.Set
	read int64
}

// Receive implements pipeline.Source.
func (s *distinctSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	ds, err := s.Source.Receive(ctx, limit)
	s.read += int64(len(ds))
	if s.read > maxDistinctTasks {
		s.ids = nil
	}
	if s.ids != nil {
		for _, d := range ds {
			s.ids.Add(d.Task.ID)
		}
	}
	return ds, err
}

// count returns the number of different IDs; 0 if it is unknown.
func (s *distinctSource) count() int64 {
	if s.ids == nil {
		return 0
	}
	return s.ids.Len()
}

// recordLoad sends an event with the number of loaded tasks to the event queue, where "ctworker monitor"
// receives it. The number is part of an event, and not an attribute of the queue, because a load may send
// messages anyway, several loads add up, and the event log of the monitor keeps the number. An error is only
// a warning, because the tasks are loaded.
func (t *Tool) recordLoad(load *cloudqueue.Load, source *distinctSource) {
	count := load.Loaded()
	if count == 0 {
		return
	}
	distinct := int64(0)
	if load.Exhausted() {
		distinct = source.count()
	}
	limit := recordTime
	if t.interrupted() != 0 {
		limit = recordTimeAtEnd
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), limit)
	defer cancel()
	if err := t.sendLoadEvent(ctx, count, distinct); err != nil {
		t.log.Warn().Err(err).Int64("task_count", count).
			Msg("the tasks are loaded, but the event queue does not have their number; pass the number of all tasks to \"ctworker monitor\" with --total")
	}
}

func (t *Tool) sendLoadEvent(ctx context.Context, count, distinct int64) error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	sink, err := t.provider.OpenSink(ctx)
	if err != nil {
		return err
	}
	e := fleet.NewTasksLoadedEvent(t.provider.Tasks().Name(), count, distinct, hostname, time.Now())
	return errors.Join(sink.Write(ctx, []pipeline.Event{e}), sink.Close(ctx))
}
