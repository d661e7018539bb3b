package wall

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// googleFunctions are the functions and operators that Google's pages on
// workload identity federation use, and matches, which providers in the wild
// have. Others may work; a document that has one is not decided here.
var googleFunctions = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Equals, operators.NotEquals, operators.In,
	operators.Conditional, operators.Index, operators.Add,
	"startsWith", "endsWith", "contains", "matches", "extract", "split", "join",
}

// googleCEL compiles an expression over some variables, and returns which of
// them it reads.
func googleCEL(expression string, variables ...string) (cel.Program, []string, error) {
	list, two := cel.ListType(cel.StringType), []*cel.Type{cel.StringType, cel.StringType}
	options := []cel.EnvOption{
		cel.ClearMacros(), cel.Macros(cel.HasMacro),
		cel.Function("extract", cel.MemberOverload("extract_string", two, cel.StringType, cel.BinaryBinding(extract))),
		cel.Function("split", cel.MemberOverload("split_string", two, list, cel.BinaryBinding(split))),
		cel.Function("join", cel.MemberOverload("join_string", []*cel.Type{list, cel.StringType}, cel.StringType,
			cel.BinaryBinding(join))),
	}
	for _, name := range variables {
		options = append(options, cel.Variable(name, cel.MapType(cel.StringType, cel.DynType)))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, nil, err
	}
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, nil, issues.Err()
	}
	var read, unknown []string
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			read = append(read, e.AsIdent())
		case ast.CallKind:
			if f := e.AsCall().FunctionName(); !slices.Contains(googleFunctions, f) {
				unknown = append(unknown, f)
			}
		}
	}))
	if len(unknown) > 0 {
		return nil, nil, fmt.Errorf("Google documents no function %q for it", unknown[0])
	}
	program, err := env.Program(checked)
	return program, read, err
}

// extract is of "Extract values from an attribute" in the reference of IAM
// Conditions: what is between the texts around {name}, up to the first of the
// second text, or to the end if there is none; "" if one is not found.
func extract(value, template ref.Val) ref.Val {
	v, t := string(value.(types.String)), string(template.(types.String))
	prefix, rest, open := strings.Cut(t, "{")
	_, suffix, closed := strings.Cut(rest, "}")
	if !open || !closed {
		return types.NewErr("extract: template %q has no {name}", t)
	}
	_, after, found := strings.Cut(v, prefix)
	if !found {
		return types.String("")
	}
	if suffix == "" {
		return types.String(after)
	}
	between, _, found := strings.Cut(after, suffix)
	if !found {
		return types.String("")
	}
	return types.String(between)
}

func split(value, by ref.Val) ref.Val {
	return types.DefaultTypeAdapter.NativeToValue(strings.Split(string(value.(types.String)), string(by.(types.String))))
}

func join(list, by ref.Val) ref.Val {
	all, ok := celTexts(list)
	if !ok {
		return types.NewErr("join: no list of strings")
	}
	return types.String(strings.Join(all, string(by.(types.String))))
}

// celTexts returns a list whose elements are all strings.
func celTexts(list ref.Val) ([]string, bool) {
	native, err := list.ConvertToNative(reflect.TypeFor[[]any]())
	if err != nil {
		return nil, false
	}
	all := []string{}
	for _, element := range native.([]any) {
		if v, ok := element.(ref.Val); ok {
			element = v.Value()
		}
		s, ok := element.(string)
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}
