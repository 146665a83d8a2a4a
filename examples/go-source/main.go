// Command go-source is a worker program with its own flags and its own task source. It counts
// words in files, with one task per file.
//
//	go build -o go-source ./examples/go-source
//	./go-source --words TODO,FIXME --dir . -j auto --event-log-file found.log
//
// The tasks come from an iterator. ctworker reads the next task only when a slot needs one, so a
// tree of any size needs constant memory. The tasks run in one process, in --num-simultaneous-tasks
// goroutines. Without ctworker.InProcess, each slot would have its own process.
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
	dir := flag.String("dir", ".", "search the files below this `directory`")
	words := flag.String("words", "TODO", "count these `words`, separated by commas")

	search := func(ctx context.Context, t *ctworker.Task) (ctworker.Result, error) {
		var path string
		if err := t.Decode(&path); err != nil {
			return nil, err
		}
		return count(ctx, path, strings.Split(*words, ","))
	}
	ctworker.Main(search,
		ctworker.WithFlags(flag.CommandLine), // Main parses them together with the worker's flags
		ctworker.WithTasks(func(yield func(ctworker.Task, error) bool) { files(*dir, yield) }),
		ctworker.InProcess(),
		ctworker.WithDescription("Count words in files, one task per file."),
	)
}

// files yields one task per regular file. If it yields an error, the run ends with this error.
func files(dir string, yield func(ctworker.Task, error) bool) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			yield(ctworker.Task{}, err)
			return fs.SkipAll
		case entry.Type().IsRegular() && !yield(ctworker.NewTask(path, path)):
			return fs.SkipAll // the run is stopping
		}
		return nil
	})
}

// count returns the number of lines of a file that contain each word.
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
		if err != nil { // the end of the file, or a read error, which is treated as the end of the file
			return found, ctx.Err()
		}
	}
}
