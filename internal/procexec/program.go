package procexec

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
)

// findProgram returns the absolute path of the program of a command. For common mistakes, the error
// says how to correct them.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		if path, err = filepath.Abs(path); err == nil {
			return path, nil
		}
	}
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = `; make the file executable with "chmod +x", or start it with its interpreter, as in: -- python3 FILE`
	case errors.Is(err, exec.ErrNotFound) && strings.ContainsAny(name, " \t\n"):
		advice = `; give the program and its arguments as separate words, without quotes around all of them, or use a shell, as in: -- sh -c 'SCRIPT'`
	}
	return "", fmt.Errorf("find the program of the command: %w%s", err, advice)
}

// SuspectPlaceholder looks in the arguments of a command for text in braces that is probably a
// misspelled placeholder. It returns the first such text and the placeholder that was probably
// meant, or two empty strings if there is no such text.
func SuspectPlaceholder(args []string) (text, meant string) {
	for _, arg := range args {
		for rest := arg; ; {
			_, after, opened := strings.Cut(rest, "{")
			name, _, closed := strings.Cut(after, "}")
			if !opened || !closed {
				break
			}
			rest = after
			key, isKey := strings.CutPrefix(strings.ToLower(name), "data.")
			plain := strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(name))
			switch {
			case name == "task_id" || strings.HasPrefix(name, "data."):
			case plain == "taskid":
				return "{" + name + "}", "{task_id}"
			case isKey && key != "":
				return "{" + name + "}", "{data." + name[len("data."):] + "}"
			}
		}
	}
	return "", ""
}
