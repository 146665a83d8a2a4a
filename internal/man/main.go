// Command man writes the manual pages of ctworker.
//
//	go run ./internal/man build/ctworker build/man
//
// It gets the description of all commands from "ctworker help --json", so the pages match that
// program. There is one page for the program and one for each command: ctworker.1,
// ctworker-run.1, ctworker-queue-status.1 and others.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ctworker/ctworker/internal/help"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: man PROGRAM FOLDER")
		os.Exit(2)
	}
	n, err := write(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "man: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("man: %d pages are in %s\n", n, os.Args[2])
}

// write writes the pages of program into folder, and returns their number.
func write(ctx context.Context, program, folder string) (int, error) {
	description, err := output(ctx, program, "help", "--json")
	if err != nil {
		return 0, err
	}
	version, err := output(ctx, program, "version")
	if err != nil {
		return 0, err
	}
	var c help.Command
	if err := json.Unmarshal([]byte(description), &c); err != nil {
		return 0, fmt.Errorf("%s help --json: %w", program, err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	version = strings.TrimSpace(strings.Replace(version, " version", "", 1))
	all := pages(c, version)
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	path, err := filepath.Abs(program)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}
