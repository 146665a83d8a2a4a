package ctworker_test

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// A program receives tasks from one queue and sends events to another, with child processes
// and in-process.
func TestMain_Queue(t *testing.T) {
	t.Parallel()
	endpoint := sqstest.Start(t)
	for _, name := range []string{"behave", "in-process"} {
		client, tasks := sqstest.Client(t, endpoint, name)
		sqstest.Send(t, client, tasks, `{"task_id": "a", "data": {"do": "text"}}`, `{"task_id": "b", "data": {"do": "text"}}`)
		p := startProgramIn(t, t.TempDir(), name, []string{
			"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true",
		}, "--provider", "AWS", "--queue-name", name, "--idle-timeout", "1")
		p.want(0)
		_, events := sqstest.Client(t, endpoint, name+"-events")
		bodies := sqstest.Receive(t, client, events)
		types := make(map[string]int)
		for _, body := range bodies {
			var e event
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("%s: %s, %v", name, body, err)
			}
			types[e.Type]++
		}
		// The worker sends one keep_alive event at its start and one at its end.
		if want := map[string]int{"task_completed": 2, "keep_alive": 2}; !maps.Equal(types, want) {
			t.Errorf("%s: %v events of each type, want %v: %q", name, types, want, bodies)
		}
	}
}
