package procexec

// GuardPid returns the pid of l's guard.
func GuardPid(l *Launcher) int { return l.guard.process.Pid }

// AddLive adds a process that was never started to the running processes of l, and returns a
// function that removes it.
func AddLive(l *Launcher) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	p := &Process{launcher: l, id: l.nextID, done: make(chan struct{})}
	l.live[p.id] = p
	return func() { l.table.clear(0, 1); l.remove(p) }
}
