package help

import (
	"fmt"
	"slices"
	"strings"
)

// Shells are the shells for which Completion can write a script.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// Completion returns a script that completes the command lines of the program c in a shell. program
// is the name of the executable. The script contains all names and values, so the shell does not
// start the program to complete a word.
func (c Command) Completion(shell, program string) (string, error) {
	s := script{program: program, root: c, function: "_" + identifier(program)}
	switch shell {
	case "bash":
		s.bash()
	case "zsh":
		s.zsh()
	case "fish":
		s.fish()
	default:
		return "", fmt.Errorf("%q is not a known shell: give bash, zsh or fish", shell)
	}
	return s.String(), nil
}

// script is a completion script that is being written.
type script struct {
	strings.Builder
	program  string
	function string // prefix of all shell functions
	root     Command
}

func (s *script) printf(format string, args ...any) { _, _ = fmt.Fprintf(&s.Builder, format, args...) }

// identifier returns name as a part of the name of a shell function.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name)
}

// walk calls visit for c and all of its subcommands, with the words that follow the program's
// name: "", " queue", " queue status".
func (c Command) walk(path string, visit func(path string, c Command)) {
	visit(path, c)
	for _, sub := range c.Commands {
		sub.walk(path+" "+sub.lastName(), visit)
	}
}

// runsCommand reports whether a command line of another program follows "--".
func (c Command) runsCommand() bool {
	return slices.ContainsFunc(c.Usage, func(line string) bool { return strings.Contains(line, "-- COMMAND") })
}

// names returns the names of the subcommands.
func (c Command) names() (names []string) {
	for _, sub := range c.Commands {
		names = append(names, sub.lastName())
	}
	return names
}

// brief returns the description of a flag for a list of candidates: its first clause.
func (f Flag) brief() string {
	text, _, _ := strings.Cut(f.Usage, ";")
	return text
}

// quoted returns text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
