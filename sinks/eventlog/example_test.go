package eventlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "events.log")

	log, err := eventlog.Open(ctx, path, eventlog.Options{})
	if err != nil {
		panic(err)
	}
	event := pipeline.Event{
		Time: time.Date(2025, 5, 26, 3, 56, 26, 0, time.UTC), Hostname: "node-1", Type: pipeline.TaskCompleted,
		TaskID: "resize-7", Attempt: 1,
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Elapsed: 1500 * time.Millisecond, Result: []byte(`{"width": 640}`)},
	}
	if err := log.Write(ctx, []pipeline.Event{event}); err != nil {
		panic(err) // run what has no event again
	}
	if err := log.Close(ctx); err != nil {
		panic(err)
	}
	text, _ := os.ReadFile(path)
	fmt.Print(string(text))
	// Output:
	// {"timestamp":"2025-05-26T03:56:26.000000","hostname":"node-1","event_type":"task_completed","task_id":"resize-7","elapsed_time":1.5,"retry":false,"result":{"width":640},"attempt":1,"slot":0}
}
