package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
)

// A term is a line of terms.txt: words that identifiers must not contain, and the term to use instead.
type term struct {
	kind  string // "any", "name", "field", "package"
	words string
	parts []string // of kind any: the words as consecutive parts of an identifier
	use   string
}

// An exception is a line of terms.txt that allows an identifier.
type exception struct {
	name  string
	files string // a pattern of path.Match, a folder that ends in a slash, or *
}

type terms struct {
	terms      []term
	exceptions []exception
}

// parseTerms reads terms.txt, whose format is described at its top.
func parseTerms(text string) (terms, error) {
	var t terms
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "allow" {
			f := strings.Fields(rest)
			if len(f) != 2 {
				return t, fmt.Errorf(`terms.txt:%d: want "allow IDENTIFIER FILES # reason"`, n)
			}
			t.exceptions = append(t.exceptions, exception{name: f[0], files: f[1]})
			continue
		}
		words, use, ok := strings.Cut(rest, "->")
		words, use = strings.TrimSpace(words), strings.TrimSpace(use)
		if !ok || words == "" || use == "" || !slices.Contains([]string{"any", "name", "field", "package"}, kind) {
			return t, fmt.Errorf(`terms.txt:%d: want "any|name|field|package WORDS -> TERM"`, n)
		}
		t.terms = append(t.terms, term{kind: kind, words: words, parts: strings.Fields(words), use: use})
	}
	return t, nil
}

// find returns the first term that forbids the identifier.
func (t terms) find(file string, id identifier) (term, bool) {
	for _, e := range t.exceptions {
		if e.name == id.name && e.covers(file) {
			return term{}, false
		}
	}
	parts := splitName(id.name)
	for _, term := range t.terms {
		if term.forbids(id, parts) {
			return term, true
		}
	}
	return term{}, false
}

func (e exception) covers(file string) bool {
	if e.files == "*" {
		return true
	}
	if strings.HasSuffix(e.files, "/") {
		return strings.HasPrefix(file, e.files)
	}
	ok, err := path.Match(e.files, file)
	return ok && err == nil
}

func (t term) forbids(id identifier, parts []string) bool {
	switch t.kind {
	case "name":
		return id.name == t.words
	case "field":
		return id.kind == fieldName && id.name == t.words
	case "package":
		return id.kind == packageName && id.name == t.words
	}
	for i := range parts {
		if len(parts)-i >= len(t.parts) && slices.Equal(parts[i:i+len(t.parts)], t.parts) {
			return true
		}
	}
	return false
}

// splitName splits a name in camel case or snake case into words in lower case: "newHTTPServer_2" is "new",
// "http", "server", "2".
func splitName(name string) []string {
	var parts []string
	runes := []rune(name)
	start := 0
	cut := func(end int) {
		if end > start {
			parts = append(parts, strings.ToLower(string(runes[start:end])))
		}
	}
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			cut(i)
			start = i + 1
		case i > start && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			cut(i)
			start = i
		}
	}
	cut(len(runes))
	return parts
}
