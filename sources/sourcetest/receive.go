package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

func everyTaskIsDeliveredOnce(p *probe) {
	tasks := p.open(p.h.New, makeTasks(25))
	limits := []int{1, 4, 10, 100}
	var all []*pipeline.Delivery
	for i := 0; len(all) < len(tasks); i++ {
		ds := p.next(limits[i%len(limits)])
		p.ack(ds...)
		all = append(all, ds...)
	}
	p.expectNone(p.h.QuietPeriod)
	p.checkOnce(tasks, all)
}

// atMostLimitAtOnce relies on probe.receive, which fails the case if Receive returns more than
// limit deliveries.
func atMostLimitAtOnce(p *probe) {
	for _, limit := range []int{1, 2, 7} {
		p.open(p.h.New, makeTasks(20))
		for range 3 {
			p.ack(p.next(limit)...)
		}
		p.finish()
	}
}

func receivesNoMoreThanRequested(p *probe) {
	p.open(p.h.New, makeTasks(40))
	if n := p.h.Delivered(); n != 0 {
		p.Fatalf("the source received %d tasks before the first Receive", n)
	}
	received := 0
	for _, limit := range []int{1, 3, 10, 1} {
		ds := p.next(limit)
		received += len(ds)
		p.ack(ds...)
		if n := p.h.Delivered(); n != received {
			p.Fatalf("the source received %d tasks, but Receive has returned %d", n, received)
		}
	}
}

// rareData are JSON values that change if a source decodes and encodes them.
var rareData = []string{
	`null`, `0`, `""`, `[]`, `{}`, `{"":""}`,
	`{"max":9223372036854775807,"min":-9223372036854775808,"unsigned":18446744073709551615}`,
	`[1e400,-0,-0.0,1.10,1E+2,0.1000000000000000055511151231257827,123456789012345678901234567890]`,
	`{"z":1,"a":2,"a":3}`,
	`{"text":"grüße 世界 🜚 e\u0301 \u00e9 \u2028 <&> \/ \ud83d\ude00"}`,
	`{ "spaces" : [ 1 ,	2 ] }`,
}

func dataIsKeptByteForByte(p *probe) {
	var tasks []pipeline.Task
	for i, data := range rareData {
		tasks = append(tasks, pipeline.Task{ID: "größe/" + string(rune('a'+i)) + ` "1" 世界`, Data: []byte(data)})
	}
	p.open(p.h.New, tasks)
	ds := p.collect(len(tasks), 4) // inspect compares the data
	p.ack(ds...)
	p.checkOnce(tasks, ds)
}

func bigData(p *probe) {
	tasks := makeTasks(3)
	size := min(p.h.Features.MaxData, 1<<20)
	tasks[1].Data = append(append([]byte{'"'}, bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size-2]...), '"')
	p.open(p.h.New, tasks)
	ds := p.collect(3, 1)
	p.ack(ds...)
	p.checkOnce(tasks, ds)
}

func noTasks(p *probe) {
	p.open(p.h.New, nil)
	p.expectNone(p.h.QuietPeriod)
}

func endOfFileIsFinal(p *probe) {
	tasks := p.open(p.h.New, makeTasks(3))
	p.ack(p.collect(len(tasks), 10)...)
	for range 3 {
		if _, err := p.receive(p.h.Timeout, 10); err != io.EOF {
			p.Fatalf("Receive returned %v after the last task, want io.EOF each time", err)
		}
	}
}

func anErrorIsFinal(p *probe) {
	tasks := p.open(p.h.NewBroken, makeTasks(5))
	var all []*pipeline.Delivery
	var first error
	for first == nil {
		var ds []*pipeline.Delivery
		ds, first = p.receive(p.h.Timeout, 2)
		p.ack(ds...)
		all = append(all, ds...)
	}
	p.checkOnce(tasks, all)
	if first == io.EOF || errors.Is(first, context.DeadlineExceeded) {
		p.Fatalf("Receive returned %v, want the error of NewBroken's source", first)
	}
	for range 2 {
		ds, err := p.receive(p.h.Timeout, 2)
		if len(ds) > 0 || err == nil || err.Error() != first.Error() {
			p.Fatalf("Receive returned %d deliveries and error %q after error %q, want the same error again", len(ds), err, first)
		}
	}
}

func theEndOfTheContextEndsReceive(p *probe) {
	tasks := p.open(p.h.NewBlocking, makeTasks(2))
	p.ack(p.collect(len(tasks), 1)...)
	for _, d := range []time.Duration{0, p.h.QuietPeriod, p.h.QuietPeriod} {
		ds, err := p.receive(d, 5) // fails the case if Receive does not return in time
		if len(ds) > 0 || !errors.Is(err, context.DeadlineExceeded) {
			p.Fatalf("Receive returned %d deliveries and error %v, want its context's error", len(ds), err)
		}
	}
}

func anEndedContextLosesNoTask(p *probe) {
	tasks := p.open(p.h.New, makeTasks(30))
	seen := map[string]bool{}
	receive := func(d time.Duration, limit int) {
		ds, err := p.receive(d, limit)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			p.missing(tasks, seen)
			p.Fatalf("Receive returned %v before the last task", err)
		}
		for _, d := range ds {
			if seen[d.Task.ID] {
				p.Errorf("task %q was delivered twice", d.Task.ID)
			}
			// The attempt is higher if the source itself has released the task.
			if d.Attempt != 1 && !p.h.Features.Redelivers {
				p.Errorf("task %q: attempt is %d, want 1", d.Task.ID, d.Attempt)
			}
			seen[d.Task.ID] = true
		}
		p.ack(ds...)
	}
	// The first context has ended before the call. The second one ends during the call.
	for d := time.Duration(1); d < p.h.QuietPeriod; d *= 4 {
		receive(0, 1)
		receive(d, 1)
	}
	// The deadline is earlier than the end of a lease. Otherwise, a lost task would be redelivered,
	// and the loss would not be noticed.
	for deadline := time.Now().Add(p.promptTime()); len(seen) < len(tasks); {
		remaining := time.Until(deadline)
		if remaining <= 0 {
			p.missing(tasks, seen)
			return
		}
		receive(remaining, 10)
	}
	p.expectNone(p.h.QuietPeriod)
}

func closeBeforeAnyReceive(p *probe) {
	p.open(p.h.New, makeTasks(3))
	if err := p.close(); err != nil {
		p.Errorf("Close before any Receive: %v", err)
	}
}

func closeTwice(p *probe) {
	p.open(p.h.New, makeTasks(3))
	p.ack(p.next(1)...)
	src := p.src
	for range 2 {
		p.src = nil
		if err := p.closeSource(src); err != nil {
			p.Fatalf("Close: %v", err)
		}
	}
}

func closeAfterACancelledReceive(p *probe) {
	newSource, tasks := p.h.NewBlocking, makeTasks(1)
	if newSource == nil {
		newSource = p.h.New
	}
	p.open(newSource, tasks)
	for _, d := range []time.Duration{0, p.h.QuietPeriod} {
		ds, _ := p.receive(d, 1)
		p.ack(ds...)
	}
	if err := p.close(); err != nil {
		p.Errorf("Close after a cancelled Receive: %v", err)
	}
}

func closeWithAnEndedContext(p *probe) {
	newSource := p.h.NewBlocking // a request of its Receive may still be open
	if newSource == nil {
		newSource = p.h.New
	}
	p.open(newSource, makeTasks(1))
	for range 2 {
		ds, _ := p.receive(p.h.QuietPeriod, 1)
		p.ack(ds...)
	}
	ended, cancel := context.WithCancel(p.Context())
	cancel()
	src := p.src
	p.src = nil
	// Close may return an error, for example because it could not wait for an open request.
	if err := p.callWithTimeout("Close", 0, func() { _ = src.Close(ended) }); err != nil {
		p.Error(err)
	}
}

func noGoroutineIsLeft(p *probe) {
	newBlocking := p.h.NewBlocking
	if newBlocking == nil {
		newBlocking = p.h.New
	}
	for _, use := range []struct {
		name string
		run  func()
	}{
		{"closed unused", func() { p.open(p.h.New, makeTasks(3)) }},
		{"closed half-way", func() { p.open(p.h.New, makeTasks(20)); p.ack(p.next(2)...) }},
		{"closed after the last task", func() {
			p.open(p.h.New, makeTasks(3))
			p.ack(p.collect(3, 3)...)
			p.expectNone(p.h.QuietPeriod)
		}},
		{"closed after a cancelled Receive", func() {
			p.open(newBlocking, nil)
			_, _ = p.receive(p.h.QuietPeriod, 1)
		}},
	} {
		ignored := append([]goleak.Option{goleak.IgnoreCurrent()}, p.h.IgnoreGoroutines...)
		use.run()
		p.finish()
		if err := goleak.Find(ignored...); err != nil {
			p.Fatalf("%s: %v", use.name, err)
		}
	}
}
