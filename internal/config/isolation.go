package config

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Values of Config.Isolation.
const (
	IsolationTask  = "task"  // a new process for each task
	IsolationReuse = "reuse" // one process per slot, which runs task after task
	IsolationFork  = "fork"  // a new fork of a Python program for each task
	IsolationSpawn = "spawn" // a new Python interpreter for each task
)

// SDK is the SDK that a worker program uses.
type SDK uint8

// The SDKs. NoSDK means ctworker itself, which runs a command.
const (
	NoSDK SDK = iota
	Go
	Python
	anySDK // accepts the values of all SDKs, for a command that runs no tasks
)

// isolations returns the values of Config.Isolation that are valid for a program that uses k. The
// first value is the default.
func (k SDK) isolations() []string {
	switch {
	case k == Go:
		return []string{IsolationReuse, IsolationTask}
	case k == Python && runtime.GOOS == "darwin": // the system libraries of macOS do not work after a fork
		return []string{IsolationSpawn, IsolationFork, IsolationReuse}
	case k == Python:
		return []string{IsolationFork, IsolationReuse, IsolationSpawn}
	case k == anySDK:
		return []string{IsolationTask, IsolationReuse, IsolationFork, IsolationSpawn}
	default:
		return []string{IsolationTask, IsolationReuse}
	}
}

// isolation returns the setting --isolation of a program that uses k.
func (k SDK) isolation() setting {
	usage := map[SDK]string{
		NoSDK: "With task, start COMMAND for each task; with reuse, start COMMAND once per slot, and send it task after task over the task protocol (docs/protocol.md)",
		Go:    "Run tasks in processes that stay and run task after task, or each task in a new process",
		Python: "Run each task in a new fork of this program, or tasks in forks that stay and run task after task, " +
			"or start the program again for each task",
	}[k]
	s := setting{
		name: isolationName, env: prefix + "ISOLATION", category: inRunning, extension: true, common: true,
		arg: strings.Join(k.isolations(), "|"), def: k.isolations()[0], usage: usage,
		at: func(c *Config) value { return field[string]{&c.Isolation, k.isolationCodec()} },
	}
	if k == Python {
		s.arg, s.defHelp = "fork|reuse|spawn", "fork; spawn on macOS"
	}
	return s
}

// isolationCodec returns the codec that accepts the isolations of k.
func (k SDK) isolationCodec() codec[string] {
	c := oneOf(k.isolations()...)
	parse := c.parse
	c.parse = func(raw string) (string, error) {
		v, err := parse(raw)
		switch {
		case err == nil:
			return v, nil
		case k == NoSDK && slices.Contains(Python.isolations(), raw):
			return "", fmt.Errorf("valid only for programs that use the Python package; %w", err)
		case k == Python && raw == IsolationTask:
			return "", fmt.Errorf("not valid for programs that use the Python package; %w", err)
		}
		return "", err
	}
	return c
}
