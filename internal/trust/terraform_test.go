package trust

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// checkTerraform holds a file to HashiCorp's parser and to the layout of
// `terraform fmt`.
func checkTerraform(t *testing.T, text string) {
	t.Helper()
	if _, diags := hclsyntax.ParseConfig([]byte(text), "x.tf", hcl.InitialPos); diags.HasErrors() {
		t.Errorf("terraform does not parse: %v\n%s", diags, text)
	}
	if formatted := string(hclwrite.Format([]byte(text))); formatted != text {
		t.Errorf("terraform is not formatted:\n%s\nwant:\n%s", text, formatted)
	}
}

func TestTerraform(t *testing.T) {
	t.Parallel()
	f := newTerraform()
	f.comment("one\ntwo")
	b := f.block("resource", "aws_iam_role", "a")
	b.set("name", "dbt")
	b.set("assume_role_policy", hclCall{"jsonencode", hclObject{
		{"Version", "2012-10-17"}, {"Statement", hclList{hclObject{{"Effect", "Allow"}, {"token.x:sub", []string{"a", "b"}}, {"E", hclList{}}}}},
		{"A", 1}, {"Longer", true},
	}})
	b.set("x", hclText{"a", hclRef("var.b"), "${c}"})
	inner := b.block("inner")
	inner.set("k", hclRef("var.b"))
	b.set("after", "x")
	f.variable("b", "what \"it\" is")
	f.variable("b", "what \"it\" is")
	checkTerraform(t, f.String())
}

func FuzzHCLString(f *testing.F) {
	for _, s := range []string{"", `a"b`, "${x}", "$${x}", "%{ if", "a\nb\x00\u2028", "$", "%%{", `\u0041`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = string([]rune(s))
		expr, diags := hclsyntax.ParseExpression([]byte(hclString(s)), "x", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		v, diags := expr.Value(nil)
		if diags.HasErrors() || v.AsString() != s {
			t.Errorf("%q is read back as %q (%v)", s, v.AsString(), diags)
		}
	})
}
