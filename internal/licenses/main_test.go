package main

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestCollect_HasATextForEachModule(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	build := command(t.Context(), "build", "-o", program, "../../examples/addition")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	folder := filepath.Join(t.TempDir(), "licenses")
	if err := os.MkdirAll(filepath.Join(folder, "left", "over"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(t.Context(), program, folder); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(info.Deps, &info.Main, &debug.Module{Path: "go"}) {
		found, err := filepath.Glob(filepath.Join(folder, filepath.FromSlash(m.Path), "LICENSE*"))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %v, %v", m.Path, found, err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "left")); err == nil {
		t.Error("what was in the folder is still there")
	}
}

func TestTextsOf_RefusesAnotherBuild(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: "a.test/gone", Version: "v1.0.0"}, {Path: "a.test/newer", Version: "v1.0.0"}}}
	packages := []pkg{{Module: &module{Path: "a.test/newer", Version: "v1.1.0", Dir: t.TempDir()}}}
	_, err := textsOf(t.Context(), info, packages)
	if err == nil || !strings.Contains(err.Error(), "a.test/gone is linked into the program") || !strings.Contains(err.Error(), "a.test/newer has version v1.0.0") {
		t.Error(err)
	}
}

func TestTextsIn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(names ...string) {
		for _, name := range names {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("a/b/LICENSE.txt", "a/COPYING", "other/LICENSE", "NOTICE", "license.go", "licenses/x", "README")
	packages := []string{filepath.Join(root, "a", "b")}
	if _, err := textsIn("m.test/x", root, packages); err == nil || !strings.Contains(err.Error(), "m.test/x: no licence text") {
		t.Errorf("without a licence at the root: %v", err)
	}
	write("LICENCE.md")
	texts, err := textsIn("m.test/x", root, packages)
	var names []string
	for _, text := range texts {
		names = append(names, filepath.ToSlash(text.name))
	}
	if got, want := strings.Join(names, " "), "m.test/x/LICENCE.md m.test/x/NOTICE m.test/x/a/COPYING m.test/x/a/b/LICENSE.txt"; err != nil || got != want {
		t.Errorf("%s, want %s; %v", got, want, err)
	}
	if err := os.WriteFile(filepath.Join(root, "NOTICE"), []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		err := text.copyTo(t.TempDir())
		if wrong := strings.HasSuffix(text.name, "NOTICE"); (err != nil) != wrong {
			t.Errorf("%s: %v", text.name, err)
		}
	}
}
