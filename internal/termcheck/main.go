// Command termcheck checks that no identifier in the Go and Python files of this repository uses a word for
// which the project has another term. It is run by "make lint" at the root of the checkout:
//
//	go run ./internal/termcheck
//
// Each finding is one line: file:line, the identifier, and the term to use instead. The exit code is 1 if
// there are findings and 2 on any other error. The words and their exceptions are listed in terms.txt.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
)

//go:embed terms.txt
var termsFile string

func main() {
	found, err := check(os.Stdout, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "termcheck:", err)
		os.Exit(2)
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "termcheck: %d findings: use the terms above; the list is internal/termcheck/terms.txt\n", found)
		os.Exit(1)
	}
}

// check writes the findings in files to w and returns their number. Without files, it checks all tracked
// files of the repository.
func check(w io.Writer, files []string) (int, error) {
	terms, err := parseTerms(termsFile)
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		if files, err = trackedFiles(); err != nil {
			return 0, err
		}
	}
	found := 0
	for _, file := range files {
		ids, err := identifiers(file)
		if err != nil {
			return found, err
		}
		for _, id := range ids {
			if term, ok := terms.find(file, id); ok {
				found++
				_, _ = fmt.Fprintf(w, "%s:%d: %s: use %s instead of %q\n", file, id.line, id.name, term.use, term.words)
			}
		}
	}
	return found, nil
}

func trackedFiles() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "-z", "*.go", "*.py", ":!:**/testdata/**").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tracked files: %w", err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

// identifiers returns the identifiers that a file declares, and the name of the file.
func identifiers(file string) ([]identifier, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ext := path.Ext(file)
	ids := []identifier{{name: strings.TrimSuffix(path.Base(file), ext), kind: fileName, line: 1}}
	switch ext {
	case ".go":
		more, err := goIdentifiers(file, src)
		return append(ids, more...), err
	case ".py":
		return append(ids, pythonIdentifiers(bytes.TrimPrefix(src, []byte("\ufeff")))...), nil
	}
	return ids, nil
}
