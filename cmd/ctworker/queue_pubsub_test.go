package main

import (
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

// onPubSub returns a job on Pub/Sub.
func onPubSub(t *testing.T) (*job, *pubsubCloud) {
	t.Helper()
	c, address := startPubSub(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[1], cloud: c, counter: c.counter(), counterAddress: address}
	j.useAddress(address)
	google, ok := c.(*pubsubCloud)
	if !ok {
		t.Fatalf("the cloud is a %T, want *pubsubCloud", c)
	}
	return j, google
}

// Each task of an exactly-once subscription has one event, even if the task runs for many leases
// and the ack deadline of the subscription is shorter than the lease.
func TestPubSub_ExactlyOnceLongTasks(t *testing.T) {
	t.Parallel()
	tasks, lease, long := taskCount(300, 1000), "2", "7"
	if isFullSize() {
		lease, long = "10", "35"
	}
	j, c := onPubSub(t)
	c.client.Create("jobs", func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds, s.EnableExactlyOnceDelivery = 10, true })
	j.vars = append(j.vars, "RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE=1")
	j.load(tasks)
	b := j.recordStarts()
	script := `case $CTWORKER_TASK_ID in *7) [ $(( ${CTWORKER_TASK_ID#t} % 100 )) != 7 ] || [ ${CTWORKER_TASK_ID#t} -gt 800 ] || exec sleep ` + long + `; esac`
	args := append([]string{"-j", "4", "--lease", lease, "--idle-timeout", "5"}, b.command(script)...)
	var workers []*worker
	for _, name := range []string{"a", "b", "c", "d"} {
		workers = append(workers, j.work(name, args...))
	}
	for _, w := range workers {
		w.wantExit(0)
	}
	j.wantEmpty()
	events := j.wantEvents(tasks)
	slow := 0
	for id, n := range idsOf(events) {
		if n != 1 {
			t.Errorf("task %s has %d events, want 1", id, n)
		}
	}
	for _, e := range events {
		if e["event_type"] != "task_completed" {
			t.Errorf("unexpected event: %v", e)
		}
		if took, _ := e["elapsed_time"].(float64); took > 6 {
			slow++
		}
	}
	if n := countRepeated(b.byTask()); n != 0 || slow < 3 {
		t.Errorf("%d tasks ran more than once; %d long tasks, want at least 3", n, slow)
	}
	t.Logf("%d tasks, of which %d ran for %s s, with a lease of %s s\n%s", tasks, slow, long, lease, j.counter.Table(tasks))
}

// If the ack deadline of the subscription is short, a worker keeps the leases of its tasks, and
// does not change the subscription.
func TestPubSub_ShortAckDeadline(t *testing.T) {
	t.Parallel()
	j, c := onPubSub(t)
	c.client.Create("jobs", func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = 10 })
	get := func() *pubsubpb.Subscription {
		s, err := c.client.Subscriptions.GetSubscription(t.Context(), &pubsubpb.GetSubscriptionRequest{Subscription: c.client.Subscription("jobs")})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := get()
	j.load(3)
	b := j.recordStarts()
	args := append([]string{"-j", "2", "--idle-timeout", "15"}, b.command("exec sleep 12")...)
	for _, w := range []*worker{j.work("a", args...), j.work("b", args...)} {
		w.wantExit(0)
	}
	j.wantEmpty()
	j.wantEvents(3)
	for id, all := range b.byTask() {
		if len(all) != 1 {
			t.Errorf("task %s started as %+v, want a single start", id, all)
		}
	}
	if after := get(); !proto.Equal(before, after) {
		t.Errorf("the subscription changed from %v to %v", before, after)
	}
}

// If a subscription does not support a setting, the error names the setting and a remedy.
func TestPubSub_UnsuitableSubscription(t *testing.T) {
	t.Parallel()
	j, _ := onPubSub(t)
	j.load(1)
	j.do(1, "run", "--exactly-once-queue", "--", "true").wantError("does not deliver exactly once", "queue create --exactly-once-queue")
	j.do(1, "run", "--max-attempts", "3", "--", "true").wantError("dead-letter policy", "--max-attempts")
	j.wantTasks(1, 0)
	j.wantEvents(0) // removes the tasks_loaded event
	j.do(0, "queue", "delete", "--yes", "--tasks", "--events")
	j.do(0, "queue", "create", "--exactly-once-queue")
	j.do(0, "run", "--exactly-once-queue", "--idle-timeout", "1", "--", "true")
	status := j.do(0, "queue", "status", "--json").stdout.String()
	if want := `"visible":null,"in_flight":null,"delayed":null,"retention_seconds":604800,"exactly_once":true`; strings.Count(status, want) != 2 {
		t.Errorf("queue status printed:\n%s\nwant twice %s", status, want)
	}
}
