package standin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// github asks the API and returns the status and the reply.
func github(t *testing.T, g *standin.GitHub, token, method, path, body string) (status int, reply string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// TestGitHubRefuses: one good request of each kind, and what is wrong with others.
func TestGitHubRefuses(t *testing.T) {
	t.Parallel()
	const issues, one = "/repos/acme/analytics/issues", "/repos/acme/analytics/issues/1"
	for _, tt := range []struct {
		name, method, path, body string
		token                    string // "" for a good one
		status                   int
		message                  string // a part of it
	}{
		{name: "list", method: "GET", path: issues, status: 200, message: `"number":1`},
		{name: "create", method: "POST", path: issues, body: `{"title": "a", "body": "b"}`, status: 201, message: `"number":2`},
		{name: "update", method: "PATCH", path: one, body: `{"body": "b"}`, status: 200, message: `"body":"b"`},
		{name: "close", method: "PATCH", path: one, body: `{"state": "closed", "state_reason": "completed"}`, status: 200, message: `"state":"closed"`},
		{name: "comment", method: "POST", path: one + "/comments", body: `{"body": "b"}`, status: 201, message: `"body":"b"`},
		{name: "no token", token: "none", method: "GET", path: issues, status: 401, message: "Requires authentication"},
		{name: "another token", token: "ghs_x", method: "GET", path: issues, status: 401, message: "Bad credentials"},
		{name: "read the list", token: "read", method: "GET", path: issues, status: 200, message: `"number":1`},
		{name: "read only", token: "read", method: "POST", path: issues, body: `{"title": "a"}`, status: 403, message: "Resource not accessible by integration"},
		{name: "another repository", method: "GET", path: "/repos/acme/other/issues", status: 404, message: "Not Found"},
		{name: "another method", method: "DELETE", path: one, status: 404, message: "Not Found"},
		{name: "no such issue", method: "PATCH", path: issues + "/7", body: `{"body": "b"}`, status: 404, message: "Not Found"},
		{name: "another parameter", method: "GET", path: issues + "?author=x", status: 422, message: "author=x"},
		{name: "another state", method: "GET", path: issues + "?state=opened", status: 422, message: "state=opened"},
		{name: "no JSON", method: "POST", path: issues, body: `title`, status: 400, message: "Problems parsing JSON"},
		{name: "no title", method: "POST", path: issues, body: `{"body": "b"}`, status: 422, message: "title"},
		{name: "another field", method: "POST", path: issues, body: `{"title": "a", "text": "b"}`, status: 422, message: `unknown field \"text\"`},
		{name: "a long body", method: "PATCH", path: one, body: `{"body": "` + strings.Repeat("x", 65537) + `"}`, status: 422, message: "maximum is 65536 characters"},
		{name: "another state of an issue", method: "PATCH", path: one, body: `{"state": "done"}`, status: 422, message: "state"},
		{name: "an empty comment", method: "POST", path: one + "/comments", body: `{}`, status: 422, message: "body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, err := standin.StartGitHub("acme/analytics", standin.Issue{Title: "a", State: "open", Creator: "octocat"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Close)
			token := tt.token
			switch token {
			case "":
				token = g.Token(true)
			case "read":
				token = g.Token(false)
			case "none":
				token = ""
			}
			status, reply, _ := github(t, g, token, tt.method, tt.path, tt.body)
			if status != tt.status || !strings.Contains(reply, tt.message) {
				t.Errorf("status %d, %s; want %d, %q", status, reply, tt.status, tt.message)
			}
		})
	}
}

// TestGitHubLists: by state, creator and label, the newest first, in pages.
func TestGitHubLists(t *testing.T) {
	t.Parallel()
	bot, label := "github-actions[bot]", []string{"trust"}
	g, err := standin.StartGitHub("acme/analytics",
		standin.Issue{State: "open", Creator: "octocat"}, standin.Issue{State: "closed", Creator: bot},
		standin.Issue{State: "open", Creator: bot, Labels: label}, standin.Issue{State: "open", Creator: bot, PullRequest: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	for query, want := range map[string]string{
		"": "4 3 1", "state=all&direction=asc": "1 2 3 4", "creator=" + url.QueryEscape(bot): "4 3", "labels=trust": "3", "labels=trust,other": "",
		"per_page=2": "4 3 next", "per_page=2&page=2": "1", "per_page=2&page=9": "",
	} {
		_, reply, header := github(t, g, g.Token(true), "GET", "/repos/acme/analytics/issues?"+query, "")
		var numbers []string
		for _, part := range strings.Split(reply, `"number":`)[1:] {
			numbers = append(numbers, part[:1])
		}
		if header.Get("Link") != "" {
			numbers = append(numbers, "next")
		}
		if diff := cmp.Diff(want, strings.Join(numbers, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

// TestGitHubAsAProxy: GitHub's command line is sent here for its own host, and
// for no other.
func TestGitHubAsAProxy(t *testing.T) {
	t.Parallel()
	g, err := standin.StartGitHub("acme/analytics")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	proxy, err := url.Parse(g.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	for host, want := range map[string]int{standin.GitHubAPI: 200, "api.github.example": 421} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/repos/acme/analytics/issues", host), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+g.Token(true))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", host, resp.StatusCode, want)
		}
	}
}
