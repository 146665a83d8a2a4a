package worker

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/redact"
)

// maxAdvice is the maximum length of a command that is printed, in bytes. A longer one, such as the command
// of a run over thousands of inputs after ":::", would push everything else off the screen.
const maxAdvice = 4000

// advise sets the commands that continue the run and that run its failed tasks again. It sets no
// commands if the command line of this program is not known, if the run writes no event log, or if the
// tasks come from a queue.
func (w *Worker) advise(s *Summary) {
	cfg := w.opts.Config
	if len(w.opts.Command) == 0 || !cfg.EventLogToFile || w.fromQueue() {
		return
	}
	s.SameInput = cfg.TaskPath() == "-" || w.opts.InputFile == "-"
	if s.Incomplete || s.RetriesLeft() {
		switch {
		case cfg.Rerun != "":
			s.ContinueWith = w.command("--rerun", cfg.Rerun)
		default:
			s.ContinueWith = w.command("--resume")
		}
	}
	if s.NotCompleted()+s.EarlierFailed > 0 {
		if rerun := w.command("--rerun", "failed"); rerun != s.ContinueWith {
			s.RerunWith = rerun
		}
	}
}

// command returns the command of this run with other flags about earlier runs.
func (w *Worker) command(flags ...string) string {
	all := w.opts.Command
	at, end := min(w.opts.FlagsAt, len(all)), min(w.opts.FlagsEnd, len(all))
	before, after := all[:at], all[at:]
	if at < end {
		after = slices.Concat(withoutContinuing(all[at:end]), all[end:])
	} else {
		before = withoutContinuing(all[:at])
	}
	environment := w.opts.Config.GivenVariables(os.LookupEnv)
	line := shellCommand(append(environment, slices.Concat(before, flags, after)...))
	hidden := func(arg string) bool { return redact.Text(arg) != arg }
	why := ""
	switch {
	case slices.ContainsFunc(all, hidden) || slices.ContainsFunc(environment, hidden):
		why = "it contains credentials"
	case len(line) > maxAdvice:
		why = "it is long"
	case strings.HasPrefix(w.path, "/dev/fd/") || strings.HasPrefix(w.path, "/proc/self/fd/"):
		why = "it reads " + w.path + ", which belongs to this run; the tasks must come from the same source again"
	default:
		return line
	}
	return fmt.Sprintf("the command of this run with %s (not shown, because %s)", strings.Join(flags, " "), why)
}

// withoutContinuing returns flags without those that select how a run continues an earlier one.
func withoutContinuing(flags []string) (kept []string) {
	for i := 0; i < len(flags); i++ {
		switch name, _, hasValue := strings.Cut(flags[i], "="); name {
		case "--resume", "--no-resume":
		case "--rerun":
			if !hasValue {
				i++
			}
		default:
			kept = append(kept, flags[i])
		}
	}
	return kept
}

// shellCommand returns the text of a command line for a POSIX shell.
func shellCommand(args []string) string {
	quoted := make([]string, len(args))
	command := false
	for i, arg := range args {
		name, value, isVariable := strings.Cut(arg, "=")
		if isVariable && !command && isName(name) {
			quoted[i] = name + "=" + shellQuote(value) // the name of a variable must not be quoted
			continue
		}
		command = true
		quoted[i] = shellQuote(arg)
	}
	return strings.Join(quoted, " ")
}

func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' }) < 0
}

// shellQuote quotes an argument for a POSIX shell. The result contains only printable characters.
func shellQuote(arg string) string {
	switch {
	case arg != "" && strings.IndexFunc(arg, isSpecial) < 0:
		return arg
	case utf8.ValidString(arg) && strings.IndexFunc(arg, func(r rune) bool { return !unicode.IsPrint(r) }) < 0:
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return escaped(arg)
}

// isSpecial reports whether an argument with the character r must be quoted.
func isSpecial(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	return !plain
}

// escaped returns arg in quotes in which every character that is not printable is escaped.
func escaped(arg string) string {
	var b strings.Builder
	b.WriteString("$'") // POSIX.1-2024, and bash, ksh and zsh for decades
	for len(arg) > 0 {
		r, size := utf8.DecodeRuneInString(arg)
		switch {
		case r == '\'' || r == '\\':
			_, _ = fmt.Fprintf(&b, `\%c`, r)
		case r == '\n':
			b.WriteString(`\n`)
		case unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			b.WriteRune(r)
		default:
			for _, c := range []byte(arg[:size]) {
				_, _ = fmt.Fprintf(&b, `\%03o`, c)
			}
		}
		arg = arg[size:]
	}
	b.WriteString("'")
	return b.String()
}
