// Package runner speaks the GitHub runner's protocol: inputs, masks, outputs, state, summary
// and the request for an ID token, through go-githubactions and with what that lacks.
package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/sethvargo/go-githubactions"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Env is what a Runner needs of the world.
type Env struct {
	Getenv func(string) string
	Stdout io.Writer    // workflow commands go here
	HTTP   *http.Client // from web.NewClient
}

// A Runner is the runner as a step sees it. Its methods return errors where
// the library panics, and refuse names and values that would smuggle a second
// line into a file that the runner reads.
type Runner struct {
	env    Env
	action *githubactions.Action
	masked map[string]bool // SHA-256 of what was masked
	mu     sync.Mutex      // a line is printed whole, whoever prints another
}

// New returns a Runner.
func New(env Env) *Runner {
	// The token's bearer must reach the runner alone, and its reply must not
	// reach an error: hence our client and replyCheck.
	client := *env.HTTP
	client.Transport = replyCheck{env.HTTP.Transport}
	return &Runner{
		env: env,
		action: githubactions.New(githubactions.WithGetenv(env.Getenv), githubactions.WithWriter(env.Stdout),
			githubactions.WithHTTPClient(&client)),
		masked: map[string]bool{},
	}
}

// Input returns an input's value without white space around it, "" where it is not given.
func (r *Runner) Input(name string) string { return r.action.GetInput(name) }

// State returns what SaveState saved in main, in post.
func (r *Runner) State(name string) string { return r.env.Getenv("STATE_" + name) }

const permission = `add "permissions: id-token: write" to the job (and to the job that calls it, where it is a reusable workflow)`

// IDToken asks the runner for an ID token with the audience. It tries again
// when the reply is missing, empty or late. Errors are of class NoIdentity
// where no token can be had, Unreachable where the endpoint talks nonsense.
func (r *Runner) IDToken(ctx context.Context, audience string) (secret.Value, error) {
	address, bearer := r.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), r.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	switch {
	case address == "":
		return secret.Value{}, r.noIdentity("ACTIONS_ID_TOKEN_REQUEST_URL")
	case bearer == "":
		return secret.Value{}, r.noIdentity("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	case strings.ContainsFunc(bearer, notVisible):
		return secret.Value{}, fault.New(fault.NoIdentity,
			errors.New("request ID token: ACTIONS_ID_TOKEN_REQUEST_TOKEN: there is a character in it that no header can carry"), "")
	}
	if err := checkRequestURL(address); err != nil {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: ACTIONS_ID_TOKEN_REQUEST_URL: %w", err), "")
	}
	token, err := web.Retry(ctx, func(ctx context.Context) (secret.Value, error) {
		raw, err := r.action.GetIDToken(ctx, audience)
		if err != nil {
			return secret.Value{}, requestError(err)
		}
		if raw == "" {
			return secret.Value{}, web.Temporary(errors.New("the reply has no token in it"))
		}
		if strings.ContainsFunc(raw, notVisible) {
			return secret.Value{}, web.Temporary(errors.New("the token in the reply is malformed")) // it could not be masked as one line
		}
		return secret.New(raw), nil
	})
	if err == nil {
		return token, nil
	}
	var refused refusal
	if errors.As(err, &refused) {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %w", err), permission)
	}
	hint := "run the job again; if it persists, see GitHub's status page"
	var status statusError
	switch {
	case web.Refusal(err) != nil, web.Hint(err) != "":
		hint = web.Hint(err)
	case errors.As(err, &status) && !web.Transient(int(status)):
		hint = "something else than the runner's token service may answer at ACTIONS_ID_TOKEN_REQUEST_URL, a proxy on the way for example"
	}
	return secret.Value{}, fault.New(fault.Unreachable, fmt.Errorf("request ID token: %w", err), hint)
}

// notVisible reports whether c is none of the characters that tokens are made of (RFC 6750, 2.1).
func notVisible(c rune) bool { return c <= ' ' || c > '~' }

func (r *Runner) noIdentity(missing string) error {
	event, head := r.env.Getenv("GITHUB_EVENT_NAME"), r.env.Getenv("GITHUB_HEAD_REF")
	switch {
	case r.env.Getenv("GITHUB_ACTIONS") != "true":
		return fault.New(fault.NoIdentity,
			errors.New("request ID token: this is not a step of GitHub Actions, and there is no other token source"),
			"run it as a step of a workflow whose job has `permissions: id-token: write`")
	case strings.HasPrefix(event, "pull_request") && event != "pull_request_target" && r.fork():
		return fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: this pull request (branch %q) comes from a fork, and GitHub gives forks no ID token", head),
			"this is by design: skip the job for forks with `if: github.event.pull_request.head.repo.full_name == "+
				"github.repository`, or parse and lint there with `profile-only: true`; do not switch to pull_request_target, "+
				"which would run the fork's code with this repository's rights")
	default:
		return fault.New(fault.NoIdentity, fmt.Errorf("request ID token: the job may not ask for one (%s is not set)", missing), permission)
	}
}

// maxEvent bounds the event's file: GitHub's payloads have at most 25 MB.
const maxEvent = 32 << 20

// fork reports whether the event's pull request comes from another repository.
// Only the words of an error depend on it.
func (r *Runner) fork() bool {
	data, err := disk.Read(r.env.Getenv("GITHUB_EVENT_PATH"), maxEvent)
	if err != nil {
		return false
	}
	var event struct {
		PullRequest struct {
			Head struct {
				Repo *struct {
					FullName string `json:"full_name"`
				} `json:"repo"`
			} `json:"head"`
		} `json:"pull_request"`
	}
	if json.Unmarshal(data, &event) != nil {
		return false
	}
	repo := event.PullRequest.Head.Repo
	return repo == nil || repo.FullName != r.env.Getenv("GITHUB_REPOSITORY") // nil: the fork was deleted
}

// checkRequestURL checks the runner's own URL, which, unlike an endpoint, has a query.
func checkRequestURL(raw string) error {
	base, _, _ := strings.Cut(raw, "?")
	if _, err := url.Parse(raw); err != nil {
		return errors.New("not a URL")
	}
	_, err := web.CheckURL(base)
	return err
}

// refusal is the runner's no: 401 or 403.
type refusal struct{ status int }

func (e refusal) Error() string {
	return fmt.Sprintf("status is %d: the runner refuses it", e.status)
}

// requestError turns the library's error into ours: without the reply's body,
// and with the mark of another try where one may help.
func requestError(err error) error {
	var status statusError
	var failed *githubactions.RequestFailedError
	switch {
	case errors.As(err, &failed) && (failed.StatusCode == http.StatusUnauthorized || failed.StatusCode == http.StatusForbidden):
		// Also the answer to a very early request: the job must be in
		// progress on the server, for which the runner waits a second.
		return web.Brief(refusal{failed.StatusCode})
	case errors.As(err, &failed):
		status = statusError(failed.StatusCode)
		if web.Transient(failed.StatusCode) {
			return web.Temporary(status)
		}
		return status
	}
	var other nonsense
	if errors.As(err, &other) {
		return web.Brief(other)
	}
	return web.Failed(err) // replyCheck leaves nothing to quote: these are its words, or the transport's
}

// nonsense is a whole reply that is not one of the runner's, most likely that
// of a proxy on the way.
type nonsense string

func (n nonsense) Error() string { return string(n) }

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status is %d, want 200", int(e)) }

// maxReply is how much of a reply the library reads; of more it takes the
// beginning without a word.
const maxReply = 64 * 1000

// replyCheck hands the library only replies that it can use, in its own
// spelling: the library quotes other bodies in its errors.
type replyCheck struct{ next http.RoundTripper }

func (c replyCheck) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		resp.Body = http.NoBody
		return resp, nil
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	var reply struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body.Bytes(), &reply); err != nil {
		if errors.As(err, new(*json.UnmarshalTypeError)) {
			return nil, nonsense("the reply has no token in it")
		}
		return nil, nonsense("the reply is not JSON")
	}
	text, err := json.Marshal(reply)
	if err != nil || len(text) > maxReply {
		return nil, nonsense(fmt.Sprintf("the token in the reply is larger than %d bytes", maxReply))
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// Mask tells the runner to hide v in everything that is printed from now on.
func (r *Runner) Mask(v secret.Value) error {
	if v.IsZero() || r.masked[v.SHA256()] {
		return nil
	}
	if err := oneLine("mask", v.Reveal()); err != nil {
		return err
	}
	if err := r.safely(func() { r.action.AddMask(v.Reveal()) }); err != nil {
		return err
	}
	r.masked[v.SHA256()] = true
	return nil
}

// SetOutput sets an output that is not secret.
func (r *Runner) SetOutput(name, value string) error {
	return r.set("output "+name, "GITHUB_OUTPUT", name, value, r.action.SetOutput)
}

// SetSecretOutput sets a secret output, which must have been masked before.
func (r *Runner) SetSecretOutput(name string, v secret.Value) error {
	return r.setSecret("output "+name, "GITHUB_OUTPUT", name, v, r.action.SetOutput)
}

// SetEnv sets a variable for the job's next steps.
func (r *Runner) SetEnv(name, value string) error {
	return r.set("variable "+name, "GITHUB_ENV", name, value, r.action.SetEnv)
}

// SetSecretEnv is SetEnv for a secret, which must have been masked before:
// every later step prints its environment.
func (r *Runner) SetSecretEnv(name string, v secret.Value) error {
	return r.setSecret("variable "+name, "GITHUB_ENV", name, v, r.action.SetEnv)
}

// SaveState saves a value for post. It must not be secret.
func (r *Runner) SaveState(name, value string) error {
	return r.set("state "+name, "GITHUB_STATE", name, value, r.action.SaveState)
}

// AddPath puts a folder in front of the PATH of the job's next steps.
func (r *Runner) AddPath(dir string) error {
	return r.set("path", "GITHUB_PATH", "path", dir, func(_, dir string) { r.action.AddPath(dir) })
}

// Summary appends Markdown to the step summary.
func (r *Runner) Summary(markdown string) error {
	if strings.Contains(markdown, "\x00") {
		return fault.New(fault.Internal, errors.New("write summary: there is a NUL in it"), "")
	}
	if r.env.Getenv(summaryFile) == "" {
		return nil // older GitHub Enterprise Servers have none
	}
	if err := r.checkFile(summaryFile); err != nil {
		return err
	}
	return r.safely(func() { r.action.AddStepSummary(markdown) })
}

// Info prints text to the log; the other levels also show it on the run's page.
func (r *Runner) Info(text string) error {
	return r.safely(func() { r.action.Infof("%s", Printable(text)) })
}

// Warning prints a warning. The first of its places in the workspace is where
// its annotation is; text names them all.
func (r *Runner) Warning(text string, places ...fault.Place) error {
	action := r.action
	if annotations, _ := r.annotations(places); len(annotations) > 0 {
		action = action.WithFieldsMap(annotations[0])
	}
	return r.safely(func() { action.Warningf("%s", Printable(text)) })
}

// maxAnnotations is how many errors of a step GitHub shows on the run's page.
const maxAnnotations = 10

// Error prints an error. Each of its places in the workspace becomes an
// annotation there, of which GitHub shows the first ten; text has them all.
func (r *Runner) Error(text string, places ...fault.Place) error {
	annotations, texts := r.annotations(places)
	return r.safely(func() {
		if len(annotations) == 0 {
			r.action.Errorf("%s", Printable(text))
			return
		}
		r.action.Infof("%s", Printable(text))
		for i, fields := range annotations {
			r.action.WithFieldsMap(fields).Errorf("%s", texts[i])
		}
	})
}

// annotations returns the fields of those of the places that are in the
// workspace, and what each is to say.
func (r *Runner) annotations(places []fault.Place) (annotations []map[string]string, texts []string) {
	for _, p := range places {
		file, ok := inWorkspace(r.env.Getenv("GITHUB_WORKSPACE"), p.File)
		if !ok || len(texts) == maxAnnotations {
			continue
		}
		fields := map[string]string{"file": Printable(file)}
		if p.Line > 0 {
			fields["line"], fields["col"] = strconv.Itoa(p.Line), strconv.Itoa(max(p.Column, 1))
		}
		annotations, texts = append(annotations, fields), append(texts, Printable(p.Text))
	}
	return annotations, texts
}

// inWorkspace returns a file's path as annotations name it: from the
// workspace, with slashes. ok is false for a file elsewhere.
func inWorkspace(workspace, file string) (path string, ok bool) {
	if file == "" || workspace == "" {
		return "", false
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(workspace, file)
	}
	if rel, err := filepath.Rel(workspace, file); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel), true
	}
	return "", false
}

// Writable returns an error of class Internal unless the runner's files can
// be appended to, so that no credential is issued that cannot be handed over.
func (r *Runner) Writable() error {
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STATE", "GITHUB_PATH"} {
		path := r.env.Getenv(name)
		if path == "" {
			return fault.New(fault.Internal, fmt.Errorf("write to the runner: %s is not set", name),
				"the action needs a runner of version 2.327 or later")
		}
		f, err := disk.Open(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fault.New(fault.Internal, fmt.Errorf("write to the runner: %s: %w", name, err), "")
		}
	}
	return r.checkFile(summaryFile)
}

const summaryFile = "GITHUB_STEP_SUMMARY"

// checkFile returns an error when the variable names anything but a file. The
// library, which does the writing, would wait for a pipe's reader, and what
// it writes to a device is gone. What else may be wrong with it, it says.
func (r *Runner) checkFile(variable string) error {
	var not disk.NotRegular
	if path := r.env.Getenv(variable); path == "" || !errors.As(disk.Check(path), &not) {
		return nil
	}
	return fault.New(fault.Internal, fmt.Errorf("write to the runner: %s %w", variable, not), "")
}

func (r *Runner) setSecret(what, file, name string, v secret.Value, set func(name, value string)) error {
	if !r.masked[v.SHA256()] {
		return fault.New(fault.Internal, fmt.Errorf("write %s: it was not masked before", what), "")
	}
	return r.set(what, file, name, v.Reveal(), set)
}

func (r *Runner) set(what, file, name, value string, set func(name, value string)) error {
	if !variable.MatchString(name) {
		return fault.New(fault.Internal, fmt.Errorf("write %q: not a name", what), "")
	}
	if err := oneLine(what, value); err != nil {
		return err
	}
	if err := r.checkFile(file); err != nil {
		return err
	}
	return r.safely(func() { set(name, value) })
}

// variable is what a name may be. With a "=" or "<<" in it the runner would
// read the line otherwise, and the value as a line of its own.
var variable = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// delimiter is the library's constant, which ends a value that equals it.
const delimiter = "_GitHubActionsFileCommandDelimeter_"

// oneLine refuses what would end the line, and with it the value, and what
// the runner would read back as something else.
func oneLine(what, value string) error {
	switch {
	case strings.ContainsAny(value, "\r\n\x00"):
		return fault.New(fault.Internal, fmt.Errorf("write %s: there is a line break or NUL in it", what), "")
	case value == delimiter:
		return fault.New(fault.Internal, fmt.Errorf("write %s: it is the line that ends a value", what), "")
	case !utf8.ValidString(value):
		return fault.New(fault.Internal, fmt.Errorf("write %s: it is not UTF-8", what), "")
	}
	return nil
}

// safely turns the library's panic, when it cannot write, into an error.
func (r *Runner) safely(write func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = fault.New(fault.Internal, fmt.Errorf("write to the runner: %w", p), "")
		default:
			panic(p)
		}
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	write()
	return nil
}
