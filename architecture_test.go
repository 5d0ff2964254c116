package ottla_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ottlaio/ottla"

// TestImportsPointOneWay holds every package to the table "Who may import whom" of docs/architecture.md. A package that the table
// does not name fails too: a new room is drawn before it is built.
func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	allowed := importTable(t)
	seen := map[string]bool{}
	for file, imports := range sourceFiles(t) {
		pkg := path.Dir(file)
		seen[pkg] = true
		may, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s: package %s is not in the table of docs/architecture.md", file, pkg)
			continue
		}
		for _, imported := range imports {
			name, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			name = strings.TrimPrefix(name, "/")
			if name == "" {
				name = "."
			}
			if !slices.ContainsFunc(may, func(m string) bool {
				return m == name || strings.HasPrefix(name, strings.TrimSuffix(m, "/...")+"/") && strings.HasSuffix(m, "/...")
			}) {
				t.Errorf("%s imports %s; %s may import only %v", file, name, pkg, may)
			}
		}
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("the table of docs/architecture.md names %s, which has no Go files", pkg)
		}
	}
}

// importTable reads rows of the form "| `pkg` | `a`, `b` | … |" below the heading.
func importTable(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "## Who may import whom")
	if !ok {
		t.Fatal("docs/architecture.md has no heading \"Who may import whom\"")
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	names := regexp.MustCompile("`([^`]+)`")
	table := map[string][]string{}
	for line := range strings.Lines(rest) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.Contains(cells[1], "`") {
			continue
		}
		pkg := names.FindStringSubmatch(cells[1])[1]
		table[pkg] = []string{}
		for _, m := range names.FindAllStringSubmatch(cells[2], -1) {
			table[pkg] = append(table[pkg], m[1])
		}
	}
	if len(table) == 0 {
		t.Fatal("the table of docs/architecture.md is empty")
	}
	return table
}

// sourceFiles returns the imports of every Go file that is not a test, by its path.
func sourceFiles(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	walkGo(t, func(file string, f *ast.File) {
		imports := []string{}
		for _, i := range f.Imports {
			imports = append(imports, strings.Trim(i.Path.Value, `"`))
		}
		files[file] = imports
	}, parser.ImportsOnly)
	return files
}

func walkGo(t *testing.T, visit func(file string, f *ast.File), mode parser.Mode) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "tools", "bin", "data"}, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(file), f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStateMachinesReadNoClock refuses wall-clock and goroutines where time is handed in: a state machine is a plain function.
func TestStateMachinesReadNoClock(t *testing.T) {
	t.Parallel()
	walkGo(t, func(file string, f *ast.File) {
		if !strings.HasPrefix(file, "internal/coordinator/group/") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", file)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Sleep", "Tick"}, n.Sel.Name) {
					t.Errorf("%s uses time.%s", file, n.Sel.Name)
				}
			}
			return true
		})
	}, parser.SkipObjectResolution)
}
