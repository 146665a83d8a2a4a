package eventlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// After the file of the log was removed, Write returns an error. After the file was only renamed, for
// example by a log rotation, Write continues.
func TestWrite_AfterTheFileWasRemovedOrRenamed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		take func(path string) error
		want error
	}{
		{"removed", os.Remove, eventlog.ErrRemoved},
		{"renamed", func(path string) error { return os.Rename(path, path+".1") }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "events.log")
			l, err := eventlog.Open(t.Context(), path, eventlog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close(t.Context()) }()
			events := []pipeline.Event{{Type: pipeline.FatalException, Exception: "x"}}
			if err := l.Write(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			if err := tc.take(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := l.Write(t.Context(), events); !errors.Is(err, tc.want) {
					t.Errorf("write: %v, want %v", err, tc.want)
				}
			}
		})
	}
}
