package program

import (
	"io"
	"sync"
)

// switchWriter passes writes on to a writer that can be exchanged, such as a
// progress bar for the terminal that it is drawn on.
type switchWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// exchange sets what next returns; no write goes on while next runs.
func (s *switchWriter) exchange(next func() io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = next()
}

func (s *switchWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
