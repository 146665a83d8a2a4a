package apisurface_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write api.txt")

// The limits of the public surface. Every exported declaration is a promise to users. The contract suites are
// counted apart, because only tests import them.
const (
	maxPackages          = 13
	maxDeclarations      = 230
	maxSuites            = 2
	maxSuiteDeclarations = 6
)

func TestPublicSurface(t *testing.T) {
	t.Parallel()
	var list []string
	packages, declarations, suites, suiteDeclarations := 0, 0, 0, 0
	for _, dir := range publicPackages(t) {
		decls := exported(t, dir)
		ofKind, ofDecls := &packages, &declarations
		if dir == "sources/sourcetest" || dir == "sinks/sinktest" {
			ofKind, ofDecls = &suites, &suiteDeclarations
		}
		*ofKind++
		for _, d := range decls {
			if counts(d) {
				*ofDecls++
			}
			list = append(list, dir+": "+d)
		}
	}
	if suites > maxSuites || suiteDeclarations > maxSuiteDeclarations {
		t.Errorf("%d contract suites with %d exported declarations; the limits are %d and %d", suites, suiteDeclarations, maxSuites, maxSuiteDeclarations)
	}
	t.Logf("%d public packages, %d exported declarations", packages, declarations)
	if packages > maxPackages || declarations > maxDeclarations {
		t.Errorf("%d public packages and %d exported declarations; the limits are %d and %d", packages, declarations, maxPackages, maxDeclarations)
	}
	got := strings.Join(list, "\n") + "\n"
	if *update {
		if err := os.WriteFile("api.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("api.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	before := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
	for _, line := range list {
		if !slices.Contains(before, line) {
			t.Errorf("added:   %s", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(list, line) {
			t.Errorf("removed: %s", line)
		}
	}
	t.Error(`the public surface has changed; if that is intended, run "go test ./internal/apisurface -update"`)
}

var standardMethod = regexp.MustCompile(`\) (Error|Unwrap|String|UnmarshalJSON)\(`)

// counts reports whether a line of the list counts as a declaration. Fields, and methods of an
// interface, do not count, because they belong to their type. Methods such as Error do not count,
// because they implement a standard interface.
func counts(line string) bool {
	return !strings.HasPrefix(line, "  ") && !standardMethod.MatchString(line)
}

// publicPackages returns the directories of all packages that other modules can import.
func publicPackages(t *testing.T) (dirs []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case name == "internal", name == "testdata", name == "build", name == "cmd", name == "examples", name == "bench",
			path != root && strings.HasPrefix(name, "."),
			strings.HasPrefix(name, "docs-test-"): // created by a test of the documents that runs concurrently
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
			return fs.SkipDir
		}
		if files, err := filepath.Glob(filepath.Join(path, "*.go")); err != nil || len(files) > 0 {
			rel, relErr := filepath.Rel(root, path)
			dirs = append(dirs, filepath.ToSlash(rel))
			return relErr
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// exported returns the exported declarations of a package, one line each. Fields and methods of
// interfaces are indented.
func exported(t *testing.T, dir string) (list []string) {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH = "linux", "amd64"
	path := filepath.Join("..", "..", filepath.FromSlash(dir))
	pkg, err := ctx.ImportDir(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(path, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			list = append(list, declared(fset, decl)...)
		}
	}
	// Sort blocks instead of lines, because fields must follow their type.
	var blocks []string
	for _, line := range list {
		if strings.HasPrefix(line, "  ") {
			blocks[len(blocks)-1] += "\n" + line
		} else {
			blocks = append(blocks, line)
		}
	}
	slices.Sort(blocks)
	return strings.Split(strings.Join(blocks, "\n"), "\n")
}

func declared(fset *token.FileSet, decl ast.Decl) (list []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
			d.Doc, d.Body = nil, nil
			list = append(list, text(fset, d))
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						list = append(list, d.Tok.String()+" "+name.Name)
					}
				}
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					list = append(list, typeDecl(fset, s)...)
				}
			}
		}
	}
	return list
}

func typeDecl(fset *token.FileSet, s *ast.TypeSpec) []string {
	var fields *ast.FieldList
	kind := ""
	switch t := s.Type.(type) {
	case *ast.StructType:
		kind, fields = "struct", t.Fields
	case *ast.InterfaceType:
		kind, fields = "interface", t.Methods
	default:
		return []string{"type " + s.Name.Name + " " + text(fset, s.Type)}
	}
	list := []string{"type " + s.Name.Name + " " + kind}
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			list = append(list, "  "+text(fset, f.Type))
		}
		for _, name := range f.Names {
			if name.IsExported() {
				list = append(list, "  "+name.Name+" "+text(fset, f.Type))
			}
		}
	}
	return list
}

func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return fmt.Sprint(x)
		}
	}
}

var space = regexp.MustCompile(`\s+`)

// text prints a node on one line.
func text(fset *token.FileSet, node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, node); err != nil {
		return err.Error()
	}
	return space.ReplaceAllString(b.String(), " ")
}
