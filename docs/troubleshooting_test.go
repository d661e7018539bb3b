package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// speaking are the files whose errors, hints and warnings users see. Findings
// of lint have pages of their own, and results of explain, trust and audit records theirs.
var speaking = []string{
	"action/*.go", "adapter/*.go", "audit/log.go", "audit/read.go", "auditlog/auditlog.go", "broker/*.go", "bucket/*.go", "command/*.go", "disk/*.go", "exchange/*.go",
	"explain/explain.go", "git/*.go", "guard/*.go", "idtoken/*.go", "job/*.go", "lint/file.go", "lint/files.go", "login/*.go", "policy/*.go",
	"policytest/*.go", "process/*.go", "profile/*.go", "proposal/*.go", "provider/*.go",
	"review/check.go", "review/grants.go", "review/history.go", "review/merge.go", "review/period.go", "review/rulehistory.go", "review/sheet.go",
	"review/within.go", "runner/*.go", "sample/*.go", "ship/*.go", "source/*.go", "strictyaml/*.go",
	"trust/*.go", "vault/*.go", "web/*.go",
}

// silent are packages without messages for users, and those that are not in the product.
var silent = words("credential fault golden installed lazy logic pyenv route sampling secret standin statement")

// documenting are files among them that have documentation of inputs and
// outputs, schemas, and what init proposes.
var documenting = words("action/declare.go action/render.go policy/schema.go policy/starter.go policytest/schema.go " +
	"proposal/exchange.go proposal/texts.go")

// parts are texts that are filled into messages, are sent to others, or say
// that all is well; … at the end is for any rest.
var parts = []string{
	"Azure Database for PostgreSQL", "Azure SQL, Synapse and Fabric", "Microsoft Entra ID", "the authorization server",
	"policy test", "the broker's secret", "the credential's file", "RSA PRIVATE KEY", "oidc-dbt, one run", "that of identity …",
	"-----BEGIN CERTIFICATE-----…", "-----BEGIN [A-Z ]*PRIVATE KEY|…", "0000 NULL\n…", "… TAG LATIN …", "KILL QUERY …", "USE SECONDARY ROLES ALL", "ALTER SESSION SET …", "SET SESSION AUTHORIZATION …", "$ErrorActionPreference…", "allowed: target …",
	"dry run: nothing was exchanged", "signed in as …", "signed out of identity …", "not signed in as identity …", "a file that only you can read",
	"ID token until", "the identity provider", "…, then it is refreshed", "You are signed in. …", "The sign-in failed. …", "This is not the reply …", "There is nothing here.",
	"sign in with a browser of this machine:…", "sign in with a browser of any …", "…\nor open …", "…\nOnly go on …", "  target …", "  audit records go to …", "reads the variable …", "reads the file …", "asks the socket of …", "default-src …", "the AWS CLI's cache", "{\"region\": …",
	"signs you in at …", "takes tokens of …", "no host that the policy names", "  it has changed since …", "  it is approved already\n",
	"failed to unlock correct collection",
	"every rule of the policy has a decision (…); in the file: …", "not compared", "not read", ", longest gap …", "user … of the warehouse", "rule … of target …", "…, and no rule", "a driver of its own, …", "`backend: mssql-python`, …",
}

// A message is a text that the code prints, with … for what varies.
type message struct{ text, place string }

// TestTroubleshootingHasEveryMessage: a user who searches the page for the
// words of a message finds an entry. An entry's messages are the code in the
// first column of its row; … in them is for any text.
func TestTroubleshootingHasEveryMessage(t *testing.T) {
	t.Parallel()
	all := messages(t)
	if len(all) < 700 {
		t.Fatalf("found %d messages in the code, want at least 700", len(all))
	}
	entries := entriesOf(t, "troubleshooting.md", pages(t)["../docs/troubleshooting.md"])
	used := map[string]int{}
	for _, m := range all {
		found := false
		for text, entry := range entries {
			if entry.MatchString(m.text) {
				found = true
				used[text]++
			}
		}
		if !found {
			t.Errorf("%s: docs/troubleshooting.md has no entry for the message %q", m.place, m.text)
		}
	}
	for text := range entries {
		switch n := used[text]; {
		case n == 0:
			t.Errorf("docs/troubleshooting.md has an entry for %q, which the code does not print", text)
		case n > len(all)/20:
			t.Errorf("docs/troubleshooting.md has an entry for %q, which matches %d messages of %d: it says nothing", text, n, len(all))
		}
	}
}

var (
	entryRow  = regexp.MustCompile("(?m)^\\| (`.*?`) \\| ")
	entryCode = regexp.MustCompile("```(.+?)```|``(.+?)``|`(.+?)`")
	entryWord = regexp.MustCompile(`\pL{2,}`)
)

// entriesOf returns what the entries of a page match, by their texts.
func entriesOf(t *testing.T, name, page string) map[string]*regexp.Regexp {
	t.Helper()
	entries := map[string]*regexp.Regexp{}
	for _, row := range entryRow.FindAllStringSubmatch(page, -1) {
		for _, code := range entryCode.FindAllStringSubmatch(row[1], -1) {
			text := strings.TrimSpace(code[1] + code[2] + code[3])
			if entries[text] != nil {
				t.Errorf("docs/%s has two entries for %q", name, text)
			}
			if len(entryWord.FindAllString(text, -1)) < 2 {
				t.Errorf("docs/%s has an entry for %q, want two words or more", name, text)
			}
			entries[text] = regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*"))
		}
	}
	return entries
}

// TestTroubleshootingKnowsEveryPackage: a new package is one that has messages
// for users, or one that has none.
func TestTroubleshootingKnowsEveryPackage(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir("../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		name := folder.Name()
		speaks := slices.ContainsFunc(speaking, func(pattern string) bool { return strings.HasPrefix(pattern, name+"/") })
		if speaks == silent[name] {
			t.Errorf("internal/%s must be in one of the lists speaking and silent of this test", name)
		}
	}
}

// messages returns the texts that the code prints.
func messages(t *testing.T) (list []message) {
	t.Helper()
	for _, pattern := range speaking {
		files, err := filepath.Glob("../internal/" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("internal/%s: %v, %d files", pattern, err, len(files))
		}
		for _, path := range files {
			name, _ := filepath.Rel("../internal", path)
			if !strings.HasSuffix(path, "_test.go") && !documenting[filepath.ToSlash(name)] {
				list = append(list, messagesOf(t, path)...)
			}
		}
	}
	return append(list, messagesOfShim(t)...)
}

var (
	shimConstant = regexp.MustCompile(`(?m)^const (\w+) = '(.*)';$`)
	shimSpeaks   = regexp.MustCompile(`\b(?:new Failure|annotate)\(`)
	shimText     = regexp.MustCompile("`(?:[^`\\\\]|\\\\.)*`|'(?:[^'\\\\]|\\\\.)*'")
	shimValue    = regexp.MustCompile(`\$\{[^{}]*\}`)
)

// messagesOfShim returns the texts that main.js prints.
func messagesOfShim(t *testing.T) (list []message) {
	t.Helper()
	source, err := os.ReadFile("../main.js")
	if err != nil {
		t.Fatal(err)
	}
	code := string(source)
	for _, constant := range shimConstant.FindAllStringSubmatch(code, -1) {
		code = strings.ReplaceAll(code, "${"+constant[1]+"}", constant[2])
	}
	for i, line := range strings.Split(code, "\n") {
		if !shimSpeaks.MatchString(line) {
			continue
		}
		for _, literal := range shimText.FindAllString(line, -1) {
			text := shimValue.ReplaceAllString(literal[1:len(literal)-1], "…")
			if text = strings.ReplaceAll(text, `\'`, `'`); says(text, 2) {
				list = append(list, message{text, "main.js:" + strconv.Itoa(i+1)})
			}
		}
	}
	return list
}

// makers are functions whose arguments are a message even if it is short;
// quiet are functions whose own arguments are none: they compare, or print
// results and documentation. Fields of described hold documentation.
var (
	makers = words("Errorf New Report Missing Matching Unreachable add denied deny fail fault hostFault missing refuse refused reject usage")
	quiet  = words("Appendf Contains ContainsAny Cut CutPrefix Fprintf Fprintln HandleFunc HasPrefix MustCompile Set TrimPrefix " +
		"WriteString has text texts")
	described = words("ArgsUsage DefaultText Description Doc Native Unheld Unscanned Usage")
)

func words(list string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(list) {
		set[word] = true
	}
	return set
}

// messagesOf returns the messages of one file.
func messagesOf(t *testing.T, path string) (list []message) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	others := 3 // words that make a text a message, where no function says that it is one
	if strings.Contains(path, "/proposal/") || strings.Contains(path, "/trust/") {
		others = math.MaxInt // what it proposes, or writes for a provider and reports
	}
	var visit func(n ast.Node, least int)
	visitCall := func(call *ast.CallExpr) {
		visit(call.Fun, others)
		name := called(call)
		finding := slices.ContainsFunc(call.Args, ofFinding) // of trust check: docs/trust.md has its name
		for _, argument := range call.Args {
			if _, isText := textOf(argument); (quiet[name] || finding) && isText {
				continue
			}
			least := others
			if makers[name] {
				least = 2
			}
			visit(argument, least)
		}
	}
	visit = func(n ast.Node, least int) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				visitCall(n)
				return false
			case *ast.KeyValueExpr:
				key, ok := n.Key.(*ast.Ident)
				return !ok || !described[key.Name]
			case *ast.Field:
				return false // its tag
			case ast.Expr:
				text, ok := textOf(n)
				if ok && says(text, least) {
					place := set.Position(n.Pos())
					list = append(list, message{text, strings.TrimPrefix(filepath.ToSlash(place.String()), "../")})
				}
				if ok {
					for _, value := range valuesOf(n) {
						visit(value, least)
					}
				}
				return !ok
			}
			return true
		})
	}
	visit(file, others)
	return list
}

// ofFinding reports whether an argument is the name or the severity of a finding.
func ofFinding(e ast.Expr) bool {
	text, _ := textOf(e)
	return text == "error" || text == "warning" || text == "note" || findingName.MatchString(text)
}

// findingName is what findings of trust check are called.
var findingName = regexp.MustCompile(`^[a-z]+(?:-[a-z]+)+$`)

var frame = regexp.MustCompile(`\b(?:is|has|no|not|want|by|rule|line|target|with)\b`)

// says reports whether a text is a message: it has as many words, and not only
// such as join others.
func says(text string, least int) bool {
	for _, part := range parts {
		start, open := strings.CutSuffix(part, "…")
		if text == part || open && strings.HasPrefix(text, start) {
			return false
		}
	}
	return len(entryWord.FindAllString(text, -1)) >= least && strings.Contains(strings.TrimSpace(text), " ") &&
		entryWord.MatchString(frame.ReplaceAllString(text, ""))
}

// called returns the name of the function that a call names, without its package.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

var verb = regexp.MustCompile(`%(?:%|[-+# 0]*[\d.*]*(?:\[\d+\])?[a-zA-Z])`)

// textOf returns the text of a literal, or of literals and values that are
// joined by +, with … for what varies.
func textOf(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return textOf(e.X)
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return verb.ReplaceAllString(text, "…"), err == nil
	case *ast.BinaryExpr:
		left, hasLeft := textOf(e.X)
		right, hasRight := textOf(e.Y)
		switch {
		case e.Op != token.ADD, !hasLeft && !hasRight:
			return "", false
		case !hasLeft:
			return "…" + right, true
		case !hasRight:
			return left + "…", true
		}
		return left + right, true
	}
	return "", false
}

// valuesOf returns what textOf has … for.
func valuesOf(e ast.Expr) []ast.Expr {
	if _, ok := textOf(e); !ok {
		return []ast.Expr{e}
	}
	if sum, ok := ast.Unparen(e).(*ast.BinaryExpr); ok {
		return append(valuesOf(sum.X), valuesOf(sum.Y)...)
	}
	return nil
}
