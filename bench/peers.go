package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// peers compares ctworker with other tools. These tools are installed on the machine, or in
// build/peers by scripts/peers.
func (b *bench) peers() error {
	python, env, err := b.python()
	if err != nil {
		return err
	}
	slots := runtime.NumCPU()
	fmt.Printf("\ncompared with ctworker: %s\n", strings.Join(peerVersions(), ", "))
	if err := b.commandPeers(slots); err != nil {
		return err
	}
	scripts, err := filepath.Abs("bench/peers")
	if err != nil {
		return err
	}
	theirs, err := filepath.Abs("build/peers/bin/python")
	if err != nil {
		return err
	}
	ours := func(isolation string, n int64) (*contender, error) {
		file := fmt.Sprintf("tasks-%d.json", n)
		return &contender{
			name: "ctworker, --isolation " + isolation, tasks: n, env: env,
			argv: []string{python, "noop.py", "-j", strconv.Itoa(slots), "--task-file", file, "--event-log-file", "events.log", "--isolation", isolation},
		}, b.taskFile(file, n)
	}
	peer := func(name, script string, n int64, more ...string) *contender {
		return &contender{name: name, tasks: n, argv: append([]string{theirs, filepath.Join(scripts, script), strconv.FormatInt(n, 10), strconv.Itoa(slots)}, more...)}
	}
	reuse, err := ours("reuse", 100_000)
	if err != nil {
		return err
	}
	fork, err := ours("fork", 3000)
	if err != nil {
		return err
	}
	if err := b.compare("Python functions that do nothing, in worker processes", reuse,
		peer("concurrent.futures", "futures.py", 40_000), peer("dask.distributed", "dask_peer.py", 10_000), peer("Celery, redis", "celery_peer.py", 10_000)); err != nil {
		return err
	}
	return b.compare("Python functions that do nothing, one process per task", fork,
		peer("multiprocessing, 1 task per child", "pool.py", 3000), peer("concurrent.futures, 1 task per child", "futures.py", 200, "fresh"))
}

// compare runs the contender ours and the peers alternately. The measured time includes the start
// of each program. The programs may run different numbers of tasks.
func (b *bench) compare(title string, ours *contender, peers ...*contender) error {
	all := append([]*contender{ours}, peers...)
	if err := b.inTurn(all); err != nil {
		return err
	}
	fmt.Printf("\n%s, %d rounds, including the start of each program\n", title, b.rounds)
	header()
	for _, c := range all {
		baseline := ours
		if c == ours {
			baseline = nil
		}
		b.report.add(row{Section: "peers", Slots: runtime.NumCPU()}, c, baseline).print()
	}
	return nil
}

func (b *bench) commandPeers(slots int) error {
	const n = 5000
	if err := b.taskFile("tasks-5000.json", n); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	j := strconv.Itoa(slots)
	ours := &contender{name: "ctworker run", tasks: n, argv: []string{b.binary, "run", "--task-file", "tasks-5000.json", "--event-log-file", "events.log", "-j", j, "--", "/bin/true"}}
	peers := []*contender{
		{name: "xargs -n1", tasks: n, argv: []string{"xargs", "-P", j, "-n1", "/bin/true"}, stdin: lines(n)},
		{name: "bare exec in Go", tasks: n, env: []string{roleVar + "=exec"}, argv: []string{self, strconv.Itoa(n), j}},
	}
	// -d makes xargs pass each line as one argument, without interpreting quotes.
	peers[0].argv = append([]string{"xargs", "-d", "\n"}, peers[0].argv[1:]...)
	if parallel := gnuParallel(); parallel != "" {
		peers = append(peers, &contender{name: "GNU parallel", tasks: n / 5, argv: []string{"perl", parallel, "--will-cite", "-j", j, "/bin/true"}, stdin: lines(n / 5)})
	}
	return b.compare("commands that do nothing (/bin/true)", ours, peers...)
}

// gnuParallel returns the path of GNU parallel, or "" if it is not installed.
func gnuParallel() string {
	if path, err := exec.LookPath("parallel"); err == nil {
		return path
	}
	path, err := filepath.Abs("build/peers/parallel/usr/bin/parallel")
	if _, missing := os.Stat(path); err != nil || missing != nil {
		return ""
	}
	return path
}

// peerVersions returns the versions of the peers.
func peerVersions() []string {
	all := []string{output("xargs", "--version")}
	if parallel := gnuParallel(); parallel != "" {
		all = append(all, output("perl", parallel, "--version"))
	} else {
		all = append(all, "no GNU parallel")
	}
	const code = "import sys, celery, dask, redis; print('Python ' + sys.version.split()[0] + ', Celery ' + celery.__version__ + ' with redis ' + redis.__version__ + ', dask ' + dask.__version__)"
	return append(all, output("build/peers/bin/python", "-c", code))
}
