package status

import (
	"bytes"
	stdlog "log"

	"github.com/rs/zerolog"
)

// newErrorLog returns a logger for the errors of an http.Server, such as invalid requests.
func newErrorLog(log zerolog.Logger) *stdlog.Logger { return stdlog.New(errorWriter{log}, "", 0) }

type errorWriter struct{ log zerolog.Logger }

func (w errorWriter) Write(p []byte) (int, error) {
	w.log.Debug().Bytes("reason", bytes.TrimSpace(p)).Msg("request to the status address failed")
	return len(p), nil
}
