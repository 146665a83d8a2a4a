package procexec

import (
	"errors"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// Handshake is the first message from the fork server. It describes the user's program.
type Handshake struct {
	Version int    `json:"version"`
	SDK     string `json:"sdk"`
	// Argv is the command that starts the program again. It is empty if the program cannot be
	// started again, because it was read from standard input.
	Argv []string `json:"argv"`
	// Program is the name that log messages and errors use for the program.
	Program string `json:"program"`
	// Ahead reports whether forked processes accept further tasks while they run a task.
	Ahead bool `json:"ahead"`
	// Source is the task source that the program specifies. If Source is nil, the settings specify
	// the task source.
	Source *ForkServerSource `json:"source"`
}

// ForkServerSource is the task source of a program: the file File or, if File is empty, a pipe.
// This process has inherited the pipe as descriptor StreamFD, and reads tasks from it. Name is used
// in messages.
type ForkServerSource struct {
	File     string `json:"file"`
	StreamFD int    `json:"stream_fd"`
	Name     string `json:"name"`
}

// UnmarshalJSON implements json.Unmarshaler. Names and arguments may contain invalid UTF-8.
func (h *Handshake) UnmarshalJSON(b []byte) error {
	type plain Handshake
	var names struct {
		Argv    []rawjson.FileName `json:"argv"`
		Program rawjson.FileName   `json:"program"`
	}
	if err := errors.Join(taskproto.Unmarshal(b, (*plain)(h)), taskproto.Unmarshal(b, &names)); err != nil {
		return err
	}
	h.Program = string(names.Program)
	for i, arg := range names.Argv {
		h.Argv[i] = string(arg)
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler. Names may contain invalid UTF-8.
func (s *ForkServerSource) UnmarshalJSON(b []byte) error {
	type plain ForkServerSource
	var names struct {
		File rawjson.FileName `json:"file"`
		Name rawjson.FileName `json:"name"`
	}
	if err := errors.Join(taskproto.Unmarshal(b, (*plain)(s)), taskproto.Unmarshal(b, &names)); err != nil {
		return err
	}
	s.File, s.Name = string(names.File), string(names.Name)
	return nil
}
