package taskfile

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// The parser does not support all valid YAML, and returns the same errors for unsupported text as
// for invalid text.
const (
	reasonSyntax = "invalid or unsupported YAML"
	reasonDepth  = "the entry is nested more than %d deep"
)

// syntaxError converts an error of the YAML parser to an *Error, for an entry that was parsed separately.
func (y *yamlEntries) syntaxError(entry yamlEntry, err error) error {
	reason, _ := parserReason(err)
	// The parser has no error types, so its message is compared. The message would mislead a user,
	// who does not know that entries are parsed separately.
	if rest, ok := strings.CutPrefix(reason, "unknown anchor '"); ok {
		name, _, _ := strings.Cut(rest, "'")
		before := y.parsed[:max(bytes.Index(y.parsed, []byte("*"+name)), 0)]
		return at(entry.textLine+countLines(before), err,
			"alias *%s refers to an anchor outside this task: define the anchor within the task", name)
	}
	if strings.HasPrefix(reason, "exceeded max depth") {
		return at(entry.line, err, reasonDepth, maxDepth)
	}
	line, ended := y.stopLine(entry)
	if fault, ok := faultLine(y.parsed, reason); ok {
		line = entry.textLine + fault
	}
	if fault := y.unclosed(entry, err, reason, line, ended); fault != nil {
		return fault
	}
	switch space := indentation(y.parsed[len(firstLines(y.parsed, line-entry.textLine)):]); {
	case bytes.HasPrefix(space, []byte{'\t'}), bytes.HasPrefix(space, []byte("-\t")):
		return at(line, err, reasonTabs)
	case strings.Contains(reason, "a tab character where an indentation space is expected"):
		reason += "; if a block scalar starts with a tab, give its indentation, such as |2"
	case bytes.IndexByte(space, '\t') >= 0:
		reason += "; there is a tab in the indentation of the line"
	}
	return at(line, err, "%s: %s", reasonSyntax, reason)
}

// parserReason separates an error of the parser into its message and its line. Lines count from 1;
// 0 means that the line is unknown. If the parser was in a construct that does not start on the
// first line, it reports the first line of that construct; see parser.fail in package yaml.
func parserReason(err error) (reason string, line int64) {
	reason = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(reason, "line "); ok {
		var number string
		number, reason, _ = strings.Cut(rest, ": ")
		line, _ = strconv.ParseInt(number, 10, 64)
	}
	return reason, line
}

// These are messages of the parser. For some messages, the parser reports the line of the
// surrounding construct, for others the line of the error.
const (
	wantComma = "did not find expected ',' or ']'"
	wantBrace = "did not find expected ',' or '}'"
	wantNode  = "did not find expected node content"
	wantKey   = "did not find expected key"
	wantDash  = "did not find expected '-' indicator"
	wantQuote = "found unexpected end of stream"
	wantColon = "could not find expected ':'"
	badTab    = "found a tab character that violates indentation"
	badStart  = "found character that cannot start any token"
	badColon  = "mapping values are not allowed in this context"
	badDash   = "block sequence entries are not allowed in this context"
)

// faultLine returns the line of the parser's error in text, from 0. ok is false if the line cannot
// be derived from the line that the parser reports.
func faultLine(text []byte, reason string) (line int64, ok bool) {
	context := contextLine(text)
	switch reason {
	case badTab: // context is the line of the construct that the line with the tab continues
		return tabLine(text, context+1)
	case wantNode, wantColon, badStart, badColon, badDash:
		return context, true
	case wantComma, wantBrace, wantKey, wantDash:
		// If the construct starts on the first line, the parser reports the line of the fault.
		// So parse the text again from the start of the construct.
		_, err := parseYAML(bytes.NewReader(text[len(firstLines(text, context)):]))
		if err == nil {
			return 0, false
		}
		again, line := parserReason(err)
		return context + line, again == reason
	}
	return 0, false
}

// unclosed explains an error that is caused by an unclosed quoted string, bracket or brace. It
// returns nil if the error has another cause. stop is the line at which the parser stopped. ended
// reports whether the parser read the entry to its end.
func (y *yamlEntries) unclosed(entry yamlEntry, err error, reason string, stop int64, ended bool) error {
	text := y.parsed
	if reason == wantNode && ended && !y.split.isFlow {
		// If another node follows, the parser reports the line of the bracket.
		text = append(bytes.Clone(text), "\n x\n"...)
		if _, parseErr := parseYAML(bytes.NewReader(text)); parseErr != nil {
			reason, _ = parserReason(parseErr)
		}
	}
	open := entry.textLine + contextLine(text)
	switch {
	case reason == wantQuote:
		return at(open, err, "%s: the quoted string that starts on this line is not closed in its entry", reasonSyntax)
	case reason != wantComma && reason != wantBrace:
		// A quoted string of several lines may have ended at the quote of another string.
		before := firstLines(text, stop-entry.textLine)
		_, parseErr := parseYAML(bytes.NewReader(before))
		if parseErr == nil {
			return nil
		}
		if reason, _ := parserReason(parseErr); reason != wantQuote {
			return nil
		}
		return at(entry.textLine+contextLine(before), err,
			"%s: the quoted string that starts on this line ends on line %d, with invalid text after it", reasonSyntax, stop)
	}
	brackets := map[string]string{wantComma: "[]", wantBrace: "{}"}[reason]
	switch {
	case ended && !y.split.isFlow:
		return at(open, err, "%s: the %c on this line is not closed in its entry", reasonSyntax, brackets[0])
	case open != stop:
		return at(stop, err, "%s: %s after the %c on line %d", reasonSyntax, reason, brackets[0], open)
	}
	return at(stop, err, "%s: %s", reasonSyntax, reason)
}

// contextLine parses an invalid text, and returns the first line, from 0, of the construct that the
// parser was in, such as a quoted string.
func contextLine(text []byte) int64 {
	// The parser does not report the line of a construct that starts on the first line. So parse the text
	// after an empty line.
	_, err := parseYAML(io.MultiReader(strings.NewReader("\n"), bytes.NewReader(text)))
	if err == nil {
		return 0
	}
	reason, line := parserReason(err)
	switch reason {
	case wantComma, wantBrace, wantNode, wantKey, wantDash:
		// For these messages, the parser counts lines from 0, for all others from 1.
	default:
		line--
	}
	return max(line-1, 0)
}

// stopLine returns approximately the line at which the parser stops. It passes the entry to the
// parser byte by byte, and counts the bytes that the parser reads. If the parser reads the whole
// entry, for example because a quote is not closed, ended is true, and line is the last line that
// is not blank.
func (y *yamlEntries) stopLine(entry yamlEntry) (line int64, ended bool) {
	const lookahead = 4 // maximum bytes that the parser reads ahead
	slow := &slowReader{rest: append(bytes.Clone(y.parsed), "\n\n\n\n\n\n\n\n"...)}
	size := len(slow.rest)
	_, _ = parseYAML(slow) // fails with the known error
	read := max(min(size-len(slow.rest), len(y.parsed))-lookahead, 0)
	if slow.ended {
		content := y.parsed
		if y.split.isFlow {
			content = bytes.TrimSuffix(content, []byte{']'})
		}
		read = len(bytes.TrimRight(content, jsonSpace))
	}
	return entry.textLine + countLines(y.parsed[:read]), slow.ended
}

// slowReader returns one byte per Read, so that the parser cannot read ahead.
type slowReader struct {
	rest  []byte
	ended bool
}

func (s *slowReader) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		s.ended = true
		return 0, io.EOF
	}
	n := copy(p[:min(1, len(p))], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// tabLine searches text from the given line on, and returns the first line that has a tab in its
// indentation.
func tabLine(text []byte, line int64) (int64, bool) {
	for text = text[len(firstLines(text, line)):]; len(text) > 0; line++ {
		if bytes.IndexByte(indentation(text), '\t') >= 0 {
			return line, true
		}
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return 0, false
}

// indentation returns the white space at the start of text, including dashes before white space.
func indentation(text []byte) []byte {
	n := 0
	for n < len(text) && (text[n] == ' ' || text[n] == '\t' || text[n] == '-' && n+1 < len(text) && isBlank(text[n+1])) {
		n++
	}
	return text[:n]
}

// firstLines returns the first n lines of text.
func firstLines(text []byte, n int64) []byte {
	rest := text
	for range n {
		_, rest, _ = bytes.Cut(rest, []byte{'\n'})
	}
	return text[:len(text)-len(rest)]
}
