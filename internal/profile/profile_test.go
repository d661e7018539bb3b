package profile_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// grant returns the grant of a real policy for a real token.
func grant(t *testing.T, dbt, exchange string, claims map[string]any) policy.Grant {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	kind, rule := standin.Identity(exchange)
	source := fmt.Sprintf(`version: 1
identities:
  github: {issuer: "%s", %s}
targets:
  prod:
    exchange: %s
    allow:
      - %s
    dbt:
      %s
`, issuer.URL(), kind, exchange, strings.Replace(rule, ", ref: refs/heads/main", "", 1), strings.ReplaceAll(strings.TrimSpace(dbt), "\n", "\n      "))
	p, err := policy.Parse("policy.yml", []byte(source), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	verified, err := issuer.Claims(t.Context(), target.Audience(), claims)
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Authorize("prod", verified, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// part returns a file of a case.
func part(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// wanted compares the result with the case's last part, `want`.
func wanted(t *testing.T, path string, a *txtar.Archive, got string) {
	t.Helper()
	for _, marked := range []string{"MARKED", "marked"} {
		if strings.Contains(got, marked) {
			t.Errorf("a secret is in the profile:\n%s", got)
		}
	}
	golden.Case(t, path, a, txtar.File{Name: "want", Data: []byte(got)})
}

func cases(t *testing.T, pattern string) map[string]*txtar.Archive {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in %s: %v", pattern, err)
	}
	archives := map[string]*txtar.Archive{}
	for _, path := range paths {
		if archives[path], err = txtar.ParseFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return archives
}

// TestInline renders a policy's `dbt:` block. A case is
//
//	-- provider --  the provider
//	-- dbt --       the block
//	-- want --      the profile, and behind it the variables, without the claims' own
func TestInline(t *testing.T) {
	t.Parallel()
	for path, a := range cases(t, "testdata/inline/*.txtar") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			name := strings.TrimSpace(part(a, "provider"))
			dbtType := blockType(t, part(a, "dbt"))
			g := grant(t, part(a, "dbt"), standin.Exchange(dbtType, name), nil)
			in := adapter.Input{Facts: g, Type: dbtType, Block: g.DBT().Block, Credential: standin.Credential(dbtType, name)}
			if r, err := adapter.Route(dbtType, name, in.Facts.Exchange(), in.Block); err != nil {
				t.Fatal(err)
			} else if r.Only {
				in.Route = standin.Address()
			}
			out, err := adapter.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			text, err := profile.Render([]string{"analytics"}, g.DBT().Output, []*yaml.Node{g.DBT().Block}, out)
			if err != nil {
				t.Fatal(err)
			}
			wanted(t, path, a, string(text)+variables(out.Env))
		})
	}
}

// blockType reads the type from a case's block.
func blockType(t *testing.T, block string) string {
	t.Helper()
	var dbt struct{ Type string }
	if err := yaml.Unmarshal([]byte(block), &dbt); err != nil {
		t.Fatal(err)
	}
	return dbt.Type
}

// variables lists variables as comments; secret ones without their value.
func variables(list []adapter.Variable) string {
	var out strings.Builder
	for _, v := range list {
		if v.Secret {
			fmt.Fprintf(&out, "# %s is secret\n", v.Name)
		} else {
			fmt.Fprintf(&out, "# %s=%s\n", v.Name, v.Value.Reveal())
		}
	}
	return out.String()
}

// TestFrom renders the user's profiles.yml, next to the projects.
// A case is
//
//	-- provider --, -- output --, -- project-dir --, -- profiles --  the provider, and the inputs, one a line
//	-- files/… --   the checkout; profiles.yml is in the first project's folder
//	-- want --      the profile
func TestFrom(t *testing.T) {
	t.Parallel()
	for path, a := range cases(t, "testdata/from/*.txtar") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			text, err := renderFrom(t, a)
			if err != nil {
				t.Fatal(err)
			}
			wanted(t, path, a, string(text))
		})
	}
}

func renderFrom(t *testing.T, a *txtar.Archive) ([]byte, error) {
	t.Helper()
	root := checkout(t, a)
	dirs := strings.Fields(part(a, "project-dir"))
	names, err := profile.Names(root, dirs, strings.Fields(part(a, "profiles")))
	if err != nil {
		return nil, err
	}
	path := "profiles.yml"
	if len(dirs) > 0 {
		path = dirs[0] + "/profiles.yml"
	}
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	source, err := profile.ReadFrom(path, text)
	if err != nil {
		return nil, err
	}
	output := strings.TrimSpace(part(a, "output"))
	_, dbtType, err := source.Output(names[0], output)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSpace(part(a, "provider"))
	g := grant(t, "{from: profiles.yml, output: "+output+"}", standin.Exchange(dbtType, name), nil)
	blocks, err := source.Blocks(names, output)
	if err != nil {
		return nil, err
	}
	var outs []adapter.Output
	for _, block := range blocks {
		out, err := adapter.Render(adapter.Input{Facts: g, Type: dbtType, Block: block, Credential: standin.Credential(dbtType, name)})
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	return source.Render(names, output, outs...)
}

// checkout writes a case's files.
func checkout(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range a.Files {
		name, ok := strings.CutPrefix(f.Name, "files/")
		if !ok {
			continue
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNames(t *testing.T) {
	t.Parallel()
	root := checkout(t, &txtar.Archive{Files: []txtar.File{
		{Name: "files/dbt_project.yml", Data: []byte("name: analytics\nprofile: analytics\n")},
		{Name: "files/core/dbt_project.yml", Data: []byte("name: core\nprofile: 'core'\n")},
		{Name: "files/same/dbt_project.yml", Data: []byte("x: &p core\nprofile: *p\n")},
		{Name: "files/jinja/dbt_project.yml", Data: []byte("profile: \"{{ env_var('PROFILE') }}\"\n")},
		{Name: "files/without/dbt_project.yml", Data: []byte("name: without\n")},
		{Name: "files/number/dbt_project.yml", Data: []byte("profile: 0123\n")},
		{Name: "files/lines/dbt_project.yml", Data: []byte("profile: \"a\\nb\"\n")},
		{Name: "files/words/dbt_project.yml", Data: []byte("profile: größe\n")},
		{Name: "files/slash/dbt_project.yml", Data: []byte("profile: acme/analytics\n")},
		{Name: "files/colon/dbt_project.yml", Data: []byte("profile: 'acme:prod (eu)'\n")},
		{Name: "files/nothing/dbt_project.yml", Data: []byte("profile: ''\n")},
		{Name: "files/list/dbt_project.yml", Data: []byte("- profile\n")},
		{Name: "files/empty/dbt_project.yml"},
		{Name: "files/binary/dbt_project.yml", Data: []byte("profile: a\x00\n")},
		{Name: "files/tabs/dbt_project.yml", Data: []byte("a:\n\tprofile: b\n")},
		{Name: "files/huge/dbt_project.yml", Data: []byte(strings.Repeat("#", 1<<20+1))},
		{Name: "files/folder/dbt_project.yml/x"},
		{Name: "files/bomb/dbt_project.yml", Data: []byte(bomb)},
	}})
	for _, tt := range []struct {
		name  string
		dirs  []string
		extra []string
		want  string
		err   string
	}{
		{name: "the root", want: "analytics"},
		{name: "a folder", dirs: []string{"core"}, want: "core"},
		{name: "an absolute folder", dirs: []string{filepath.Join(root, "core")}, want: "core"},
		{name: "several", dirs: []string{".", "core", "same"}, extra: []string{"elementary", "core"}, want: "analytics core elementary"},
		{name: "Jinja", dirs: []string{"jinja"}, err: "read dbt_project.yml in \"jinja\": its profile \"{{ env_var('PROFILE') }}\" is a template that only dbt can render: name the profile in `profiles`"},
		{name: "Jinja, named", dirs: []string{"jinja"}, extra: []string{"core"}, want: "core"},
		{name: "no profile", dirs: []string{"without"}, err: "read dbt_project.yml in \"without\": it names no profile: name the profile in `profiles`"},
		{name: "no profile, named", dirs: []string{"core", "without"}, extra: []string{"x"}, want: "core x"},
		{name: "no file", dirs: []string{"nowhere"}, err: "read dbt_project.yml in \"nowhere\": no such file: set project-dir, or name the profiles in `profiles`"},
		{name: "no file, named", dirs: []string{"nowhere"}, extra: []string{"core"}, want: "core"},
		{name: "one of several folders is mistyped", dirs: []string{"core", "cor"}, extra: []string{"x"}, err: "read dbt_project.yml in \"cor\": no such file: set project-dir, or name the profiles in `profiles`"},
		{name: "all faults at once", dirs: []string{"number", "lines"}, extra: []string{"", "a\r"}, err: "read dbt_project.yml in \"number\": its profile \"0123\" is not a string in YAML: put it in quotes\n" +
			"read dbt_project.yml in \"lines\": its profile is \"a\\nb\", want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"a\\r\": want 1 to 255 characters, without line breaks or control characters"},
		{name: "any string", dirs: []string{"words", "slash", "colon"}, extra: []string{"[a], {b}: 'c' \"d\" # e", "- x", "<<", "😀", "~"},
			want: "größe acme/analytics acme:prod (eu) [a], {b}: 'c' \"d\" # e - x << 😀 ~"},
		{name: "an empty name", dirs: []string{"nothing"}, err: `read dbt_project.yml in "nothing": its profile is "", want 1 to 255 characters, without line breaks or control characters`},
		{name: "other line breaks", extra: []string{"a\u2028b", "a\u2029b", "a\u0085b", "a\tb", "a\xffb", strings.Repeat("x", 256)}, err: "profile name \"a\\u2028b\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"a\\u2029b\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"a\\u0085b\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"a\\tb\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"a\\xffb\": want 1 to 255 characters, without line breaks or control characters\n" +
			"profile name \"" + strings.Repeat("x", 256) + "\": want 1 to 255 characters, without line breaks or control characters"},
		{name: "a list", dirs: []string{"list"}, err: `read dbt_project.yml in "list": is not a mapping`},
		{name: "an empty file", dirs: []string{"empty"}, err: `read dbt_project.yml in "empty": is empty`},
		{name: "binary", dirs: []string{"binary"}, err: `read dbt_project.yml in "binary": is not valid UTF-8`},
		{name: "tabs", dirs: []string{"tabs"}, err: `read dbt_project.yml in "tabs": line 2, column 1: invalid YAML: found character that cannot start any token`},
		{name: "huge", dirs: []string{"huge"}, err: `read dbt_project.yml in "huge": is larger than 1024 KiB`},
		{name: "a folder in its place", dirs: []string{"folder"}, err: `read dbt_project.yml in "folder": is a directory, want a regular file`},
		{name: "an alias bomb", dirs: []string{"bomb"}, err: `read dbt_project.yml in "bomb": has more than 100000 values with its aliases expanded`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			names, err := profile.Names(root, tt.dirs, tt.extra)
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("names are %q, want %q", got, tt.want)
			}
			checkUsage(t, err, tt.err)
		})
	}
}

// bomb expands to a billion values.
const bomb = `a: &a [x, x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]
g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f, *f]
h: &h [*g, *g, *g, *g, *g, *g, *g, *g, *g, *g]
i: [*h, *h, *h, *h, *h, *h, *h, *h, *h, *h]
`

func checkUsage(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
		if c := fault.ClassOf(err); c != fault.Usage {
			t.Errorf("class is %v, want %v", c, fault.Usage)
		}
	}
	if got != want {
		t.Errorf("error is\n%s\nwant\n%s", got, want)
	}
}

func TestSourceErrors(t *testing.T) {
	t.Parallel()
	const good = "analytics:\n  outputs:\n    prod: {type: duckdb}\n    dev: {type: duckdb}\n"
	for _, tt := range []struct{ name, source, output, profiles, err string }{
		{name: "good", source: good},
		{name: "empty", err: `read profiles "profiles.yml": is empty`},
		{name: "nothing in it", source: "# none\n", err: `read profiles "profiles.yml": is empty`},
		{name: "a list", source: "- a\n", err: `read profiles "profiles.yml": is not a mapping`},
		{name: "a second document", source: good + "---\n" + good, err: `read profiles "profiles.yml": line 5: contains a second document`},
		{name: "not UTF-8", source: "a: \xff\n", err: `read profiles "profiles.yml": is not valid UTF-8`},
		{name: "a line separator", source: "a: # \u2028b\n", err: `read profiles "profiles.yml": line 1, column 6: U+2028 LINE SEPARATOR: dbt treats it as a line break and other programs do not: remove it, and end lines with LF or CRLF`},
		{name: "a paragraph separator", source: "a: b\nc: \"d\u2029\"\n", err: `read profiles "profiles.yml": line 2, column 6: U+2029 PARAGRAPH SEPARATOR: dbt treats it as a line break and other programs do not: remove it, and end lines with LF or CRLF`},
		{name: "a next line", source: "\u0085a: b\n", err: `read profiles "profiles.yml": line 1, column 1: U+0085 NEXT LINE: dbt treats it as a line break and other programs do not: remove it, and end lines with LF or CRLF`},
		{name: "a carriage return", source: "a: b\r\n# größe\rb: c\r\n", err: `read profiles "profiles.yml": line 2, column 8: U+000D CARRIAGE RETURN: dbt treats it as a line break and other programs do not: remove it, and end lines with LF or CRLF`},
		{name: "not YAML", source: "a: [\n", err: `read profiles "profiles.yml": line 2, column 1: invalid YAML: did not find expected node content`},
		{name: "an alias bomb", source: bomb, err: `read profiles "profiles.yml": has more than 100000 values with its aliases expanded`},
		{name: "a merge bomb", source: mergeBomb(), err: `read profiles "profiles.yml": has more than 100000 values with its aliases expanded`},
		{name: "an alias of itself", source: "a: &a [*a]\n", err: `read profiles "profiles.yml": line 1: is nested more than 64 levels deep`},
		{name: "merges itself", source: "a: &a\n  <<: *a\n", err: `read profiles "profiles.yml": line 2: is nested more than 64 levels deep`},
		{name: "merges a string", source: "a: {<<: b}\n", err: `read profiles "profiles.yml": line 1: merges a value that is not a mapping`},
		{name: "a tag of its own", source: "a: !secret b\n", err: `read profiles "profiles.yml": line 1: contains tag "!secret", which dbt does not support`},
		{name: "a list as key", source: "? [a]\n: b\n", err: `read profiles "profiles.yml": line 1: has a key that is not a scalar`},
		{name: "no such profile", source: "other: {}\nconfig: {}\n", err: `read profiles "profiles.yml": unknown profile "analytics", it has ["other"]`},
		{name: "a profile that is nothing", source: "analytics:\n", err: `read profiles "profiles.yml": profile "analytics" has no outputs`},
		{name: "no outputs", source: "analytics: {target: prod}\n", err: `read profiles "profiles.yml": profile "analytics" has no outputs`},
		{name: "no such output", source: "analytics: {outputs: {dev: {}, ci: {}}}\n", err: `read profiles "profiles.yml": unknown output "prod" of profile "analytics", it has ["dev" "ci"]`},
		{name: "an output by a number", source: "analytics: {outputs: {2024: {type: duckdb}}}\n", output: "2024", err: `read profiles "profiles.yml": output 2024 of profile "analytics" is not a string in YAML: put it in quotes`},
		{name: "an output that is a string", source: "analytics: {outputs: {prod: duckdb}}\n", err: `read profiles "profiles.yml": output "prod" of profile "analytics" is not a mapping`},
		{name: "no type", source: "analytics: {outputs: {prod: {}}}\n", err: `read profiles "profiles.yml": output "prod" of profile "analytics" has no type`},
		{name: "a type in Jinja", source: "analytics: {outputs: {prod: {type: \"{{ env_var('T') }}\"}}}\n", err: `read profiles "profiles.yml": type of output "prod" of profile "analytics" is a template that only dbt can render: want a literal, or ` + "`with: {type: …}`" + ` in the policy`},
		{name: "a further profile of another type", source: good + "elementary: {outputs: {prod: {type: postgres}}}\n", profiles: "elementary",
			err: `read profiles "profiles.yml": type of output "prod" is "duckdb" in profile "analytics" and "postgres" in profile "elementary": one credential cannot serve both`},
		{name: "a further profile without outputs", source: good + "elementary: {}\n", profiles: "elementary", err: `read profiles "profiles.yml": profile "elementary" has no outputs`},
		{name: "a value that dbt cannot read", source: good + "x: {a: =}\n", err: `read profiles "profiles.yml": line 5: contains "=", which dbt does not support`},
		{name: "a key without end", source: good + strings.Repeat("k", 1001) + ": 1\n", err: `read profiles "profiles.yml": has a key of more than 1000 characters`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := renderFrom(t, &txtar.Archive{Files: []txtar.File{
				{Name: "provider", Data: []byte("aws")}, {Name: "output", Data: []byte(cmp.Or(tt.output, "prod"))}, {Name: "profiles", Data: []byte(tt.profiles)},
				{Name: "files/dbt_project.yml", Data: []byte("profile: analytics\n")},
				{Name: "files/profiles.yml", Data: []byte(tt.source)},
			}})
			checkUsage(t, err, tt.err)
		})
	}
}

// mergeBomb merges one mapping more often than can be done in time.
func mergeBomb() string {
	return "a: &a {x: 1}\nb: {<<: [" + strings.Repeat("*a, ", 200_000) + "]}\n"
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	g := grant(t, "{type: duckdb}", standin.Exchange("duckdb", "aws"), map[string]any{
		"ref": "refs/heads/x'||drop\n::set-output name=a::b", "actor": "dependabot[bot]", "workflow": "Ünsafe", "head_ref": "",
	})
	got := variables(profile.Environment(g))
	want := `# DBT_ENV_CUSTOM_ENV_OIDC_TARGET=prod
# DBT_ENV_CUSTOM_ENV_OIDC_ACTOR_KIND=bot
# DBT_ENV_CUSTOM_ENV_OIDC_SUBJECT=repo:acme/analytics:environment:production
# DBT_ENV_CUSTOM_ENV_OIDC_REPOSITORY=acme/analytics
# DBT_ENV_CUSTOM_ENV_OIDC_REF=refs/heads/x___drop_::set-output_name=a::b
# DBT_ENV_CUSTOM_ENV_OIDC_SHA=7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f
# DBT_ENV_CUSTOM_ENV_OIDC_ENVIRONMENT=production
# DBT_ENV_CUSTOM_ENV_OIDC_ACTOR=dependabot_bot_
# DBT_ENV_CUSTOM_ENV_OIDC_RUN_ID=16055869479
# DBT_ENV_CUSTOM_ENV_OIDC_RUN_ATTEMPT=1
# DBT_ENV_CUSTOM_ENV_OIDC_WORKFLOW_REF=acme/analytics/.github/workflows/dbt.yml@refs/heads/main
# DBT_ENV_CUSTOM_ENV_OIDC_JOB_WORKFLOW_REF=acme/platform/.github/workflows/dbt.yml@refs/tags/v3
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
