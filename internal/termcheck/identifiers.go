package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
)

type nameKind int

const (
	otherName   nameKind = iota // a function, method, type, variable or constant
	fieldName                   // a field of a struct
	packageName                 // a package, or the name under which it is imported
	fileName                    // a file, without its extension
)

type identifier struct {
	name string
	kind nameKind
	line int
}

// goIdentifiers returns the identifiers that a Go file declares. It omits identifiers that the file uses but
// does not declare.
func goIdentifiers(file string, src []byte) ([]identifier, error) { //nolint:gocyclo // one case per kind of node
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var ids []identifier
	add := func(kind nameKind, names ...*ast.Ident) {
		for _, n := range names {
			if n != nil && n.Name != "_" {
				ids = append(ids, identifier{name: n.Name, kind: kind, line: fset.Position(n.Pos()).Line})
			}
		}
	}
	addExpr := func(exprs ...ast.Expr) {
		for _, e := range exprs {
			if id, ok := e.(*ast.Ident); ok {
				add(otherName, id)
			}
		}
	}
	add(packageName, f.Name)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			add(packageName, n.Name)
		case *ast.FuncDecl:
			add(otherName, n.Name)
		case *ast.TypeSpec:
			add(otherName, n.Name)
		case *ast.ValueSpec:
			add(otherName, n.Names...)
		case *ast.LabeledStmt:
			add(otherName, n.Label)
		case *ast.StructType:
			for _, field := range n.Fields.List {
				add(fieldName, field.Names...)
			}
		case *ast.InterfaceType:
			for _, method := range n.Methods.List {
				add(otherName, method.Names...)
			}
		case *ast.FuncType:
			for _, list := range []*ast.FieldList{n.TypeParams, n.Params, n.Results} {
				if list != nil {
					for _, param := range list.List {
						add(otherName, param.Names...)
					}
				}
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				addExpr(n.Lhs...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				addExpr(n.Key, n.Value)
			}
		}
		return true
	})
	return ids, nil
}

var (
	// pythonText matches a comment or a string, neither of which contains identifiers.
	pythonText = regexp.MustCompile(`(?s)#[^\n]*|(?:\b[rbfuRBFU]{1,2})?(?:""".*?"""|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')`)
	pythonName = regexp.MustCompile(`[\p{L}_][\p{L}\p{N}_]*`)
)

// pythonIdentifiers returns all names in a Python file, except names in comments and strings. The line of a
// name is the line of its first occurrence.
func pythonIdentifiers(src []byte) []identifier {
	code := pythonText.ReplaceAllStringFunc(string(src), func(s string) string {
		return `""` + strings.Repeat("\n", strings.Count(s, "\n"))
	})
	seen := map[string]bool{}
	var ids []identifier
	line := 0
	for text := range strings.Lines(code) {
		line++
		for _, name := range pythonName.FindAllString(text, -1) {
			if !seen[name] {
				seen[name] = true
				ids = append(ids, identifier{name: name, line: line})
			}
		}
	}
	return ids
}
