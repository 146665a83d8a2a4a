package worker

import (
	"cmp"
	"context"
	"sync"

	"github.com/ctworker/ctworker/internal/queue"
)

// instance is what the provider calls this machine. A pool manager knows it by that name only.
type instance struct {
	mu       sync.Mutex
	id, zone string // "" until the metadata service has answered
}

// instance returns what the provider calls this machine, and where it is. While the metadata service
// does not answer, the name is the host name: that is not kept, as a manager that never hears of an
// instance by its own name takes it for one that has not started, and terminates it.
func (w *Worker) instance(ctx context.Context) (id, zone string) {
	known := &w.known
	known.mu.Lock()
	id, zone = cmp.Or(known.id, w.opts.Config.InstanceID), cmp.Or(known.zone, w.opts.Config.Zone)
	known.mu.Unlock()
	if id != "" || w.opts.Config.Provider == "" {
		return cmp.Or(id, w.hostname), zone
	}
	if id, zone = queue.AskInstance(ctx, w.opts.Config.Provider); id == "" {
		return w.hostname, zone
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.id, known.zone = id, zone
	return id, zone
}
