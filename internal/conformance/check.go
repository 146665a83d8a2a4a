package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Finding is what came of one case.
type Finding struct {
	// Case says what was looked at.
	Case string
	// Err says what is wrong and what would be right; nil if nothing is.
	Err error
}

// cases are what is looked at, each in a fresh process.
var cases = []struct {
	name string
	run  func(*candidate) error
}{
	{"it says that it is ready, and ends with its tasks", func(c *candidate) error {
		return sequence(c.begin, c.end)
	}},
	{"it runs a task", func(c *candidate) error {
		return sequence(c.begin, func() error { return c.do("task-1", `{"num1":1,"num2":2}`) }, c.end)
	}},
	{"it repeats a task's id, whatever that holds", func(c *candidate) error {
		return sequence(c.begin,
			func() error { return c.do(`quote " backslash \ slash /`, `{}`) },
			func() error { return c.do("ünïcödé 漢字 😀 \u2028", `{}`) },
			func() error { return c.do("tab\tnewline\n\x01", `{}`) },
			func() error { return c.do(strings.Repeat("long", 1000), `{}`) },
			c.end)
	}},
	{"it takes any data", func(c *candidate) error {
		text, _ := json.Marshal(strings.Repeat("x", 1<<20))
		return sequence(c.begin,
			func() error { return c.do("null", `null`) },
			func() error { return c.do("numbers", `[9007199254740993, 1e400, -0.0, 0.1]`) },
			func() error { return c.do("list", `[[],{},"",[[["deep"]]]]`) },
			func() error { return c.do("a megabyte", `{"text":`+string(text)+`}`) },
			c.end)
	}},
	{"it runs task after task", func(c *candidate) error {
		if err := c.begin(); err != nil {
			return err
		}
		for i := range 100 {
			if err := c.do(fmt.Sprintf("task-%d", i), `{"n":1}`); err != nil {
				return err
			}
		}
		return c.end()
	}},
	{"it passes over what it does not know", func(c *candidate) error {
		return sequence(c.begin,
			func() error { return c.send(`{"weather":{"wind":"north"}}` + "\n") },
			func() error {
				c.grant()
				return c.send(`{"new":[1],"task_id":"task-1","attempt":2,"data":{},"more":{"task_id":"no"}}` + "\n")
			},
			func() error { return c.reply("task-1") },
			c.end)
	}},
	{"it answers what it was sent before the end", func(c *candidate) error {
		return sequence(c.begin, func() error {
			c.grant()
			return c.send(`{"task_id":"last","attempt":1,"data":{}}` + "\n")
		}, c.endAfterReply)
	}},
	{"it claims each task by one byte (only if it takes tasks ahead)", oneByte},
	{"it returns what is taken back (only if it takes tasks ahead)", takenBack},
}

// endAfterReply ends the tasks at once, and takes the reply that is due.
func (c *candidate) endAfterReply() error {
	done := make(chan error, 1)
	go func() { done <- c.end() }()
	return errors.Join(c.reply("last"), <-done)
}

// oneByte lets it claim more tasks than it has.
func oneByte(c *candidate) error {
	if err := c.begin(); err != nil || !c.ahead {
		return err
	}
	const more = 3
	for range more {
		c.grant()
	}
	if err := c.do("task-1", `{}`); err != nil {
		return err
	}
	if left := c.takeBack(); left != more {
		return fmt.Errorf("it had one task, and %d bytes are gone from the pipe CTWORKER_CLAIM_FD: to claim a task is to read one byte, when it is begun", 1+more-left)
	}
	return c.end()
}

// takenBack hands over three tasks of which one may be claimed.
func takenBack(c *candidate) error {
	if err := c.begin(); err != nil || !c.ahead {
		return err
	}
	c.grant()
	if err := c.send(`{"task_id":"kept","attempt":1,"data":{}}` + "\n" +
		`{"task_id":"back-1","attempt":1,"data":{}}` + "\n" + `{"task_id":"back-2","attempt":1,"data":{}}` + "\n"); err != nil {
		return err
	}
	if err := c.reply("kept"); err != nil {
		return err
	}
	for _, id := range []string{"back-1", "back-2"} {
		l, err := c.next(fmt.Sprintf(`{"task_id":%q,"returned":true}`, id))
		if err != nil {
			return err
		}
		if l.TaskID == nil || string(*l.TaskID) != id || !l.Returned {
			return fmt.Errorf(`task %q was taken back: there was no byte in the pipe CTWORKER_CLAIM_FD to claim it with, so it is not to be run, and the reply is {"task_id":%q,"returned":true}`, id, id)
		}
	}
	return sequence(func() error { return c.do("after", `{}`) }, c.end)
}

// sequence does one after the other until one fails.
func sequence(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Run runs the candidate argv through all cases, and hands each finding to report
// as it comes. timeout bounds each wait within a case. It reports whether nothing
// is wrong; the error says that the candidate cannot be started.
func Run(argv []string, timeout time.Duration, report func(Finding)) (bool, error) {
	all := true
	for _, kase := range cases {
		c, err := start(argv, timeout)
		if err != nil {
			return false, err
		}
		err = kase.run(c)
		c.close()
		report(Finding{kase.name, err})
		all = all && err == nil
	}
	return all, nil
}
