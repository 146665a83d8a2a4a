package worker

import (
	"os"
	"path/filepath"
	"testing"
)

// Not parallel, because it changes TMPDIR and the working directory of the process.
func TestRunDir_PathIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", "tmp")
	dir, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(dir.path) {
		t.Errorf("path %q is not absolute", dir.path)
	}
	if err := os.WriteFile(dir.path+"/left", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir("tmp"); err != nil || len(entries) > 0 {
		t.Errorf("remaining entries %v, error %v", entries, err)
	}
}

// If a task has replaced the directory, Close does not remove the replacement.
func TestRunDir_CloseKeepsReplacement(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, replace := range map[string]func(path, precious string) error{
		"moved":  func(path, precious string) error { return os.Rename(precious, path) },
		"linked": func(path, precious string) error { return os.Symlink(precious, path) },
	} {
		t.Run(name, func(t *testing.T) {
			precious := filepath.Join(t.TempDir(), "precious")
			if err := os.MkdirAll(precious+"/inside", 0o700); err != nil {
				t.Fatal(err)
			}
			dir, err := newRunDir()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(dir.path, dir.path+"-aside"); err != nil {
				t.Fatal(err)
			}
			if err := replace(dir.path, precious); err != nil {
				t.Fatal(err)
			}
			if err := dir.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dir.path + "/inside"); err != nil {
				t.Error(err)
			}
		})
	}
}
