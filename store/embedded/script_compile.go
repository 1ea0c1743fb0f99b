package embedded

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// The interpreter's own concatenation has no bound on memory and formats numbers otherwise than Lua 5.1, and it knows no tables
// that can't be written. So a script's syntax tree is changed before it is compiled: a..b becomes a call of the function
// in the local concatName, and an assignment to a global one to a field of protectName, a table that refuses it. No
// script can name either.
const (
	concatName  = "(concat)"
	protectName = "(globals)"
)

const (
	maxScript = 4 << 20 // bytes of text
	maxNested = 2000    // levels of a script's syntax tree: the compiler is recursive
)

type syntaxError string

func (e syntaxError) Error() string { return string(e) }

// compileLua compiles a chunk. Errors are worded as Lua's, with the chunk's name.
func compileLua(text, name string) (proto *lua.FunctionProto, err error) {
	if len(text) > maxScript {
		return nil, syntaxError(name + ":1: script too large")
	}
	if e := checkSyntax(text, name); e != nil {
		return nil, e
	}
	defer func() {
		if r := recover(); r != nil {
			proto, err = nil, syntaxError(fmt.Sprintf("%s:1: %v", name, r))
		}
	}()
	stmts, err := parse.Parse(strings.NewReader(text), name)
	if err != nil {
		return nil, syntaxError(name + ":1: " + strings.Join(strings.Fields(err.Error()), " "))
	}
	w := &rewriter{}
	w.enter()
	w.declare(concatName)
	stmts = w.block(stmts)
	w.leave()
	head := &ast.LocalAssignStmt{Names: []string{concatName}, Exprs: []ast.Expr{ident(concatName, 1)}}
	head.SetLine(1)
	head.SetLastLine(1)
	proto, err = lua.Compile(append([]ast.Stmt{head}, stmts...), name)
	if err != nil {
		return nil, syntaxError(name + ":1: " + strings.Join(strings.Fields(err.Error()), " "))
	}
	proto.IsVarArg &^= lua.VarArgNeedsArg // the table arg, which Lua's main chunks don't have
	return proto, nil
}

func ident(name string, line int) *ast.IdentExpr {
	e := &ast.IdentExpr{Value: name}
	e.SetLine(line)
	e.SetLastLine(line)
	return e
}

// rewriter walks a syntax tree and knows which names are local.
type rewriter struct {
	scopes []map[string]bool
	depth  int
}

func (w *rewriter) enter() { w.scopes = append(w.scopes, nil) }
func (w *rewriter) leave() { w.scopes = w.scopes[:len(w.scopes)-1] }

func (w *rewriter) declare(names ...string) {
	top := &w.scopes[len(w.scopes)-1]
	if *top == nil {
		*top = map[string]bool{}
	}
	for _, n := range names {
		(*top)[n] = true
	}
}

func (w *rewriter) local(name string) bool {
	for i := len(w.scopes) - 1; i >= 0; i-- {
		if w.scopes[i][name] {
			return true
		}
	}
	return false
}

func (w *rewriter) down() {
	if w.depth++; w.depth > maxNested {
		panic("chunk has too many syntax levels")
	}
}

func (w *rewriter) scoped(stmts []ast.Stmt, names ...string) []ast.Stmt {
	w.enter()
	w.declare(names...)
	stmts = w.block(stmts)
	w.leave()
	return stmts
}

func (w *rewriter) block(stmts []ast.Stmt) []ast.Stmt {
	w.down()
	for _, s := range stmts {
		w.stmt(s)
	}
	w.depth--
	return stmts
}

func (w *rewriter) stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		w.exprs(s.Rhs)
		for i, e := range s.Lhs {
			s.Lhs[i] = w.target(e)
		}
	case *ast.LocalAssignStmt:
		// "local function f" comes as this with the name known inside.
		if f, ok := only(s.Exprs); ok && len(s.Names) == 1 && f.Line() == s.Line() {
			w.declare(s.Names...)
		}
		w.exprs(s.Exprs)
		w.declare(s.Names...)
	case *ast.FuncCallStmt:
		s.Expr = w.expr(s.Expr)
	case *ast.DoBlockStmt:
		w.scoped(s.Stmts)
	case *ast.WhileStmt:
		s.Condition = w.expr(s.Condition)
		w.scoped(s.Stmts)
	case *ast.RepeatStmt:
		w.enter()
		w.block(s.Stmts)
		s.Condition = w.expr(s.Condition)
		w.leave()
	case *ast.IfStmt:
		s.Condition = w.expr(s.Condition)
		w.scoped(s.Then)
		w.scoped(s.Else)
	case *ast.NumberForStmt:
		s.Init, s.Limit = w.expr(s.Init), w.expr(s.Limit)
		if s.Step != nil {
			s.Step = w.expr(s.Step)
		}
		w.scoped(s.Stmts, s.Name)
	case *ast.GenericForStmt:
		w.exprs(s.Exprs)
		w.scoped(s.Stmts, s.Names...)
	case *ast.FuncDefStmt:
		if s.Name.Func != nil {
			s.Name.Func = w.target(s.Name.Func)
		}
		if s.Name.Receiver != nil {
			s.Name.Receiver = w.expr(s.Name.Receiver)
		}
		w.expr(s.Func)
	case *ast.ReturnStmt:
		w.exprs(s.Exprs)
	}
}

func only(exprs []ast.Expr) (*ast.FunctionExpr, bool) {
	if len(exprs) != 1 {
		return nil, false
	}
	f, ok := exprs[0].(*ast.FunctionExpr)
	return f, ok
}

// target changes what is assigned to.
func (w *rewriter) target(e ast.Expr) ast.Expr {
	id, ok := e.(*ast.IdentExpr)
	if !ok {
		return w.expr(e)
	}
	if w.local(id.Value) {
		return id
	}
	key := &ast.StringExpr{Value: id.Value}
	key.SetLine(id.Line())
	key.SetLastLine(id.Line())
	get := &ast.AttrGetExpr{Object: ident(protectName, id.Line()), Key: key}
	get.SetLine(id.Line())
	get.SetLastLine(id.Line())
	return get
}

func (w *rewriter) exprs(es []ast.Expr) {
	for i := range es {
		es[i] = w.expr(es[i])
	}
}

func (w *rewriter) expr(e ast.Expr) ast.Expr {
	w.down()
	defer func() { w.depth-- }()
	switch e := e.(type) {
	case *ast.AttrGetExpr:
		e.Object, e.Key = w.expr(e.Object), w.expr(e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				f.Key = w.expr(f.Key)
			}
			f.Value = w.expr(f.Value)
		}
	case *ast.FuncCallExpr:
		if e.Func != nil {
			e.Func = w.expr(e.Func)
		}
		if e.Receiver != nil {
			e.Receiver = w.expr(e.Receiver)
		}
		w.exprs(e.Args)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.UnaryMinusOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.UnaryNotOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.UnaryLenOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.FunctionExpr:
		w.scoped(e.Stmts, e.ParList.Names...)
	case *ast.StringConcatOpExpr:
		return w.concat(e)
	}
	return e
}

// concat makes one call of a chain a..b..c. Its operands are all of one call, each adjusted to one value.
func (w *rewriter) concat(e *ast.StringConcatOpExpr) ast.Expr {
	call := &ast.FuncCallExpr{Func: ident(concatName, e.Line()), AdjustRet: true}
	call.SetLine(e.Line())
	call.SetLastLine(e.Line())
	for {
		call.Args = append(call.Args, single(w.expr(e.Lhs)))
		rest, ok := e.Rhs.(*ast.StringConcatOpExpr)
		if !ok || len(call.Args) > 100 {
			call.Args = append(call.Args, single(w.expr(e.Rhs)))
			return call
		}
		e = rest
	}
}

// single makes the last argument of a call one value.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}
