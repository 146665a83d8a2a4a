// Command go-source is a worker program with flags and a task source of its own: it
// looks for the words of a list in files, a file a task.
//
//	go build -o go-source ./examples/go-source
//	./go-source --words TODO,FIXME --dir . -j auto --event-log-file found.log
//
// The tasks come from a function, which is asked for the next file when there is room
// for it, so a tree of any size costs no memory. They run in one process, as
// --num-simultaneous-tasks goroutines: leave out ctworker.InProcess, and each slot has
// a process of its own.
package main

import (
	"bufio"
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctworker/ctworker"
)

func main() {
	dir := flag.String("dir", ".", "look in the files below this `directory`")
	words := flag.String("words", "TODO", "look for these `words`, with commas between them")

	look := func(ctx context.Context, t *ctworker.Task) (ctworker.Result, error) {
		var path string
		if err := t.Decode(&path); err != nil {
			return nil, err
		}
		return count(ctx, path, strings.Split(*words, ","))
	}
	ctworker.Main(look,
		ctworker.WithFlags(flag.CommandLine), // parsed by Main, with the worker's flags
		ctworker.WithTasks(func(yield func(ctworker.Task, error) bool) { files(*dir, yield) }),
		ctworker.InProcess(),
		ctworker.WithDescription("Count words in files, a file a task."),
	)
}

// files yields a task for each regular file. An error that it yields ends the run.
func files(dir string, yield func(ctworker.Task, error) bool) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			yield(ctworker.Task{}, err)
			return fs.SkipAll
		case entry.Type().IsRegular() && !yield(ctworker.NewTask(path, path)):
			return fs.SkipAll // the run is over
		}
		return nil
	})
}

// count counts the lines of a file that hold each word.
func count(ctx context.Context, path string, words []string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	found := map[string]int{}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		for _, word := range words {
			if strings.Contains(line, word) {
				found[word]++
			}
		}
		if err != nil { // its end: what cannot be read has no words
			return found, ctx.Err()
		}
	}
}
