package procexec

// GuardPid returns the pid of the guard of l.
func GuardPid(l *Launcher) int { return l.guard.process.Pid }

// AddLive adds an entry for a running process to l, without starting a process. The returned
// function removes the entry.
func AddLive(l *Launcher) (remove func()) {
	entry, err := l.table.reserve()
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	p := &Process{launcher: l, id: l.nextID, tableEntry: entry, done: make(chan struct{})}
	l.live[p.id] = p
	return func() { l.remove(p) }
}

// QuietTasks is quietTasks.
const QuietTasks = quietTasks
