// Package test holds what crosses the rooms of the house: the rules of the repository, and in its folders the tests and
// measurements that run whole meshes.
package test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "respmesh"

// rules says which of our packages a package may import, most specific folder first. "resp" stands for the folder and
// all below it, "resp/frame=" for that package alone. A package without a rule fails the test.
var rules = []struct {
	folder string
	may    []string
}{
	{"resp/frame", nil},
	{"resp/command", []string{"resp/frame", "resp/command"}},
	{"resp", []string{"resp"}},
	{"mesh/wan", nil},
	{"mesh", []string{"mesh"}},
	{"netconf/dns", []string{"netconf="}},
	{"netconf/etcd", []string{"netconf="}},
	{"netconf/api", []string{"netconf=", "netconf/api"}},
	{"netconf", nil},
	{"store/rdb", []string{"resp"}},
	{"store/psync", []string{"resp", "store/rdb"}}, // never an engine: it declares what it needs of one
	{"store/embedded", []string{"resp", "store/rdb"}},
	{"store", []string{"resp", "store"}},
	{"proxy", []string{"resp", "proxy"}},
	{"console", []string{"netconf=", "netconf/api"}},
	{"node", []string{"resp", "mesh", "netconf", "store", "proxy", "console", "node"}},
	{"cmd", []string{"cmd", "node", "netconf=", "netconf/api", "netconf/etcd", "resp"}},
	{"test", []string{"resp", "mesh", "netconf", "store", "proxy", "console", "node", "test"}},
}

// testRules adds what only the tests of a folder may import.
var testRules = map[string][]string{
	"store/psync": {"store/embedded"}, // a real engine makes the better test
}

// topLevel are the folders of the house, pages for users and what `make build` and `make release` make.
var topLevel = []string{"cmd", "node", "console", "proxy", "mesh", "netconf", "store", "resp", "scripts", "test", "docs", "bin", "dist"}

func below(path, folder string) bool {
	if exact, ok := strings.CutSuffix(folder, "="); ok {
		return path == exact
	}
	return path == folder || strings.HasPrefix(path, folder+"/")
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestImportRules(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		i := slices.IndexFunc(rules, func(r struct {
			folder string
			may    []string
		}) bool {
			return below(path, r.folder)
		})
		if i < 0 {
			t.Errorf("%s has no rule: which room does it belong to?", p.ImportPath)
			continue
		}
		check := func(kind string, imports, may []string) {
			for _, imported := range imports {
				ours, ok := strings.CutPrefix(imported, module+"/")
				if !ok || ours == path {
					continue
				}
				if !slices.ContainsFunc(may, func(m string) bool { return below(ours, m) }) {
					t.Errorf("%s%s imports %s, which the design doesn't allow", p.ImportPath, kind, imported)
				}
			}
		}
		may := rules[i].may
		check("", p.Imports, may)
		may = slices.Concat(may, testRules[rules[i].folder])
		check(" (tests)", p.TestImports, may)
		check(" (tests)", p.XTestImports, may)
	}
}

func TestFolders(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("folder %s is no room of the house: %v", e.Name(), topLevel)
		}
	}
	walkGo(t, func(path string, _ *token.FileSet, _ *ast.File) {
		for part := range strings.SplitSeq(filepath.Dir(path), "/") {
			switch part {
			case "internal", "util", "utils", "types", "common", "helpers":
				t.Errorf("%s: no %s folders", path, part)
			}
		}
	})
}

// walkGo parses every Go file of the repository; paths are relative to its root.
func walkGo(t *testing.T, visit func(path string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		visit(filepath.ToSlash(rel), fset, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoInitFunctions(t *testing.T) {
	walkGo(t, func(path string, fset *token.FileSet, f *ast.File) {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: no init functions", path, fset.Position(fn.Pos()).Line)
			}
		}
	})
}

// Tests wait for conditions; one that sleeps is slow on a fast machine and fails on a slow one. In a synctest bubble
// sleeping is how the fake clock moves, so files that use it may.
func TestNoSleepInTests(t *testing.T) {
	walkGo(t, func(path string, fset *token.FileSet, f *ast.File) {
		if !strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
			return i.Path.Value == `"testing/synctest"`
		}) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				t.Errorf("%s:%d: no time.Sleep in tests", path, fset.Position(sel.Pos()).Line)
			}
			return true
		})
	})
}
