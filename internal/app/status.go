package app

import (
	"path/filepath"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/status"
	"github.com/ctworker/ctworker/internal/worker"
)

// statusServer serves the status of a run. It does nothing if server is nil.
type statusServer struct{ server *status.Server }

// listen opens --status-address, if it is set.
func (d *display) listen(cfg *config.Config) (statusServer, error) {
	if cfg.StatusAddress == "" {
		return statusServer{}, nil
	}
	server, err := status.Listen(cfg.StatusAddress, d.log.With().Str("component", "status").Logger())
	if err != nil {
		return statusServer{}, err
	}
	d.log.Info().Str("url", "http://"+server.Address()+"/").Msg("serving the status of the run")
	return statusServer{server}, nil
}

func (s statusServer) serve(w *worker.Worker) {
	if s.server != nil {
		s.server.Serve(w)
	}
}

func (s statusServer) close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// programName returns the name of the program that runs the tasks.
func (o *Options) programName() string {
	switch {
	case o.ForkServer != nil:
		return o.ForkServer.Hello.Program
	case len(o.Argv) > 0:
		return filepath.Base(o.Argv[0])
	}
	return o.Name
}
