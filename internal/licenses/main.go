// Command licenses collects the licence texts of everything that is linked into a Go
// program: of the program itself, of Go, and of each module.
//
//	go run ./internal/licenses build/ctworker build/licenses
//
// Run it in the module that the program was built from. It reads the linked modules and their
// versions from the program itself. For each module it writes a folder with the module's name. The
// folder contains the texts in the module's root folder, and the texts in the folders of the linked
// packages, which cover code that was copied into the module. The folder "go" contains the texts of
// the standard library. If a module has no licence text, the command fails.
package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: licenses PROGRAM FOLDER")
		os.Exit(2)
	}
	n, err := collect(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "licenses: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("licenses: the texts of %d modules and of Go are in %s\n", n, os.Args[2])
}

// collect replaces the content of folder with the licence texts of the program, and returns the
// number of modules to which the texts belong.
func collect(ctx context.Context, program, folder string) (int, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return 0, err
	}
	packages, err := linked(ctx, info)
	if err != nil {
		return 0, err
	}
	texts, err := textsOf(ctx, info, packages)
	if err != nil {
		return 0, err
	}
	if err := os.RemoveAll(folder); err != nil {
		return 0, err
	}
	for _, text := range texts {
		if err := text.copyTo(folder); err != nil {
			return 0, err
		}
	}
	return len(info.Deps) + 1, nil
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "go", args...)
}

// A pkg is a package in the output of "go list".
type pkg struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *module
}

type module struct {
	Path    string
	Version string
	Dir     string
	Main    bool
	Replace *module
}

// linked returns the packages of a program for the GOOS and GOARCH that it was built for.
func linked(ctx context.Context, info *debug.BuildInfo) ([]pkg, error) {
	cmd := command(ctx, "list", "-deps", "-json=ImportPath,Dir,Standard,Module", info.Path)
	cmd.Env = os.Environ()
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" || s.Key == "GOOS" || s.Key == "GOARCH" {
			cmd.Env = append(cmd.Env, s.Key+"="+s.Value)
		}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", info.Path, err, stderr.String())
	}
	var packages []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// A text is a file with a licence text, and its name in the output folder.
type text struct{ from, name string }

func (t text) copyTo(folder string) error {
	content, err := os.ReadFile(t.from)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return fmt.Errorf("%s is empty", t.from)
	}
	to := filepath.Join(folder, t.name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

// textsOf returns the texts of Go and of all modules in the program's build information.
func textsOf(ctx context.Context, info *debug.BuildInfo, packages []pkg) ([]text, error) {
	dirs := make(map[string]string)     // a module's root
	nested := make(map[string][]string) // the folders of a module's packages
	versions := make(map[string]string)
	for _, p := range packages {
		if p.Module == nil {
			continue
		}
		m := p.Module
		dirs[m.Path], versions[m.Path] = m.Dir, m.Version
		nested[m.Path] = append(nested[m.Path], p.Dir)
	}
	root, err := goRoot(ctx)
	if err != nil {
		return nil, err
	}
	texts, faults := textsIn("go", root, nil)
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		dir := dirs[m.Path]
		switch {
		case dir == "":
			faults = errors.Join(faults, fmt.Errorf("%s is linked into the program but not required by this module: build the program again", m.Path))
			continue
		case m != &info.Main && versions[m.Path] != m.Version:
			faults = errors.Join(faults, fmt.Errorf("%s has version %s in the program and %s in this module: build the program again", m.Path, m.Version, versions[m.Path]))
			continue
		}
		found, err := textsIn(m.Path, dir, nested[m.Path])
		texts, faults = append(texts, found...), errors.Join(faults, err)
	}
	return texts, faults
}

// goRoot returns the root folder of the Go distribution, which contains Go's licence.
func goRoot(ctx context.Context) (string, error) {
	out, err := command(ctx, "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

var (
	// isText matches the names of files that must be distributed with the program.
	isText = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|copyright|notice|patents)([-._].*)?$`)
	// isLicence matches the names of files that contain a licence.
	isLicence = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|copyright)`)
	isCode    = regexp.MustCompile(`(?i)\.(go|s|c|h|py|json|ya?ml|tmpl)$`)
)

// textsIn returns the texts in a module's root, in the folders of its packages, and in the
// folders in between.
func textsIn(module, root string, packages []string) ([]text, error) {
	seen := map[string]bool{root: true}
	for _, dir := range packages {
		for ; len(dir) > len(root); dir = filepath.Dir(dir) {
			seen[dir] = true
		}
	}
	var texts []text
	licensed := false
	for dir := range seen {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !isText.MatchString(e.Name()) || isCode.MatchString(e.Name()) || !e.Type().IsRegular() {
				continue
			}
			from := filepath.Join(dir, e.Name())
			inside, err := filepath.Rel(root, from)
			if err != nil {
				return nil, err
			}
			licensed = licensed || dir == root && isLicence.MatchString(e.Name())
			texts = append(texts, text{from: from, name: filepath.Join(filepath.FromSlash(module), inside)})
		}
	}
	if !licensed {
		return nil, fmt.Errorf("%s: no licence text in %s", module, root)
	}
	slices.SortFunc(texts, func(a, b text) int { return strings.Compare(a.name, b.name) })
	return texts, nil
}
