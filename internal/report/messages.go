package report

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/outcome"
)

const (
	// maxGroups is the maximum number of groups of failures in memory. If there are more, the rarest half
	// is removed.
	maxGroups     = 2000
	shownGroups   = 30
	shownExamples = 3
	// minTaskID is the minimum length of a task ID that is replaced in messages. A shorter ID may be part of
	// a word. IDs that are numbers are replaced like other numbers.
	minTaskID = 2
)

type groupKey struct {
	kind journal.Kind
	text string
}

// A group contains the failed attempts with the same normalized message.
type group struct {
	count, retried int64
	busy           int64
	first, last    int64
	example        string
	tasks          []string
}

type groups struct {
	all     map[groupKey]*group
	removed int64 // attempts of groups that were removed
}

// add adds a failed attempt.
func (g *groups) add(e *event) {
	id := string(e.TaskID[:min(len(e.TaskID), 4*maxText)])
	reason := visible(outcome.Reason(kindOf(e.Kind), textOf(e.exception), e.exitCode, textOf(e.stderrLine)))
	key := groupKey{e.Kind, normalized(e, reason, id)}
	to := g.all[key]
	if to == nil {
		if len(g.all) >= maxGroups {
			g.prune()
		}
		to = &group{example: reason, first: e.time, last: e.time}
		g.all[key] = to
	}
	to.count++
	if e.Retry {
		to.retried++
	}
	to.busy += max(e.elapsed, 0)
	if e.time != unknown {
		to.last = max(to.last, e.time)
		if to.first == unknown || e.time < to.first {
			to.first = e.time
		}
	}
	if len(to.tasks) < shownExamples {
		if id := shortID(id); !slices.Contains(to.tasks, id) {
			to.tasks = append(to.tasks, id)
		}
	}
}

// prune removes the rarest half of the groups.
func (g *groups) prune() {
	keys := slices.Collect(maps.Keys(g.all))
	slices.SortFunc(keys, func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(g.all[a].count, g.all[b].count), cmp.Compare(a.text, b.text), cmp.Compare(a.kind, b.kind))
	})
	for _, k := range keys[:len(keys)/2] {
		g.removed += g.all[k].count
		delete(g.all, k)
	}
}

// failures returns the most frequent groups, and the number of attempts in all others.
func (g *groups) failures() (shown []Failure, other int64) {
	keys := slices.SortedFunc(maps.Keys(g.all), func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(g.all[b].count, g.all[a].count), cmp.Compare(a.text, b.text), cmp.Compare(a.kind, b.kind))
	})
	other = g.removed
	for i, k := range keys {
		from := g.all[k]
		if i >= shownGroups {
			other += from.count
			continue
		}
		shown = append(shown, Failure{
			Outcome: k.kind.String(), Message: k.text, Example: from.example, Count: from.count, Retried: from.retried,
			SlotSeconds: seconds(from.busy), First: timeOf(from.first), Last: timeOf(from.last), TaskIDs: from.tasks,
		})
	}
	return shown, other
}

func kindOf(k journal.Kind) outcome.Kind {
	switch k {
	case journal.Exception:
		return outcome.Exception
	case journal.TimedOut:
		return outcome.TimedOut
	case journal.Exited:
		return outcome.Exited
	}
	return outcome.Completed
}

// normalized returns the reason with the parts replaced that differ between tasks. It keeps the exit code.
func normalized(e *event, reason, id string) string {
	prefix := ""
	if e.Kind == journal.Exited {
		var rest string
		prefix, rest, _ = strings.Cut(reason, ": ")
		if rest == "" {
			return prefix
		}
		prefix, reason = prefix+": ", rest
	}
	if len(id) >= minTaskID && strings.Trim(id, "0123456789") != "" {
		reason = strings.ReplaceAll(reason, visible(id), taskMark)
	}
	return prefix + strings.ReplaceAll(normalize(reason), taskMark, "<task>")
}

// taskMark replaces the task ID in a message until all other parts have been replaced. Unlike the final
// placeholder, it can be part of a path.
const taskMark = "\x00"

// normalize replaces addresses, paths, hexadecimal numbers and other numbers by placeholders.
func normalize(text string) string {
	var b strings.Builder
	boundary := true // a word can begin here
	for len(text) > 0 {
		if boundary {
			if n, placeholder := wordAt(text); n > 0 {
				b.WriteString(placeholder)
				text, boundary = text[n:], false
				continue
			}
		}
		if isDigit(text[0]) {
			b.WriteString("<n>")
			text, boundary = text[len(numberStart.FindString(text)):], false
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		b.WriteString(text[:size])
		boundary = !unicode.IsLetter(r) && r != '_' && r != '/' && r != '.' && r != '>'
		text = text[size:]
	}
	return b.String()
}

var (
	// numberStart matches a number, such as 12, 1.5, 10:30:05 or 1e-9.
	numberStart = regexp.MustCompile(`^[0-9]+(?:[.,:_][0-9]+|[eE][-+]?[0-9]+)*`)
	urlStart    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+]*://[^\s"'` + "`" + `,;()\[\]{}<>|]+`)
	// pathStart matches an absolute or relative path. A colon ends it, as in /a/b.py:12.
	pathStart = regexp.MustCompile(`^(?:[A-Za-z]:\\|(?:~|\.\.?)?/)[^\s:"'` + "`" + `,;()\[\]{}<>|=]+`)
	hexStart  = regexp.MustCompile(`^(?:0[xX][0-9a-fA-F]+|[0-9a-fA-F][0-9a-fA-F-]{7,}\b)`)
)

// wordAt returns the length and the placeholder of an address, a path or a hexadecimal number at the start
// of text. The length is 0 if there is none.
func wordAt(text string) (n int, placeholder string) {
	switch c := text[0]; {
	case c == '/' || c == '.' || c == '~':
		return len(strings.TrimRight(pathStart.FindString(text), ".!?")), "<path>"
	case !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z'):
		return 0, ""
	}
	if word := urlStart.FindString(text); word != "" {
		return len(strings.TrimRight(word, ".:!?")), "<url>"
	}
	if word := pathStart.FindString(text); word != "" {
		return len(strings.TrimRight(word, ".!?")), "<path>"
	}
	word := hexStart.FindString(text)
	if strings.HasPrefix(word, "0x") || strings.HasPrefix(word, "0X") || strings.ContainsAny(word, "0123456789") && strings.ContainsAny(word, "abcdefABCDEF") {
		return len(word), "<hex>"
	}
	return 0, ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
