package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// mode is how a task is run.
type mode struct {
	name string
	// local and queued are how many tasks are run from a file, and from a queue, which
	// has faster times as many in the faster server's.
	local, queued, faster int64
	// argv and env run them; the flags of ctworker follow.
	argv, env []string
	tail      []string // after the flags
	// generate has n tasks made up by the program; nil: they come on standard input.
	generate func(n int64) []string
	// ceiling runs the least that the machine needs for n such tasks; nil: nothing says.
	ceiling func(n int64, slots int) *contender
}

// allModes are the ways in which a task can be run.
func (b *bench) allModes() ([]mode, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	python, env, err := b.python()
	if err != nil {
		return nil, err
	}
	generateGo := func(n int64) []string { return []string{generateVar + "=" + strconv.FormatInt(n, 10)} }
	generatePython := func(n int64) []string { return []string{"GENERATE=" + strconv.FormatInt(n, 10)} }
	ping := func(n int64, slots int) *contender {
		return &contender{
			name: fmt.Sprintf("socket alone, %d", slots), tasks: n, env: []string{roleVar + "=ping"},
			argv: []string{self, strconv.FormatInt(n, 10), strconv.Itoa(slots), strconv.Itoa(pipelineDepth)},
		}
	}
	fork := func(n int64, slots int) *contender {
		return &contender{
			name: fmt.Sprintf("bare fork, %d", slots), tasks: n, env: env,
			argv: []string{python, "fork.py", strconv.FormatInt(n, 10), strconv.Itoa(slots)},
		}
	}
	execs := func(n int64, slots int) *contender {
		return &contender{
			name: fmt.Sprintf("bare exec in Go, %d", slots), tasks: n, env: []string{roleVar + "=exec"},
			argv: []string{self, strconv.FormatInt(n, 10), strconv.Itoa(slots)},
		}
	}
	return []mode{
		{
			name: "in process, Go", local: 400_000, queued: 2000, faster: 10, argv: []string{self},
			env: []string{roleVar + "=worker", inProcessVar + "=1"}, generate: generateGo,
		},
		{name: "Go worker process", local: 400_000, queued: 2000, faster: 10, argv: []string{self}, env: []string{roleVar + "=worker"}, generate: generateGo, ceiling: ping},
		{
			name: "Python, reuse", local: 100_000, queued: 2000, faster: 10, argv: []string{python, "noop.py"}, env: env,
			tail: []string{"--isolation", "reuse"}, generate: generatePython, ceiling: ping,
		},
		{
			name: "Python, fork", local: 2000, queued: 1000, faster: 2, argv: []string{python, "noop.py"}, env: env,
			tail: []string{"--isolation", "fork"}, generate: generatePython, ceiling: fork,
		},
		{name: "command", local: 2000, queued: 1000, faster: 2, argv: []string{b.binary, "run"}, tail: []string{"--", "/bin/true"}, ceiling: execs},
	}, nil
}

// matrix measures each mode with each source and number of slots.
func (b *bench) matrix() error {
	modes, err := b.allModes()
	if err != nil {
		return err
	}
	for _, source := range []string{"generated", "file", "SQS", "PubSub"} {
		if !strings.Contains(source, b.sources) {
			continue
		}
		if err := b.fromSource(source, modes); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) fromSource(source string, modes []mode) error {
	var at *server
	if source == "SQS" || source == "PubSub" {
		var err error
		if at, err = startServer(source); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		defer at.close()
	}
	for _, slots := range slotCounts() {
		fmt.Printf("\ntasks that do nothing, %s, %d slots, %d rounds in turn\n", sourceNames[source], slots, b.rounds)
		var cs []*contender
		beside := map[*contender]*contender{}
		base := map[*contender]row{}
		loops := map[int64]*contender{}
		for _, m := range modes {
			if !strings.Contains(m.name, b.modes) {
				continue
			}
			c, err := b.cell(m, source, slots, at)
			if err != nil {
				return err
			}
			cs = append(cs, c)
			var ceiling *contender
			switch {
			case at != nil:
				if ceiling = loops[c.tasks]; ceiling == nil {
					if ceiling, err = b.loop(at, c.tasks); err != nil {
						return err
					}
					loops[c.tasks] = ceiling
					cs = append(cs, ceiling)
				}
			case m.ceiling != nil:
				ceiling = m.ceiling(c.tasks, slots)
				cs = append(cs, ceiling)
			}
			beside[c] = ceiling
			base[c] = row{Section: "matrix", Mode: m.name, Source: source, Slots: slots}
		}
		if err := b.inTurn(cs); err != nil {
			return err
		}
		header()
		for _, c := range cs {
			r, ok := base[c]
			if !ok {
				r = row{Section: "ceiling", Source: source, Slots: slots}
			}
			b.report.add(r, c, beside[c]).print()
		}
	}
	return nil
}

// sourceNames are what sources are called in headlines.
var sourceNames = map[string]string{ //nolint:gochecknoglobals // a table
	"generated": "made up by the program", "file": "from a JSON file", "SQS": "from a queue of moto (SQS)", "PubSub": "from a queue of the Pub/Sub emulator",
}

// cell is a mode with a source.
func (b *bench) cell(m mode, source string, slots int, at *server) (*contender, error) {
	c := &contender{name: m.name + ", -j " + strconv.Itoa(slots), tasks: m.local, env: m.env}
	flags := []string{"-j", strconv.Itoa(slots)}
	switch {
	case at != nil:
		c.tasks, c.untilTold = m.queued, true
		if at.name == "PubSub" {
			c.tasks *= m.faster
		}
		queue := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(c.name))
		file := fmt.Sprintf("tasks-%d.json", c.tasks)
		if err := b.taskFile(file, c.tasks); err != nil {
			return nil, err
		}
		flags = append(flags, "--event-log-to-file", "--event-log-file", "events.log", "--queue-name", queue, "--max-num-tasks", strconv.FormatInt(c.tasks, 10))
		c.env = append(c.env[:len(c.env):len(c.env)], at.env...)
		c.requests = at.requests
		c.before = func() error { return at.fill(b.binary, b.dir, queue, file) }
		c.after = func() error { return at.drop(b.binary, b.dir, queue) }
	case source == "generated" && m.generate == nil:
		flags = append(flags, "--task-file", "-", "--event-log-file", "events.log")
		c.stdin = lines(c.tasks)
	case source == "generated":
		flags = append(flags, "--event-log-file", "events.log")
		c.env = append(c.env[:len(c.env):len(c.env)], m.generate(c.tasks)...)
	default:
		file := fmt.Sprintf("tasks-%d.json", c.tasks)
		if err := b.taskFile(file, c.tasks); err != nil {
			return nil, err
		}
		flags = append(flags, "--task-file", file, "--event-log-file", "events.log")
	}
	c.argv = append(append(append([]string{}, m.argv...), flags...), m.tail...)
	return c, nil
}

// loop is the ceiling of a source: its SDK in a bare loop.
func (b *bench) loop(at *server, n int64) (*contender, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &contender{name: fmt.Sprintf("SDK in a loop, %d", n), tasks: n, requests: at.requests}
	file := fmt.Sprintf("tasks-%d.json", n)
	c.before = func() error { return at.fill(b.binary, b.dir, "loop", file) }
	c.after = func() error { return at.drop(b.binary, b.dir, "loop") }
	count, loops := strconv.FormatInt(n, 10), strconv.Itoa(sdkLoops)
	if at.name == "SQS" {
		c.argv, c.env = []string{self, at.address, count, loops}, []string{roleVar + "=sqs"}
	} else {
		c.argv, c.env = []string{self, at.address, at.project, count, loops}, []string{roleVar + "=pubsub"}
	}
	return c, nil
}

const pythonWorker = `
import asyncio, os, sys
from ctworker import Worker

def process(task_id, task_data, worker_data):
    return False, True

def tasks():
    for i in range(int(os.environ["GENERATE"])):
        yield {"task_id": f"task-{i:08}", "data": {"num1": i, "num2": 2 * i}}

if __name__ == "__main__":
    source = tasks if "GENERATE" in os.environ else None
    asyncio.run(Worker(process, task_source=source, args=sys.argv[1:]).start())
`

// bareFork is the ceiling of a fork for each task: nothing but forks, of a process
// that has imported what the worker has.
const bareFork = `
import asyncio, os, sys
from ctworker import Worker
n, most = int(sys.argv[1]), int(sys.argv[2])
live = 0
for _ in range(n):
    if live == most:
        os.wait()
        live -= 1
    if os.fork() == 0:
        os._exit(0)
    live += 1
while live:
    os.wait()
    live -= 1
`

// python writes the Python programs, and returns the interpreter and its environment.
func (b *bench) python() (python string, env []string, err error) {
	sdk, err := filepath.Abs("sdk/python/src")
	if err != nil {
		return "", nil, err
	}
	// The interpreter itself, and not a script that looks for one.
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return "", nil, fmt.Errorf("python3: %w", err)
	}
	for name, text := range map[string]string{"noop.py": pythonWorker, "fork.py": bareFork} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return "", nil, err
		}
	}
	return strings.TrimSpace(string(out)), []string{"PYTHONPATH=" + sdk, "CTWORKER_BIN=" + b.binary, "PYTHONDONTWRITEBYTECODE="}, nil
}
