package help

import (
	"strings"
	"unicode/utf8"
)

// glue is a space at which wrap does not break a line.
const glue = "\x1f"

// wrap breaks text into lines of at most width columns. A word that is longer than width is on a line of its
// own.
func wrap(text string, width int) (lines []string) {
	line, columns := "", 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if line != "" && columns+1+n > width {
			lines = append(lines, line)
			line = ""
		}
		if line == "" {
			line, columns = word, n
			continue
		}
		line += " " + word
		columns += 1 + n
	}
	if line != "" {
		lines = append(lines, line)
	}
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, glue, " ")
	}
	return lines
}

// wrapParagraphs wraps each paragraph of text. Indented lines stay as they are.
func wrapParagraphs(text string, width int) (lines []string) {
	var paragraph []string
	flush := func() {
		lines = append(lines, wrap(strings.Join(paragraph, " "), width)...)
		paragraph = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, " "):
			flush()
			lines = append(lines, line)
		default:
			paragraph = append(paragraph, line)
		}
	}
	flush()
	return lines
}

// wrapCommand breaks a command line so that it can still be pasted into a shell. It does not
// break within quotes.
func wrapCommand(text string, width int) (lines []string) {
	const continued = " \\"
	line := ""
	for _, word := range shellWords(text) {
		if line != "" && utf8.RuneCountInString(line+" "+word+continued) > width && strings.TrimSpace(line) != "" {
			lines = append(lines, line+continued)
			line = "   "
		}
		if line == "" {
			line = word
			continue
		}
		line += " " + word
	}
	return append(lines, line)
}

// shellWords splits a command line at spaces that are not quoted.
func shellWords(text string) (words []string) {
	word := ""
	for part := range strings.SplitSeq(text, " ") {
		if word != "" {
			part = word + " " + part
			word = ""
		}
		if strings.Count(part, `"`)%2 == 1 || strings.Count(part, "'")%2 == 1 {
			word = part
			continue
		}
		words = append(words, part)
	}
	if word != "" {
		words = append(words, word)
	}
	return words
}
