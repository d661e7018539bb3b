package standin

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// GitHubAPI is the host by which GitHub's command line asks for the API of
// github.localhost, without TLS: GitHub's own way to try it.
const GitHubAPI = "api.github.localhost"

// githubBot is who opens an issue with the token of a job.
const githubBot = "github-actions[bot]"

// maxIssue is how many characters an issue or a comment has.
const maxIssue = 65536

// A GitHub is the part of GitHub's REST API that is about the issues of one
// repository. It is stricter: what it does not know is an error there and
// ignored by GitHub. It may be used as the proxy of GitHubAPI.
type GitHub struct {
	repository string
	server     *httptest.Server
	tokens     map[string]bool // whether they may write

	mu       sync.Mutex
	issues   []*Issue
	requests []string
}

// An Issue is one of the repository.
type Issue struct {
	Number      int
	Title, Body string
	Creator     string
	State       string // open or closed
	Reason      string // why it is closed; "" for none
	Labels      []string
	Comments    []string
	PullRequest bool
}

// StartGitHub starts an API for a repository (OWNER/NAME) with some issues on
// loopback. Close it.
func StartGitHub(repository string, issues ...Issue) (*GitHub, error) {
	g := &GitHub{repository: repository, tokens: map[string]bool{"ghs_" + rand.Text(): true, "ghs_" + rand.Text(): false}}
	for _, i := range issues {
		i.Number = len(g.issues) + 1
		g.issues = append(g.issues, &i)
	}
	mux := http.NewServeMux()
	at := "/repos/" + repository + "/issues"
	mux.HandleFunc("GET "+at, g.list)
	mux.HandleFunc("POST "+at, g.create)
	mux.HandleFunc("PATCH "+at+"/{number}", g.update)
	mux.HandleFunc("POST "+at+"/{number}/comments", g.comment)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuseGitHub(w, http.StatusNotFound, "Not Found") })
	server, err := serve(g.checked(mux))
	if err != nil {
		return nil, err
	}
	g.server = server
	return g, nil
}

// URL returns the API's address.
func (g *GitHub) URL() string { return g.server.URL }

// Close stops the server.
func (g *GitHub) Close() { g.server.Close() }

// Token returns a token of a job with `issues: write`, or with `issues: read`.
func (g *GitHub) Token(write bool) string {
	for token, may := range g.tokens {
		if may == write {
			return token
		}
	}
	panic("there is one of each")
}

// Issues returns all issues as they are.
func (g *GitHub) Issues() (all []Issue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.issues {
		all = append(all, *i)
	}
	return all
}

// Requests returns the method and path of each request.
func (g *GitHub) Requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// checked looks at the host and the token before next, which it calls with the lock.
func (g *GitHub) checked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.requests = append(g.requests, r.Method+" "+r.URL.Path)
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "token ")
		if !ok {
			token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		}
		write, known := g.tokens[token]
		switch {
		case r.Host != GitHubAPI && r.Host != g.server.Listener.Addr().String():
			refuseGitHub(w, http.StatusMisdirectedRequest, "the request is for "+r.Host)
		case !ok:
			refuseGitHub(w, http.StatusUnauthorized, "Requires authentication")
		case !known:
			refuseGitHub(w, http.StatusUnauthorized, "Bad credentials")
		case !write && r.Method != http.MethodGet:
			refuseGitHub(w, http.StatusForbidden, "Resource not accessible by integration")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func refuseGitHub(w http.ResponseWriter, status int, message string) {
	replyGitHub(w, status, map[string]any{
		"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status),
	})
}

func replyGitHub(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// listing are the parameters of a list: what each may be, "" for any text.
var listing = map[string]string{
	"state": "open closed all", "creator": "", "labels": "", "per_page": "", "page": "", "sort": "created",
	"direction": "asc desc",
}

// list answers a page of the issues, pull requests among them.
func (g *GitHub) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		choices, known := listing[name]
		if value := query.Get(name); !known || choices != "" && !slices.Contains(strings.Fields(choices), value) {
			refuseGitHub(w, http.StatusUnprocessableEntity, fmt.Sprintf("Validation Failed: %s=%s", name, value))
			return
		}
	}
	number := func(name string, none int) int {
		if n, err := strconv.Atoi(query.Get(name)); err == nil && n > 0 {
			return n
		}
		return none
	}
	var found []any
	for _, i := range g.issues {
		if i.matches(query) {
			found = append(found, g.object(i))
		}
	}
	if query.Get("direction") != "asc" {
		slices.Reverse(found) // the newest first
	}
	size, page := min(number("per_page", 30), 100), number("page", 1)
	if page*size < len(found) {
		query.Set("page", strconv.Itoa(page+1))
		next := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawQuery: query.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, &next))
	}
	from := min((page-1)*size, len(found))
	replyGitHub(w, http.StatusOK, append([]any{}, found[from:min(from+size, len(found))]...))
}

func (i *Issue) matches(query url.Values) bool {
	state := query.Get("state")
	if state == "" {
		state = "open"
	}
	if state != "all" && state != i.State || query.Has("creator") && query.Get("creator") != i.Creator {
		return false
	}
	for label := range strings.SplitSeq(query.Get("labels"), ",") {
		if label != "" && !slices.Contains(i.Labels, label) {
			return false
		}
	}
	return true
}

func (g *GitHub) object(i *Issue) map[string]any {
	labels := []any{}
	for _, l := range i.Labels {
		labels = append(labels, map[string]any{"name": l})
	}
	o := map[string]any{
		"number": i.Number, "title": i.Title, "body": i.Body, "state": i.State, "comments": len(i.Comments), "labels": labels,
		"user": map[string]any{"login": i.Creator},
		"url":  fmt.Sprintf("%s/repos/%s/issues/%d", g.server.URL, g.repository, i.Number),
	}
	if i.Reason != "" {
		o["state_reason"] = i.Reason
	}
	if i.PullRequest {
		o["pull_request"] = map[string]any{}
	}
	return o
}

// An issueChange is what a request may say of an issue.
type issueChange struct {
	Title  *string   `json:"title"`
	Body   *string   `json:"body"`
	Labels *[]string `json:"labels"`
	State  *string   `json:"state"`
	Reason *string   `json:"state_reason"`
}

// read reads a body and checks it; it answers where something is wrong.
func (c *issueChange) read(w http.ResponseWriter, r *http.Request) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(c)
	one := func(value *string, choices ...string) bool { return value == nil || slices.Contains(choices, *value) }
	switch {
	case err != nil && strings.Contains(err.Error(), "unknown field"):
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: "+err.Error())
	case err != nil:
		refuseGitHub(w, http.StatusBadRequest, "Problems parsing JSON")
	case c.Title != nil && (*c.Title == "" || utf8.RuneCountInString(*c.Title) > 256):
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: title is missing or too long")
	case c.Body != nil && utf8.RuneCountInString(*c.Body) > maxIssue:
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: body is too long (maximum is 65536 characters)")
	case !one(c.State, "open", "closed"), !one(c.Reason, "completed", "not_planned", "duplicate", "reopened"):
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: state")
	default:
		return true
	}
	return false
}

func (c *issueChange) apply(i *Issue) {
	for _, f := range []struct{ from, to *string }{
		{c.Title, &i.Title}, {c.Body, &i.Body}, {c.State, &i.State}, {c.Reason, &i.Reason},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if c.Labels != nil {
		i.Labels = *c.Labels
	}
}

func (g *GitHub) create(w http.ResponseWriter, r *http.Request) {
	var c issueChange
	if !c.read(w, r) {
		return
	}
	if c.Title == nil || c.State != nil || c.Reason != nil {
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: a new issue has a title and no state")
		return
	}
	i := &Issue{Number: len(g.issues) + 1, State: "open", Creator: githubBot}
	c.apply(i)
	g.issues = append(g.issues, i)
	replyGitHub(w, http.StatusCreated, g.object(i))
}

// issue returns the one that a path names; it answers where there is none.
func (g *GitHub) issue(w http.ResponseWriter, r *http.Request) *Issue {
	n, err := strconv.Atoi(r.PathValue("number"))
	if err != nil || n < 1 || n > len(g.issues) {
		refuseGitHub(w, http.StatusNotFound, "Not Found")
		return nil
	}
	return g.issues[n-1]
}

func (g *GitHub) update(w http.ResponseWriter, r *http.Request) {
	var c issueChange
	if i := g.issue(w, r); i != nil && c.read(w, r) {
		c.apply(i)
		replyGitHub(w, http.StatusOK, g.object(i))
	}
}

func (g *GitHub) comment(w http.ResponseWriter, r *http.Request) {
	var c issueChange
	i := g.issue(w, r)
	if i == nil || !c.read(w, r) {
		return
	}
	if c.Body == nil || *c.Body == "" || c.Title != nil || c.State != nil || c.Labels != nil || c.Reason != nil {
		refuseGitHub(w, http.StatusUnprocessableEntity, "Validation Failed: a comment has a body")
		return
	}
	i.Comments = append(i.Comments, *c.Body)
	replyGitHub(w, http.StatusCreated, map[string]any{"id": len(i.Comments), "body": *c.Body})
}
