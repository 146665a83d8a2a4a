package main

import (
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
)

// onPubSub is a job on Pub/Sub alone.
func onPubSub(t *testing.T) (*job, *pubsubCloud) {
	t.Helper()
	c, address := startPubSub(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[1], cloud: c, counter: c.counter(), home: address}
	j.via(address)
	google, ok := c.(*pubsubCloud)
	if !ok {
		t.Fatalf("a %T", c)
	}
	return j, google
}

// Of a subscription that delivers exactly once each task has one event, also where it
// takes many leases, and though its own deadline is shorter than the lease.
func TestQueueExactlyOnceLong(t *testing.T) {
	t.Parallel()
	tasks, lease, long := size(300, 1000), "2", "7"
	if full() {
		lease, long = "10", "35"
	}
	j, c := onPubSub(t)
	c.client.Create("jobs", func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds, s.EnableExactlyOnceDelivery = 10, true })
	j.vars = append(j.vars, "RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE=1")
	j.load(tasks)
	b := j.newJournal()
	script := `case $CTWORKER_TASK_ID in *7) [ $(( ${CTWORKER_TASK_ID#t} % 100 )) != 7 ] || [ ${CTWORKER_TASK_ID#t} -gt 800 ] || exec sleep ` + long + `; esac`
	args := append([]string{"-j", "4", "--lease", lease, "--idle-timeout", "5"}, b.command(script)...)
	var workers []*worker
	for _, name := range []string{"a", "b", "c", "d"} {
		workers = append(workers, j.work(name, args...))
	}
	for _, w := range workers {
		w.ends(0)
	}
	j.wantEmpty()
	events := j.wantEvents(tasks)
	slow := 0
	for id, n := range idsOf(events) {
		if n != 1 {
			t.Errorf("%s has %d events", id, n)
		}
	}
	for _, e := range events {
		if e["event_type"] != "task_completed" {
			t.Errorf("%v", e)
		}
		if took, _ := e["elapsed_time"].(float64); took > 6 {
			slow++
		}
	}
	if n := repeats(b.byTask()); n != 0 || slow < 3 {
		t.Errorf("%d tasks were run more than once; %d took long", n, slow)
	}
	t.Logf("%d tasks, of which %d took %s s, with a lease of %s s\n%s", tasks, slow, long, lease, j.counter.Table(tasks))
}

// A worker keeps the tasks of a subscription whose own deadline is short, and changes
// nothing of the subscription.
func TestQueueShortAckDeadline(t *testing.T) {
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
	b := j.newJournal()
	args := append([]string{"-j", "2", "--idle-timeout", "15"}, b.command("exec sleep 12")...)
	for _, w := range []*worker{j.work("a", args...), j.work("b", args...)} {
		w.ends(0)
	}
	j.wantEmpty()
	j.wantEvents(3)
	for id, all := range b.byTask() {
		if len(all) != 1 {
			t.Errorf("%s: %+v", id, all)
		}
	}
	if after := get(); !proto.Equal(before, after) {
		t.Errorf("%v has become %v", before, after)
	}
}

// A subscription that cannot do what is asked for is refused, with what would be right.
func TestQueuePubSubRefuses(t *testing.T) {
	t.Parallel()
	j, _ := onPubSub(t)
	j.load(1)
	j.do(1, "run", "--exactly-once-queue", "--", "true").wantError("does not deliver exactly once", "queue create --exactly-once-queue")
	j.do(1, "run", "--max-attempts", "3", "--", "true").wantError("dead-letter policy", "--max-attempts")
	j.wantTasks(1, 0)
	j.do(0, "queue", "delete", "--yes")
	j.do(0, "queue", "create", "--exactly-once-queue")
	j.do(0, "run", "--exactly-once-queue", "--idle-timeout", "1", "--", "true")
	status := j.do(0, "queue", "status", "--json").stdout.String()
	if want := `"visible":null,"in_flight":null,"delayed":null,"retention_seconds":604800,"exactly_once":true`; strings.Count(status, want) != 2 {
		t.Error(status)
	}
}
