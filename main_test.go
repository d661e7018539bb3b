package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
)

const module = "github.com/oidc-dbt/oidc-dbt/internal/"

// rooms is which package of the product may import which: data flows one way,
// and only job knows all the steps.
var rooms = map[string][]string{
	"secret":     {},
	"fault":      {},
	"lazy":       {},
	"installed":  {"disk", "lazy"},
	"web":        {"disk", "fault", "lazy"},
	"disk":       {},
	"git":        {},
	"process":    {"credential", "fault", "route"},
	"runner":     {"disk", "fault", "lazy", "secret", "web"},
	"idtoken":    {"fault", "lazy", "secret", "web"},
	"credential": {"secret"},
	"logic":      {},
	"statement":  {},
	"guard":      {"lazy", "statement"},
	"strictyaml": {"fault", "lazy"},
	"policy":     {"fault", "guard", "idtoken", "lazy", "statement", "strictyaml", "web"},
	"route":      {"secret"},
	"bucket":     {"credential", "exchange", "fault", "policy", "secret", "web"},
	"ship":       {"bucket", "disk", "exchange", "fault", "policy", "secret", "web"},
	"broker":     {"credential", "disk", "fault", "guard", "lazy", "route", "secret", "statement", "web"},
	"sample":     {"idtoken", "lazy", "policy"},
	"source":     {"disk", "exchange", "fault", "idtoken", "policy", "secret", "web"},
	"login":      {"credential", "disk", "exchange", "fault", "idtoken", "policy", "secret", "source", "web"},
	"policytest": {"explain", "fault", "idtoken", "policy", "sample", "strictyaml"},
	"exchange":   {"credential", "fault", "lazy", "policy", "secret", "web"},
	"vault":      {"credential", "disk", "exchange", "fault", "lazy", "policy", "secret", "web"},
	"provider":   {"credential", "exchange", "fault", "idtoken", "lazy", "policy", "secret", "vault", "web"},
	"adapter":    {"credential", "fault", "guard", "installed", "lazy", "policy", "route", "secret", "statement", "web"},
	"profile":    {"adapter", "disk", "fault", "lazy", "policy", "secret"},
	"lint":       {"disk", "fault", "git", "lazy", "policy", "profile", "runner", "strictyaml", "trust"},
	"audit":      {"credential", "disk", "fault", "idtoken", "lazy", "secret"},
	"auditlog":   {"bucket", "disk", "fault"},
	"explain":    {"adapter", "audit", "credential", "policy", "provider", "trust"},
	"job":        {"adapter", "audit", "broker", "bucket", "credential", "disk", "exchange", "explain", "fault", "guard", "idtoken", "lazy", "login", "policy", "process", "profile", "provider", "route", "runner", "secret", "ship", "source", "web"},
	"action":     {"adapter", "audit", "credential", "disk", "fault", "job", "process", "route", "runner", "secret"},
	"review":     {"audit", "auditlog", "git", "lazy", "policy"},
	"trust":      {"fault", "lazy", "logic", "policy", "statement", "strictyaml"},
	"proposal":   {"adapter", "disk", "fault", "lazy", "policy", "profile"},
	"command": {
		"action", "audit", "auditlog", "bucket", "disk", "explain", "fault", "idtoken", "job", "lint", "login", "policy", "policytest", "proposal", "review",
		"runner", "sample", "source", "trust",
	},
	".": {"command", "job", "process", "web"},
}

// revealers are the files that may look into a secret: the ones that send it
// to a server, verify it, or hand it to the runner or the command.
var revealers = []string{
	"internal/action/awsprofile.go",
	"internal/action/container.go",
	"internal/action/publish.go",
	"internal/broker/awscontainer.go",
	"internal/broker/azure.go",
	"internal/broker/broker.go",
	"internal/broker/clickhouse.go",
	"internal/broker/control.go",
	"internal/broker/databricks.go",
	"internal/broker/googleadc.go",
	"internal/broker/googlestorage.go",
	"internal/broker/passwordfile.go",
	"internal/broker/postgres.go",
	"internal/broker/s3.go",
	"internal/broker/snowflake.go",
	"internal/broker/tokenendpoint.go",
	"internal/broker/trino.go",
	"internal/bucket/bucket.go",
	"internal/exchange/exchange.go",
	"internal/exchange/reply.go",
	"internal/idtoken/verify.go",
	"internal/job/control.go",
	"internal/job/exec.go",
	"internal/job/lease.go",
	"internal/job/serve.go",
	"internal/login/device.go",
	"internal/login/sso.go",
	"internal/login/ssocache.go",
	"internal/login/ssorole.go",
	"internal/login/store.go",
	"internal/login/tokens.go",
	"internal/provider/awssts.go",
	"internal/provider/databricks.go",
	"internal/provider/entra.go",
	"internal/provider/gcp.go",
	"internal/provider/identitycenter.go",
	"internal/provider/oauth.go",
	"internal/runner/runner.go",
	"internal/runner/systems.go",
	"internal/secret/secret.go",
	"internal/ship/otlp.go",
	"internal/vault/secret.go",
	"internal/vault/server.go",
}

// world are the names that only main.go may use: everything else gets the
// real world through job.Env.
var world = []string{"os.Getenv", "os.Environ", "os.LookupEnv", "time.Now", "http.DefaultClient", "http.DefaultTransport", "os.Exit"}

// outside are packages below internal that the product does not link.
var outside = []string{"golden", "pyenv", "sampling", "standin"}

func TestRooms(t *testing.T) {
	t.Parallel()
	reveals := map[string]bool{}
	seen := map[string]bool{}
	walkProduct(t, func(path string, file *ast.File) {
		room := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "internal/"))
		seen[room] = true
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s: package %q is not in the table of rooms", path, room)
		}
		for _, imp := range file.Imports {
			if to, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module); ok && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %q, which the table of rooms does not allow", path, to)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s has an init function", path)
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "Reveal" {
					reveals[path] = true
				}
				if x, ok := n.X.(*ast.Ident); ok && path != "main.go" && slices.Contains(world, x.Name+"."+n.Sel.Name) {
					t.Errorf("%s uses %s.%s: only main.go names the real world", path, x.Name, n.Sel.Name)
				}
			}
			return true
		})
	})
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		if !seen[room] {
			t.Errorf("the table of rooms has %q, which is not there", room)
		}
	}
	reveals["internal/secret/secret.go"] = true // defines it
	if got := slices.Sorted(maps.Keys(reveals)); !slices.Equal(got, revealers) {
		t.Errorf("Reveal is called in\n%q, want\n%q", got, revealers)
	}
}

// TestPatternsCompile: what compiles at its first use must not panic then.
func TestPatternsCompile(t *testing.T) {
	t.Parallel()
	constants := map[string]string{} // by package and name
	var patterns []func() (place, text string)
	walkProduct(t, func(path string, file *ast.File) {
		scope := filepath.Dir(path) + "."
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, v := range n.Values {
					if text, ok := constant(v, scope, constants); ok {
						constants[scope+n.Names[i].Name] = text
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "MustCompile" {
					if x, ok := f.X.(*ast.Ident); ok && x.Name == "regexp" && filepath.Base(filepath.Dir(path)) != "lazy" {
						t.Errorf("%s compiles a regular expression at the start: lazy.MustCompile does when it is used", path)
					}
					patterns = append(patterns, func() (string, string) {
						text, ok := constant(n.Args[0], scope, constants)
						if !ok && filepath.Base(filepath.Dir(path)) != "lazy" {
							t.Errorf("%s: a pattern is no constant", path)
						}
						return path, text
					})
				}
			}
			return true
		})
	})
	for _, p := range patterns {
		place, text := p()
		if _, err := regexp.Compile(text); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	if len(patterns) < 80 {
		t.Errorf("found %d patterns only", len(patterns))
	}
}

// constant returns the text of an expression of literals and constants.
func constant(e ast.Expr, scope string, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		text, ok := constants[scope+e.Name]
		return text, ok
	case *ast.BinaryExpr:
		x, xok := constant(e.X, scope, constants)
		y, yok := constant(e.Y, scope, constants)
		return x + y, xok && yok && e.Op == token.ADD
	}
	return "", false
}

func walkProduct(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	files := []string{"main.go"}
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || slices.Contains(outside, d.Name())) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		visit(filepath.ToSlash(path), file)
	}
}

// linked are the packages that the binary consists of.
func linked(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Fields(string(out))
	if !slices.Contains(all, "net/http") {
		t.Fatalf("go list names %d packages, without net/http", len(all))
	}
	return all
}

// TestNoTestsInTheBinary: what judges the product is not a part of it.
func TestNoTestsInTheBinary(t *testing.T) {
	t.Parallel()
	for _, name := range linked(t) {
		judge := strings.HasPrefix(name, "cel.dev/")
		for _, dir := range outside {
			judge = judge || name == module+dir || strings.HasPrefix(name, module+dir+"/")
		}
		if judge {
			t.Errorf("the binary links %s", name)
		}
	}
}

var defaultMux = []string{"http.DefaultServeMux", "http.Handle", "http.HandleFunc", "http.ListenAndServe", "http.ListenAndServeTLS", "http.Serve", "http.ServeTLS"}

// TestNothingDumps: a process that holds credentials for hours has no handler
// that shows its memory.
func TestNothingDumps(t *testing.T) {
	t.Parallel()
	linked := linked(t)
	for _, name := range []string{"net/http/pprof", "expvar"} {
		if slices.Contains(linked, name) {
			t.Errorf("the binary links %s", name)
		}
	}
	// Libraries may register what they like there: nothing of ours serves it.
	walkProduct(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(defaultMux, x.Name+"."+sel.Sel.Name) {
				t.Errorf("%s uses %s.%s, which may serve the default handlers", path, x.Name, sel.Sel.Name)
			}
			return true
		})
	})
}

func TestSchemaIsCurrent(t *testing.T) {
	t.Parallel()
	golden.Compare(t, "policy.schema.json", string(policy.Schema(job.Catalog())))
	golden.Compare(t, "policy-test.schema.json", string(policytest.Schema()))
}

// TestBuildFlags: wherever the binary is built, packages are inlined alike. Otherwise a release differs from what
// was measured, or from what others rebuild.
func TestBuildFlags(t *testing.T) {
	t.Parallel()
	want := []string{"-tags=grpcnotrace,nethttpomithttp2", "-gcflags=all=-l", "-gcflags=runtime/...=", "-gcflags=internal/...=",
		"-gcflags=crypto/internal/...=", "-gcflags=go.opentelemetry.io/otel/...=", "-gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker=",
		"-funcalign=16"}
	for _, file := range []string{"main.js", "Dockerfile", "bench/main.go", ".ci/run", "release/build.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(`-(?:tags|gcflags|funcalign)=[\w.,/=-]+`).FindAllString(string(text), -1); !slices.Equal(got, want) {
			t.Errorf("%s builds with %q, want %q", file, got, want)
		}
	}
}
