package argocd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// scriptTimeout is what Argo CD gives a script.
const scriptTimeout = time.Second

// run executes a script with the resource as the global obj and returns the table that it returns. It offers what Argo CD
// offers to scripts from argocd-cm: the base, package and table libraries, and of os only time and date. There is no string
// library, so a script that uses one works upstream and fails at users.
func run(script string, obj map[string]any) (map[string]any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openSafeOS},
	} {
		open := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(open, lua.LString(library.name)); err != nil {
			return nil, fmt.Errorf("opening the library %s: %w", library.name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, obj))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returned a %s, and has to return a table", state.Get(-1).Type())
	}
	value, err := fromLua(table, obj)
	if err != nil {
		return nil, err
	}
	result, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the script returned an empty table or a list")
	}
	return result, nil
}

// openSafeOS opens an os library that tells the time and does nothing else.
func openSafeOS(state *lua.LState) int {
	now := func(state *lua.LState) int {
		state.Push(lua.LNumber(time.Now().Unix()))
		return 1
	}
	date := func(state *lua.LState) int {
		state.Push(lua.LString(time.Now().UTC().Format(time.RFC3339)))
		return 1
	}
	state.Push(state.RegisterModule(lua.OsLibName, map[string]lua.LGFunction{"time": now, "date": date}))
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		table := state.CreateTable(len(v), 0)
		for _, item := range v {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(v))
		for key, item := range v {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

// fromLua is the way back. Lua does not tell an empty object from an empty list, nor a whole number from another: an empty
// table is what it was, an object or a list, as Argo CD puts it right, too.
func fromLua(value lua.LValue, was any) (any, error) {
	switch v := value.(type) {
	case lua.LBool:
		return bool(v), nil
	case lua.LString:
		return string(v), nil
	case lua.LNumber:
		if number := float64(v); number != math.Trunc(number) {
			return number, nil
		}
		return int64(v), nil
	case *lua.LTable:
		if v.MaxN() > 0 {
			return listFromLua(v, was)
		}
		return objectFromLua(v, was)
	default:
		return nil, fmt.Errorf("the script returned a %s, which has no place in JSON", value.Type())
	}
}

func listFromLua(table *lua.LTable, was any) (any, error) {
	old, _ := was.([]any)
	list := make([]any, table.MaxN())
	for i := range list {
		var before any
		if i < len(old) {
			before = old[i]
		}
		item, err := fromLua(table.RawGetInt(i+1), before)
		if err != nil {
			return nil, err
		}
		list[i] = item
	}
	return list, nil
}

func objectFromLua(table *lua.LTable, was any) (any, error) {
	old, isObject := was.(map[string]any)
	object := map[string]any{}
	var failed error
	table.ForEach(func(key, value lua.LValue) {
		name, ok := key.(lua.LString)
		if !ok {
			failed = fmt.Errorf("the key %v of a table is not a string", key)
			return
		}
		item, err := fromLua(value, old[string(name)])
		if err != nil {
			failed = err
			return
		}
		object[string(name)] = item
	})
	if len(object) == 0 && !isObject {
		return []any{}, failed
	}
	return object, failed
}
