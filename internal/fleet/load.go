package fleet

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// TasksLoaded is the type of the event that reports how many tasks a load has sent to the task queue.
const TasksLoaded pipeline.EventType = "tasks_loaded"

// NewTasksLoadedEvent returns the event of a load of count tasks to a queue. distinct is the number of
// different task IDs; 0 if it is unknown. Each event has its own load_id, so an event that is delivered
// twice can be recognized.
func NewTasksLoadedEvent(queue string, count, distinct int64, hostname string, now time.Time) pipeline.Event {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	e := pipeline.Event{Time: now, Hostname: hostname, Type: TasksLoaded, Extra: []pipeline.Field{
		{Name: "load_id", Value: rawjson.AppendQuote(nil, hex.EncodeToString(id[:]))},
		{Name: "queue", Value: rawjson.AppendQuote(nil, queue)},
		{Name: "task_count", Value: strconv.AppendInt(nil, count, 10)},
	}}
	if distinct > 0 {
		e.Extra = append(e.Extra, pipeline.Field{Name: "distinct_task_count", Value: strconv.AppendInt(nil, distinct, 10)})
	}
	return e
}
