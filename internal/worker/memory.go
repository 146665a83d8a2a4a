package worker

import (
	"context"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
)

const (
	// memoryInterval is how often the memory of the tasks is measured.
	memoryInterval = time.Second
	// maxMeasured is the maximum number of tasks that are measured. With more running tasks, the memory
	// is unknown.
	maxMeasured = 256
	// memoryTimeout is how long a measurement waits for the list of running tasks.
	memoryTimeout = 50 * time.Millisecond
)

// taskMemory measures the memory of the running tasks. It is safe for concurrent use.
type taskMemory struct {
	mu   sync.Mutex
	at   time.Time
	size int64
}

// of returns the sum of the resident memory of the processes of the running tasks, or 0 if it is
// unknown. Memory that processes share is counted for each of them.
func (m *taskMemory) of(running func(context.Context) ([]procexec.RunningTask, error)) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if running == nil || time.Since(m.at) < memoryInterval {
		return m.size
	}
	m.at, m.size = time.Now(), 0
	ctx, cancel := context.WithTimeout(context.Background(), memoryTimeout)
	defer cancel()
	tasks, err := running(ctx)
	if err != nil || len(tasks) > maxMeasured {
		return 0
	}
	for _, t := range tasks {
		if t.Pid > 0 {
			size, _ := procexec.ResidentMemory(t.Pid) // 0 for a process that has just exited
			m.size += size
		}
	}
	return m.size
}
