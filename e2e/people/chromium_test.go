//go:build e2e && linux && amd64

package people

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A step is what a person does at a browser.
type step = chromedp.Action[chromedp.Void]

// open starts Chromium for all tests.
func (c *company) open(t *testing.T, program string) context.Context {
	t.Helper()
	options := slices.Concat(chromedp.DefaultExecAllocatorOptions[:], []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.Env(c.library),
		chromedp.NoSandbox, // it would need a program of root, and the pages are the test's own
		chromedp.DisableGPU, chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()),
	})
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return browser
}

// browse has a person's own Chromium take some steps, and then waits for a page that shows a text. It returns
// where that page is.
func (c *company) browse(t *testing.T, shows string, steps ...step) (address string) {
	t.Helper()
	tab, cancel := chromedp.NewContext(c.chromium, chromedp.WithNewBrowserContext())
	defer cancel()
	err := chromedp.Do(tab) // the tab has no time limit
	ctx, stop := context.WithTimeout(tab, time.Minute)
	defer stop()
	if err == nil {
		err = chromedp.Do(ctx, append(steps, chromedp.WaitVisible(fmt.Sprintf("//body[contains(., %q)]", shows)))...)
	}
	late, end := context.WithTimeout(tab, 10*time.Second)
	defer end()
	address, _ = chromedp.Run(late, chromedp.Location())
	if err != nil {
		page, _ := chromedp.Run(late, chromedp.Text(chromedp.CSS("body")))
		t.Errorf("Chromium does not show %q: %v; %s shows\n%s", shows, err, address, page)
	}
	return address
}

// fillIn goes to an address, unless it is "", and fills in Keycloak's form.
func fillIn(address, user string) step {
	var steps []step
	if address != "" {
		steps = append(steps, chromedp.Navigate(address))
	}
	return chromedp.Steps(append(steps, chromedp.WaitVisible(chromedp.CSS("#username")), chromedp.SendKeys(chromedp.CSS("#username"), user),
		chromedp.SendKeys(chromedp.CSS("#password"), password), chromedp.Click(chromedp.CSS("#kc-login")))...)
}

// decide answers Keycloak's question whether the client may have the scopes.
func decide(yes bool) step {
	button := map[bool]string{true: "accept", false: "cancel"}[yes]
	return chromedp.Steps(chromedp.WaitVisible(chromedp.CSS("#kc-oauth")), chromedp.Click(chromedp.CSS(fmt.Sprintf("[name=%s]", button))))
}
