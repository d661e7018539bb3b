// Package runner speaks the GitHub runner's protocol: inputs, masks, outputs, state, summary
// and requests for ID tokens, with checks that go-githubactions lacks; and what other CI systems' logs understand.
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
	env     Env
	action  *githubactions.Action
	masking sync.Mutex      // of masked: several may obtain tokens at once
	masked  map[string]bool // SHA-256 of what was masked
	mu      sync.Mutex      // keeps lines of concurrent writers whole
}

// New returns a Runner.
func New(env Env) *Runner {
	// The bearer must be sent only to the runner, and replies must not get into
	// errors: hence our client and replyCheck.
	client := *env.HTTP
	client.Transport = replyCheck{env.HTTP.Transport}
	return &Runner{
		env: env,
		action: githubactions.New(githubactions.WithGetenv(env.Getenv), githubactions.WithWriter(env.Stdout),
			githubactions.WithHTTPClient(&client)),
		masked: map[string]bool{},
	}
}

// Input returns an input's value without surrounding white space, "" if it is not set.
func (r *Runner) Input(name string) string { return r.action.GetInput(name) }

// State returns, in the post step, a value that SaveState saved in the main step.
func (r *Runner) State(name string) string { return r.env.Getenv("STATE_" + name) }

const permission = `add "permissions: id-token: write" to the job (and, for a reusable workflow, to the job that calls it)`

// IDToken requests an ID token with the audience from the runner. It tries
// again if the reply is missing, empty or late. Errors are of class NoIdentity
// if the job cannot get a token, Unreachable if the endpoint does not respond
// as the runner does.
func (r *Runner) IDToken(ctx context.Context, audience string) (secret.Value, error) {
	address, bearer := r.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), r.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	switch {
	case address == "":
		return secret.Value{}, r.noIdentity("ACTIONS_ID_TOKEN_REQUEST_URL")
	case bearer == "":
		return secret.Value{}, r.noIdentity("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	case strings.ContainsFunc(bearer, notVisible):
		return secret.Value{}, fault.New(fault.NoIdentity,
			errors.New("request ID token: ACTIONS_ID_TOKEN_REQUEST_TOKEN contains characters that an HTTP header cannot carry"), "")
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
			return secret.Value{}, web.Temporary(errors.New("the reply contains no token"))
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
		hint = "another server, such as a proxy, may be answering at ACTIONS_ID_TOKEN_REQUEST_URL instead of the runner's token service"
	}
	return secret.Value{}, fault.New(fault.Unreachable, fmt.Errorf("request ID token: %w", err), hint)
}

// notVisible reports whether c cannot be part of a token (RFC 6750, 2.1).
func notVisible(c rune) bool { return c <= ' ' || c > '~' }

func (r *Runner) noIdentity(missing string) error {
	event, head := r.env.Getenv("GITHUB_EVENT_NAME"), r.env.Getenv("GITHUB_HEAD_REF")
	switch {
	case r.env.Getenv("GITHUB_ACTIONS") != "true":
		return fault.New(fault.NoIdentity,
			errors.New("request ID token: not a step of GitHub Actions, and no other source of ID tokens is available"),
			"run it as a step of a workflow whose job has `permissions: id-token: write`")
	case strings.HasPrefix(event, "pull_request") && event != "pull_request_target" && r.fork():
		return fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: this pull request (branch %q) comes from a fork, and GitHub gives forks no ID token", head),
			"this is by design: skip the job for forks with `if: github.event.pull_request.head.repo.full_name == "+
				"github.repository`, or parse and lint there with `profile-only: true`; do not switch to pull_request_target, "+
				"which would run the fork's code with this repository's rights")
	default:
		return fault.New(fault.NoIdentity,
			fmt.Errorf("request ID token: the job has no permission to request one (%s is not set)", missing), permission)
	}
}

// maxEvent bounds the event's file: GitHub's payloads are at most 25 MB.
const maxEvent = 32 << 20

// fork reports whether the event's pull request comes from another repository.
// It only affects the text of an error.
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

// refusal is status 401 or 403 from the runner.
type refusal struct{ status int }

func (e refusal) Error() string {
	return fmt.Sprintf("status is %d: refused by the runner", e.status)
}

// requestError converts the library's error: it drops the reply's body and
// marks errors that are worth another try.
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
	return web.Failed(err) // from replyCheck or the transport, so it quotes no reply
}

// nonsense is a complete reply that does not come from the runner, but most
// likely from a proxy.
type nonsense string

func (n nonsense) Error() string { return string(n) }

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status is %d, want 200", int(e)) }

// maxReply is how much of a reply the library reads; it silently truncates
// longer ones.
const maxReply = 64 * 1000

// replyCheck passes only valid replies to the library, and in normalized form:
// the library would quote other bodies in its errors.
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
			return nil, nonsense("the reply contains no token")
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

// Mask tells the runner to mask v in the log from now on.
func (r *Runner) Mask(v secret.Value) error {
	r.masking.Lock()
	defer r.masking.Unlock()
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
		return fault.New(fault.Internal, errors.New("write summary: contains a NUL"), "")
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

// Warning prints a warning, annotated at the first of its places that is in the
// workspace; text names them all.
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

// annotations returns the fields and the text of an annotation for each place
// in the workspace.
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

// inWorkspace returns a file's path for an annotation: relative to the
// workspace, with slashes. ok is false for a file outside it.
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

// checkFile returns an error if the variable names something other than a
// regular file: the library would block on a pipe without a reader, and lose
// what it writes to a device. It reports all other errors itself.
func (r *Runner) checkFile(variable string) error {
	var not disk.NotRegular
	if path := r.env.Getenv(variable); path == "" || !errors.As(disk.Check(path), &not) {
		return nil
	}
	return fault.New(fault.Internal, fmt.Errorf("write to the runner: %s %w", variable, not), "")
}

func (r *Runner) setSecret(what, file, name string, v secret.Value, set func(name, value string)) error {
	if !r.masked[v.SHA256()] {
		return fault.New(fault.Internal, fmt.Errorf("write %s: has not been masked", what), "")
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

// variable matches valid names. With "=" or "<<" in a name the runner would
// read the value as lines of its own.
var variable = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// delimiter is the library's constant that ends a value.
const delimiter = "_GitHubActionsFileCommandDelimeter_"

// oneLine refuses values that would end the line early, or that the runner
// would read back as something else.
func oneLine(what, value string) error {
	switch {
	case strings.ContainsAny(value, "\r\n\x00"):
		return fault.New(fault.Internal, fmt.Errorf("write %s: contains a line break or NUL", what), "")
	case value == delimiter:
		return fault.New(fault.Internal, fmt.Errorf("write %s: equals the delimiter that ends a value", what), "")
	case !utf8.ValidString(value):
		return fault.New(fault.Internal, fmt.Errorf("write %s: is not valid UTF-8", what), "")
	}
	return nil
}

// safely turns the library's panic on a failed write into an error.
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
