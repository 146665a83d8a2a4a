package worker

import (
	"time"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// newSpotTerminationEvent returns the event that reports a termination notice for this machine.
// instance is the provider's name of the machine. action is the provider's name of the coming
// action, such as "terminate". source is the service that delivered the notice. deadline is zero if
// the notice has no deadline.
func newSpotTerminationEvent(instance, kind, action, source string, deadline time.Time, hostname string, now time.Time) pipeline.Event {
	e := pipeline.Event{Time: now, Hostname: hostname, Type: pipeline.SpotTermination}
	add := func(name, text string) {
		value := rawjson.AppendQuote(nil, text)
		e.Extra = append(e.Extra, pipeline.Field{Name: name, Value: value})
	}
	add("instance_id", instance)
	add("kind", kind)
	add("action", action)
	if !deadline.IsZero() {
		add("deadline", deadline.UTC().Format(time.RFC3339))
	}
	add("source", source)
	return e
}

// newKeepAliveEvent returns the event that reports that the worker on the machine instance is
// alive. zone may be "".
func newKeepAliveEvent(instance, zone, hostname, runID string, d *digest.Digest, now time.Time) pipeline.Event {
	id := rawjson.AppendQuote(nil, instance)
	e := pipeline.Event{Time: now, Hostname: hostname, Type: pipeline.KeepAlive, RunID: runID, Extra: []pipeline.Field{{Name: "instance_id", Value: id}}}
	if zone != "" {
		where := rawjson.AppendQuote(nil, zone)
		e.Extra = append(e.Extra, pipeline.Field{Name: "zone", Value: where})
	}
	e.Extra = append(e.Extra, pipeline.Field{Name: digest.Field, Value: d.AppendJSON(nil)})
	return e
}
