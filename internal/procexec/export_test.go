package procexec

// GuardPid is the process id of l's guard.
func GuardPid(l *Launcher) int { return l.guard.process.Pid }

// AddLive enters a process that was never started into l's books, and returns
// what takes it out again.
func AddLive(l *Launcher) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	p := &Process{launcher: l, id: l.nextID, done: make(chan struct{})}
	l.live[p.id] = p
	return func() { l.table.clear(0, 1); l.remove(p) }
}
