package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/units"
)

const (
	// maxGroups is the maximum number of groups of failures in memory. If there are more, the rarest half
	// is removed.
	maxGroups     = 2000
	shownGroups   = 30
	shownExamples = 3
	// minTaskID is the minimum length of a task ID that is replaced in messages. Shorter IDs may be part of
	// words.
	minTaskID = 3
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
	reason := outcome.Reason(kindOf(e.Kind), textOf(e.exception), e.exitCode, textOf(e.stderrLine))
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
		if id := units.ShortID(id); !slices.Contains(to.tasks, id) {
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
	if len(id) >= minTaskID {
		reason = strings.ReplaceAll(reason, id, taskMark)
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
		if text[0] >= '0' && text[0] <= '9' {
			n := numberAt(text)
			b.WriteString("<n>")
			text, boundary = text[n:], false
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		b.WriteString(text[:size])
		boundary = !unicode.IsLetter(r) && r != '_' && r != '/' && r != '.' && r != '>'
		text = text[size:]
	}
	return b.String()
}

// numberAt returns the length of the number at the start of text, such as 12, 1.5, 10:30:05 or 1e-9.
func numberAt(text string) int {
	n := 0
	for n < len(text) {
		c := text[n]
		switch {
		case isDigit(c):
		case strings.IndexByte(".,:_", c) >= 0 && n+1 < len(text) && isDigit(text[n+1]):
		case (c == 'e' || c == 'E') && n+1 < len(text) && isDigit(text[n+1]):
		case (c == 'e' || c == 'E') && n+2 < len(text) && (text[n+1] == '-' || text[n+1] == '+') && isDigit(text[n+2]):
			n++
		default:
			return n
		}
		n++
	}
	return n
}

// wordAt returns the length and the placeholder of an address, a path or a hexadecimal number at the start
// of text. The length is 0 if there is none.
func wordAt(text string) (n int, placeholder string) {
	end := strings.IndexAny(text, " \t\"'`,;()[]{}<>|=")
	if end < 0 {
		end = len(text)
	}
	word := strings.TrimRight(text[:end], ".:!?")
	switch scheme, _, ok := strings.Cut(word, "://"); {
	case ok && scheme != "" && strings.IndexFunc(scheme, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '+' }) < 0:
		return len(word), "<url>"
	case len(word) > 1 && (word[0] == '/' || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../") || strings.HasPrefix(word, "~/") || isDrive(word)):
		if colon := strings.IndexByte(word[min(2, len(word)):], ':'); colon >= 0 { // such as /a/b.py:12
			word = word[:colon+2]
		}
		return len(word), "<path>"
	case strings.HasPrefix(word, "0x") || strings.HasPrefix(word, "0X"):
		return hexAt(word, 2), "<hex>"
	}
	if n := hexAt(word, 0); n >= 8 && strings.IndexAny(word[:n], "0123456789") >= 0 && strings.IndexAny(word[:n], "abcdefABCDEF") >= 0 && !continues(word[n:]) {
		return n, "<hex>"
	}
	return 0, ""
}

func isDrive(word string) bool {
	return len(word) > 3 && word[1] == ':' && word[2] == '\\' && unicode.IsLetter(rune(word[0]))
}

// hexAt returns the end of the hexadecimal digits and hyphens, as in a UUID, that start at the given
// position.
func hexAt(word string, start int) int {
	n := start
	for n < len(word) && (isDigit(word[n]) || word[n]|0x20 >= 'a' && word[n]|0x20 <= 'f' || word[n] == '-' && start == 0 && n > 0) {
		n++
	}
	return n
}

func continues(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return rest != "" && (unicode.IsLetter(r) || r == '_')
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
