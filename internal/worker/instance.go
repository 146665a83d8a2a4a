package worker

import (
	"cmp"
	"context"
	"sync"

	"github.com/ctworker/ctworker/internal/cloudqueue"
)

// instance caches the provider's ID and zone of this machine. A pool manager knows the
// machine only by that ID.
type instance struct {
	mu       sync.Mutex
	id, zone string // "" until the metadata service has responded
}

// instance returns the provider's ID of this machine and its zone. It caches the ID and the zone
// only if the metadata service has responded to each request. If the ID is unknown, instance
// returns the host name, and the next call queries the metadata service again: a pool manager that
// never sees the ID of an instance in an event concludes that the instance did not start, and
// terminates the instance.
func (w *Worker) instance(ctx context.Context) (id, zone string) {
	known := &w.known
	known.mu.Lock()
	id, zone = cmp.Or(known.id, w.opts.Config.InstanceID), cmp.Or(known.zone, w.opts.Config.Zone)
	known.mu.Unlock()
	if id != "" || w.opts.Config.Provider == "" {
		return cmp.Or(id, w.hostname), zone
	}
	i, err := cloudqueue.QueryInstance(ctx, w.opts.Config.Provider)
	if i.ID != "" && err == nil {
		known.mu.Lock()
		defer known.mu.Unlock()
		known.id, known.zone = i.ID, i.Zone
	}
	return cmp.Or(i.ID, w.hostname), i.Zone
}
