package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Finding is the result of one case.
type Finding struct {
	// Case describes the case.
	Case string
	// Err describes what is wrong and how to fix it. It is nil if the program passed the case.
	Err error
}

// cases contains the cases that Run checks, each in a new process.
var cases = []struct {
	name string
	run  func(*candidate) error
}{
	{"reports ready, and exits at end of file", func(c *candidate) error {
		return sequence(c.awaitReady, c.closeAndWait)
	}},
	{"runs a task", func(c *candidate) error {
		return sequence(c.awaitReady, func() error { return c.runTask("task-1", `{"num1":1,"num2":2}`) }, c.closeAndWait)
	}},
	{"repeats the task_id, whatever characters it contains", func(c *candidate) error {
		return sequence(c.awaitReady,
			func() error { return c.runTask(`quote " backslash \ slash /`, `{}`) },
			func() error { return c.runTask("ünïcödé 漢字 😀 \u2028", `{}`) },
			func() error { return c.runTask("tab\tnewline\n\x01", `{}`) },
			func() error { return c.runTask(strings.Repeat("long", 1000), `{}`) },
			c.closeAndWait)
	}},
	{"accepts any data", func(c *candidate) error {
		text, _ := json.Marshal(strings.Repeat("x", 1<<20))
		return sequence(c.awaitReady,
			func() error { return c.runTask("null", `null`) },
			func() error { return c.runTask("numbers", `[9007199254740993, 1e400, -0.0, 0.1]`) },
			func() error { return c.runTask("list", `[[],{},"",[[["deep"]]]]`) },
			func() error { return c.runTask("a megabyte", `{"text":`+string(text)+`}`) },
			c.closeAndWait)
	}},
	{"runs 100 tasks in a row", func(c *candidate) error {
		if err := c.awaitReady(); err != nil {
			return err
		}
		for i := range 100 {
			if err := c.runTask(fmt.Sprintf("task-%d", i), `{"n":1}`); err != nil {
				return err
			}
		}
		return c.closeAndWait()
	}},
	{"ignores unknown lines and fields", func(c *candidate) error {
		return sequence(c.awaitReady,
			func() error {
				c.send(`{"weather":{"wind":"north"}}` + "\n")
				c.addPermit()
				c.send(`{"new":[1],"task_id":"task-1","attempt":2,"data":{},"more":{"task_id":"no"}}` + "\n")
				return c.expectReply("task-1")
			},
			c.closeAndWait)
	}},
	{"replies to a task that was sent before end of file", func(c *candidate) error {
		return sequence(c.awaitReady, func() error {
			c.addPermit()
			c.send(`{"task_id":"last","attempt":1,"data":{}}` + "\n")
			return c.closeBeforeReply()
		})
	}},
	{"claims each task with one byte (only with \"ahead\")", checkClaim},
	{"returns revoked tasks (only with \"ahead\")", checkRevoke},
}

// closeBeforeReply closes the candidate's input before the reply to the last task arrives, and then
// checks this reply.
func (c *candidate) closeBeforeReply() error {
	done := make(chan error, 1)
	go func() { done <- c.closeAndWait() }()
	return errors.Join(c.expectReply("last"), <-done)
}

// checkClaim adds more permits than there are tasks, and counts the permits that the candidate
// uses.
func checkClaim(c *candidate) error {
	if err := c.awaitReady(); err != nil || !c.prefetches {
		return err
	}
	const more = 3
	for range more {
		c.addPermit()
	}
	if err := c.runTask("task-1", `{}`); err != nil {
		return err
	}
	if remaining := c.revoke(); remaining != more {
		return fmt.Errorf("the program read %d bytes from the pipe CTWORKER_CLAIM_FD for one task: read one byte per task, before you start it", 1+more-remaining)
	}
	return c.closeAndWait()
}

// checkRevoke sends three tasks, but only one permit.
func checkRevoke(c *candidate) error {
	if err := c.awaitReady(); err != nil || !c.prefetches {
		return err
	}
	c.addPermit()
	c.send(`{"task_id":"kept","attempt":1,"data":{}}` + "\n" +
		`{"task_id":"back-1","attempt":1,"data":{}}` + "\n" + `{"task_id":"back-2","attempt":1,"data":{}}` + "\n")
	if err := c.expectReply("kept"); err != nil {
		return err
	}
	for _, id := range []string{"back-1", "back-2"} {
		l, err := c.readLine(fmt.Sprintf(`{"task_id":%q,"returned":true}`, id))
		if err != nil {
			return err
		}
		if string(l.ID) != id || !l.Returned {
			return fmt.Errorf(`task %q was revoked, but the program did not return it: if no byte can be read from the pipe CTWORKER_CLAIM_FD, do not run the task, and reply {"task_id":%q,"returned":true}`, id, id)
		}
	}
	return sequence(func() error { return c.runTask("after", `{}`) }, c.closeAndWait)
}

// sequence runs steps until one fails.
func sequence(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Run runs all cases on the program argv, and calls report after each. timeout is the limit of
// each wait within a case. Run reports whether the program passed all cases. It returns an
// error if the program cannot be started.
func Run(argv []string, timeout time.Duration, report func(Finding)) (bool, error) {
	all := true
	for _, tc := range cases {
		c, err := start(argv, timeout)
		if err != nil {
			return false, err
		}
		err = tc.run(c)
		c.close()
		report(Finding{tc.name, err})
		all = all && err == nil
	}
	return all, nil
}
