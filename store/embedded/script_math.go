package embedded

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// Lua's math library, with the random numbers that Redis gives scripts.

func (r *luaRuntime) openMath(g *lua.LTable) {
	fns := map[string]lua.LGFunction{}
	for name, f := range map[string]func(float64) float64{
		"abs": math.Abs, "acos": math.Acos, "asin": math.Asin, "atan": math.Atan, "ceil": math.Ceil, "cos": math.Cos, "cosh": math.Cosh,
		"exp": math.Exp, "floor": math.Floor, "log": math.Log, "log10": math.Log10, "sin": math.Sin, "sinh": math.Sinh,
		"sqrt": math.Sqrt, "tan": math.Tan, "tanh": math.Tanh,
		"deg": func(x float64) float64 { return x / (math.Pi / 180) },
		"rad": func(x float64) float64 { return x * (math.Pi / 180) },
	} {
		fns[name] = func(L *lua.LState) int {
			L.Push(lua.LNumber(f(checkNumber(L, 1))))
			return 1
		}
	}
	for name, f := range map[string]func(x, y float64) float64{
		"atan2": math.Atan2, "fmod": math.Mod, "mod": math.Mod, "pow": math.Pow,
		"ldexp": func(x, y float64) float64 { return math.Ldexp(x, toInt(y)) },
	} {
		fns[name] = func(L *lua.LState) int {
			x := checkNumber(L, 1)
			L.Push(lua.LNumber(f(x, checkNumber(L, 2))))
			return 1
		}
	}
	fns["frexp"] = func(L *lua.LState) int {
		m, e := math.Frexp(checkNumber(L, 1))
		L.Push(lua.LNumber(m))
		L.Push(lua.LNumber(e))
		return 2
	}
	fns["modf"] = func(L *lua.LState) int {
		x := checkNumber(L, 1)
		i := math.Trunc(x)
		frac := x - i
		if math.IsInf(x, 0) {
			frac = 0
		}
		L.Push(lua.LNumber(i))
		L.Push(lua.LNumber(frac))
		return 2
	}
	fns["max"] = func(L *lua.LState) int { return mathExtreme(L, func(a, b float64) bool { return a > b }) }
	fns["min"] = func(L *lua.LState) int { return mathExtreme(L, func(a, b float64) bool { return a < b }) }
	fns["random"] = r.mathRandom
	fns["randomseed"] = func(L *lua.LState) int {
		r.host.random.seed(int32(checkInt(L, 1)))
		return 0
	}
	r.library(g, "math", fns, map[string]lua.LValue{"pi": lua.LNumber(math.Pi), "huge": lua.LNumber(math.Inf(1))})
}

func mathExtreme(L *lua.LState, better func(a, b float64) bool) int {
	best := checkNumber(L, 1)
	for i := 2; i <= L.GetTop(); i++ {
		if x := checkNumber(L, i); better(x, best) {
			best = x
		}
	}
	L.Push(lua.LNumber(best))
	return 1
}

// lrand48 is the generator of Redis's scripts, which starts with the same seed in each.
type lrand48 struct{ x uint64 }

func (g *lrand48) seed(s int32) { g.x = uint64(uint32(s))<<16 | 0x330e }

func (g *lrand48) next() uint64 {
	g.x = (g.x*0x5deece66d + 0xb) & (1<<48 - 1)
	return g.x >> 17
}

func (r *luaRuntime) mathRandom(L *lua.LState) int {
	const most = math.MaxInt32
	f := float64(r.host.random.next()%most) / most
	switch L.GetTop() {
	case 0:
		L.Push(lua.LNumber(f))
	case 1:
		u := checkInt(L, 1)
		if u < 1 {
			argError(L, 1, "interval is empty")
		}
		L.Push(lua.LNumber(math.Floor(f*float64(u)) + 1))
	case 2:
		l, u := checkInt(L, 1), checkInt(L, 2)
		if l > u {
			argError(L, 2, "interval is empty")
		}
		L.Push(lua.LNumber(math.Floor(f*float64(u-l+1)) + float64(l)))
	default:
		raise(L, "wrong number of arguments")
	}
	return 1
}
