//go:build e2e && linux && amd64

// Package accessreview reads the page of an access review as an auditor does: in a real browser, by keyboard, in light
// and dark, on paper, and with axe-core's rules for people who cannot see it.
package accessreview

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// TestPage opens two pages: one whose every text attacks, and that of a real review.
func TestPage(t *testing.T) {
	hostile := filepath.Join(setup.Repository(t), "internal", "review", "testdata", "access.html")
	real := review(t)
	browser := open(t)
	axe, err := os.ReadFile(filepath.Join(setup.NPM(t, "e2e/accessreview/axe"), "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{hostile, real} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(filepath.Base(filepath.Dir(page))+" "+scheme, func(t *testing.T) {
				tab := visit(t, browser, page, scheme)
				quiet(t, tab)
				accessible(t, tab, string(axe))
			})
		}
	}
	t.Run("filter", func(t *testing.T) { filter(t, visit(t, browser, real, "light")) })
	t.Run("sort", func(t *testing.T) { sortRows(t, visit(t, browser, real, "light")) })
	t.Run("pull request", func(t *testing.T) {
		const want = "pull request #41; merged by Ada Lovelace; reviewed by Grace Hopper"
		got := eval[string](t, visit(t, browser, real, "light"), `document.querySelector("#lines tbody td:nth-of-type(4) div").textContent`)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("print", func(t *testing.T) { printed(t, visit(t, browser, real, "light")) })
	if golden.Update() {
		picture(t, visit(t, browser, real, "light"))
	}
}

// open starts Chromium.
func open(t *testing.T) context.Context {
	t.Helper()
	options := slices.Concat(chromedp.DefaultExecAllocatorOptions[:], []chromedp.ExecAllocatorOption{
		chromedp.NoSandbox, // it would need a program of root, and the pages are the test's own
		chromedp.DisableGPU, chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()),
	})
	program, err := exec.LookPath("google-chrome") // GitHub's runners have it: Ubuntu's Chromium is no package
	if err != nil {
		folder, library := setup.Debian(t, "chromium")
		program = filepath.Join(folder, "usr", "lib", "chromium", "chromium")
		options = append(options, chromedp.Env(library))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), append(options, chromedp.ExecPath(program))...)
	t.Cleanup(cancel)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return browser
}

// visit opens a page in a tab of its own.
func visit(t *testing.T, browser context.Context, page, scheme string) context.Context {
	t.Helper()
	tab, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Do(tab); err != nil { // the tab has no time limit
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(tab, 2*time.Minute)
	t.Cleanup(stop)
	media := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1500, 900), media, chromedp.Navigate("file://"+page)); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// eval returns the value of an expression in the page.
func eval[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(tab, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%.100s: %v", expression, err)
	}
	return v
}

// quiet: the page's own script ran, no other did, and nothing was asked for.
func quiet(t *testing.T, tab context.Context) {
	t.Helper()
	if got := eval[string](t, tab, `document.getElementById("shown").textContent`); !strings.HasSuffix(got, " lines are shown.") {
		t.Errorf("the page's script did not run: %q", got)
	}
	if got := eval[string](t, tab, `JSON.stringify([document.scripts.length, document.styleSheets.length, document.images.length,
		document.links.length, performance.getEntriesByType("resource").length,
		document.querySelectorAll("td *:not(dl, div, dt, dd, code, ul, li, span)").length])`); got != "[1,1,0,0,0,0]" {
		t.Errorf("scripts, styles, images, links, requests, elements of texts: %s", got)
	}
	blocked := `new Promise(done => {
		let blocked = 0;
		document.addEventListener("securitypolicyviolation", () => blocked++);
		window.ran = false;
		const s = document.createElement("script"); s.textContent = "window.ran = true"; document.body.append(s);
		const i = new Image(); i.src = "https://oidc-dbt.example/x.png"; document.body.append(i);
		setTimeout(() => { s.remove(); i.remove(); done(JSON.stringify([window.ran, blocked])) }, 500);
	})`
	if got := eval[string](t, tab, blocked); got != "[false,2]" {
		t.Errorf("a script that was added, and blocked requests: %s", got)
	}
}

// accessible: axe-core finds nothing.
func accessible(t *testing.T, tab context.Context, axe string) {
	t.Helper()
	// The whole table is on the screen: axe-core does not judge the colours of what is cut off.
	if err := chromedp.Do(tab, chromedp.EmulateViewport(5000, 3000), chromedp.Evaluate[chromedp.Void](axe)); err != nil {
		t.Fatal(err)
	}
	text := eval[string](t, tab, `axe.run(document, {resultTypes: ["violations", "incomplete"]}).then(r => JSON.stringify({
		passes: r.passes.length, violations: [...r.violations, ...r.incomplete].map(v => v.id + ": " + v.nodes[0].html)}))`)
	var result struct {
		Passes     int
		Violations []string
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Violations) > 0 || result.Passes < 15 {
		t.Errorf("axe-core: %d rules passed, and not these:\n%s", result.Passes, strings.Join(result.Violations, "\n"))
	}
}

// titles are the rows that are seen.
const titles = `[...document.querySelectorAll("#lines tbody tr")].filter(r => r.offsetParent !== null).map(r => r.cells[0].textContent)`

func rows(t *testing.T, tab context.Context) []string {
	t.Helper()
	return eval[[]string](t, tab, titles)
}

// filter types into the page, and presses its boxes by keyboard.
func filter(t *testing.T, tab context.Context) {
	t.Helper()
	all := rows(t, tab)
	focus := func(selector string) {
		eval[bool](t, tab, fmt.Sprintf(`document.querySelector(%q).focus() ?? true`, selector))
	}
	press := func(keys string) {
		if err := chromedp.Do(tab, chromedp.KeyEvent(keys)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		selector, keys string
		want           []string
	}{
		{"#words", "SHOP", []string{"prod, rule 2"}},
		{"#words", "x", []string{}},
		{"#words", strings.Repeat("\b", 5), all},
		{"input[value=unused]", " ", []string{"prod, rule 2", "lake, rule 1"}},
		{"input[value=wide]", " ", []string{"prod, rule 2"}},
		{"input[value=unused]", " ", []string{"prod, rule 2"}},
		{"input[value=wide]", " ", all},
		{"input[value=user]", " ", []string{"DBT_OLD"}},
	} {
		focus(tt.selector)
		press(tt.keys)
		got := rows(t, tab)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s after %q (-want +got):\n%s", tt.selector, tt.keys, diff)
		}
		want := fmt.Sprintf("%d of %d lines are shown.", len(tt.want), len(all))
		if said := eval[string](t, tab, `document.querySelector("[role=status]").textContent`); said != want {
			t.Errorf("said %q, want %q", said, want)
		}
	}
}

// sortRows presses headings by keyboard, which says how the rows are sorted.
func sortRows(t *testing.T, tab context.Context) {
	t.Helper()
	for _, tt := range []struct{ heading, sorted, first string }{
		{"Decisions", "ascending", ""}, {"Decisions", "descending", "prod, rule 1"}, {"Rule", "ascending", "prod, rule 1"},
		{"Rule", "descending", "DBT_OLD"},
	} {
		at := eval[int](t, tab, fmt.Sprintf(`(() => {
			const buttons = [...document.querySelectorAll("thead button")], i = buttons.findIndex(b => b.textContent === %q);
			buttons[i].focus(); return i })()`, tt.heading))
		if err := chromedp.Do(tab, chromedp.KeyEvent("\r")); err != nil {
			t.Fatal(err)
		}
		got := eval[[]string](t, tab, `[...document.querySelectorAll("thead th")].map(h => h.getAttribute("aria-sort") ?? "")`)
		want := make([]string, len(got))
		want[at] = tt.sorted
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("aria-sort after %s (-want +got):\n%s", tt.heading, diff)
		}
		if first := rows(t, tab)[0]; tt.first != "" && first != tt.first {
			t.Errorf("%s %s: %q comes first, want %q", tt.heading, tt.sorted, first, tt.first)
		}
	}
}

// printed: on paper there is the whole table, and no filter.
func printed(t *testing.T, tab context.Context) {
	t.Helper()
	err := chromedp.Do(tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := eval[string](t, tab, `JSON.stringify([getComputedStyle(document.getElementById("filter")).display,
		getComputedStyle(document.querySelector(".wide")).overflowX, getComputedStyle(document.body).color])`); got != `["none","visible","rgb(0, 0, 0)"]` {
		t.Errorf("the filter, the table and the text on paper: %s", got)
	}
}

// picture is the one of the documentation.
func picture(t *testing.T, tab context.Context) {
	t.Helper()
	png, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(setup.Repository(t), "docs", "access-review.png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// review makes a page by the command, of a policy in git, records and users.
func review(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	policy, err := os.ReadFile(filepath.Join(setup.Repository(t), "internal", "command", "testdata", "audit-review", "oidc-dbt.yml"))
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, dir, ".github/oidc-dbt.yml", string(policy))
	call := func(name string, args ...string) string { return shell(t, dir, name, args...) }
	call("git", "init", "-q", "-b", "main")
	call("git", "commit", "-q", "--allow-empty", "-m", "start")
	call("git", "checkout", "-q", "-b", "topic")
	call("git", "add", ".")
	call("git", "commit", "-q", "-m", "add the policy", "-m", "Reviewed-by: Grace Hopper <grace@acme.example>")
	call("git", "checkout", "-q", "main")
	call("git", "merge", "-q", "--no-ff", "-m", "Merge pull request #41 from acme/topic", "topic")
	sum := strings.Fields(call("sha256sum", ".github/oidc-dbt.yml"))[0]
	var log strings.Builder
	for day := range 60 {
		at := time.Date(2026, 10, 1+day, 6, 0, 0, 0, time.UTC).UnixMilli()
		fmt.Fprintf(&log, `{"activity_id":6,"class_uid":3002,"time":%d,"metadata":{"correlation_uid":"%d"},"unmapped":{"decision":"allowed",`+
			`"target":"prod","policy_sha256":%q,"rule":{"index":0,"number":1},"claims":{"repository":"acme/analytics"}}}`+"\n", at, day, sum)
		fmt.Fprintf(&log, `{"activity_id":1,"class_uid":3002,"time":%d,"metadata":{"correlation_uid":"%d"},"unmapped":{"outcome":"issued",`+
			`"target":"prod","claims":{"repository":"acme/analytics"}}}`+"\n", at, day)
	}
	setup.Write(t, dir, "records/audit.jsonl", log.String())
	setup.Write(t, dir, "users.csv", "principal,type,factor,last_used\nDBT_PROD,SERVICE,WORKLOAD_IDENTITY,2026-11-28\n"+
		"DBT_OLD,SERVICE,RSA_KEYPAIR,2026-11-27\narn:aws:iam::123456789012:role/dbt-lake,role,,\n")
	call(setup.Binary(t), "audit", "review", "--period", "2026Q4", "--records", "records", "--grants", "users.csv", "--format", "html",
		"--out", "review.html")
	return filepath.Join(dir, "review.html")
}

// shell runs a program in a folder, where git's commits are Ada's.
func shell(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(setup.AtTerminal(os.Environ()), "GIT_AUTHOR_NAME=Ada Lovelace", "GIT_AUTHOR_EMAIL=ada@acme.example", "GIT_COMMITTER_NAME=x",
		"GIT_COMMITTER_EMAIL=x@acme.example", "GIT_AUTHOR_DATE=2026-03-02T12:00:00Z", "GIT_COMMITTER_DATE=2026-03-02T12:00:00Z")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}
