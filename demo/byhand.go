package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

//go:embed byhand/requirements.txt
var snowflakeRequirements []byte

const (
	threads    = 8
	handLife   = 30 * time.Second // of an ID token, instead of five minutes
	chained    = 3                // models, each of which needs the one before; the last is slow
	wide       = 8                // models that need only the last of those
	handAud    = "snowflakecomputing.com"
	production = "repo:acme/analytics:environment:production"
)

// handmade is the demo of a run without the action.
type handmade struct {
	*demo
	account *standin.Snowflake
}

// byHand shows a build that logs in with one ID token on 8 threads, and the
// same build with the action.
func (d *demo) byHand() []part {
	h := handmade{demo: d}
	return []part{
		{"Getting ready: dbt-snowflake and fakesnow in a Python environment of their own, and the action's binary", h.prepare},
		{fmt.Sprintf("Starting a CI issuer, whose ID tokens live %s instead of five minutes, and a stand-in for Snowflake",
			handLife), h.start},
		{"By hand: a step asks for an ID token, and `dbt build` logs in with it on 8 threads", h.withoutAction},
		{"The same project with `oidc-dbt exec`", h.withAction},
	}
}

func (h *handmade) prepare(ctx context.Context) (err error) {
	h.python, err = pyenv.Ensure(ctx, "by-hand", snowflakeRequirements, "", indented{})
	if err != nil {
		return err
	}
	return h.buildBinary(ctx)
}

// start starts the issuer, fakesnow, which answers statements, and the check of
// logins in front of it.
func (h *handmade) start(ctx context.Context) (err error) {
	if h.issuer, err = standin.StartIssuer(nil); err != nil {
		return err
	}
	h.issuer.SetLife(handLife)
	address, err := h.startFakesnow(ctx)
	if err != nil {
		return err
	}
	h.account, err = standin.StartSnowflake(standin.SnowflakeConfig{IssuerURL: h.issuer.URL(), Subject: production,
		Next: &url.URL{Scheme: "http", Host: address}, Takes: h.takes})
	if err != nil {
		return err
	}
	h.atEnd = append(h.atEnd, h.account.Close)
	say("issuer %s, account %s; the model step_%d takes until the first token has expired",
		h.issuer.URL(), h.account.URL(), chained)
	say("the account checks signature, issuer, subject, audience and expiry of the ID token at each login;")
	say("fakesnow runs the statements")
	return nil
}

// takes makes the last of the models that follow one another take until the
// token of the last login has expired.
func (h *handmade) takes(sql string) time.Duration {
	logins := h.account.Logins()
	if len(logins) == 0 || !strings.Contains(sql, "/* slow */") {
		return 0
	}
	return max(0, time.Until(logins[len(logins)-1].Expiry)) + 2*time.Second
}

func (h *handmade) startFakesnow(ctx context.Context) (address string, err error) {
	free, err := standin.Port()
	if err != nil {
		return "", err
	}
	port := fmt.Sprint(free)
	address = net.JoinHostPort("127.0.0.1", port)
	server := exec.CommandContext(ctx, h.python.Program("python"), "-m", "uvicorn", "--log-level", "error",
		"--host", "127.0.0.1", "--port", port, "fakesnow.server:app")
	server.Env = h.python.Environ()
	if err := server.Start(); err != nil {
		return "", fmt.Errorf("start fakesnow: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	h.atEnd = append(h.atEnd, func() { _ = server.Process.Kill(); <-ended })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return address, conn.Close()
		}
		select {
		case err := <-ended:
			ended <- err
			return "", fmt.Errorf("fakesnow ended: %w", err)
		default:
		}
		if time.Now().After(deadline) {
			return "", errors.New("fakesnow does not answer")
		}
	}
}

// threeLines is what people write.
const threeLines = `- run: |
    token=$(curl -sSf -H "Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
      "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=snowflakecomputing.com" | jq -r .value)
    echo "::add-mask::$token"
    DBT_ENV_SECRET_TOKEN=$token dbt build`

func (h *handmade) withoutAction(ctx context.Context) error {
	j, err := h.checkout("by-hand")
	if err != nil {
		return err
	}
	quote(threeLines)
	token, err := h.requestToken(ctx)
	if err != nil {
		return err
	}
	j.masks = append(j.masks, token)
	env := h.dbtEnv()
	env["DBT_ENV_SECRET_TOKEN"] = token
	env["DBT_PROFILES_DIR"] = j.workspace()
	env["SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES"] = "127.0.0.1" // the connector sends its token to Snowflake's hosts only
	build, shown, err := j.step(ctx, nil, env, h.python.Program("dbt"), "build", "--no-use-colors")
	if err != nil {
		return err
	}
	quote(shown)
	logins := h.account.Logins()
	states, err := h.models(j)
	if err != nil {
		return err
	}
	h.showLogins(logins)
	say("dbt's exit status is %d: of %d models %d were built, %d failed, %d were skipped.", build.Status,
		chained+wide, states["success"], states["error"], states["skipped"])
	say("A thread that logs in before the token expires keeps its session; one that gets its first model")
	say("later is refused. Which models fail depends on which thread gets them and on how fast the warehouse")
	say("is: another run fails elsewhere, or not at all.")
	return errors.Join(
		expect("dbt failed", build.Status != 0, true),
		expect("some models were built", states["success"] > 0, true),
		expect("some models failed", states["error"] > 0, true),
		expect("the first login was accepted", logins[0].Err == nil, true),
		expect("some logins were refused", refused(logins) > 0, true),
		expect("the reason is in dbt's output", strings.Contains(shown, "the ID token has expired"), true),
	)
}

// requestToken does what the first line of the step does.
func (h *handmade) requestToken(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.issuer.RequestURL()+"&audience="+handAud, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+h.issuer.RequestToken())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var in struct{ Value string }
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&in)
	return in.Value, err
}

func (h *handmade) withAction(ctx context.Context) error {
	j, err := h.checkout("action")
	if err != nil {
		return err
	}
	before := len(h.account.Logins())
	h.issuer.SetLife(handLife / 2) // how long dbt takes to start no longer matters
	env := h.dbtEnv()
	maps.Copy(env, h.issuer.RunnerEnv())
	say("oidc-dbt exec --target prod -- dbt build; ID tokens now live %s", handLife/2)
	build, shown, err := j.step(ctx, nil, env, h.binary,
		"exec", "--target", "prod", "--", h.python.Program("dbt"), "build", "--no-use-colors")
	if err != nil {
		return err
	}
	quote(shown)
	logins := h.account.Logins()[before:]
	h.showLogins(logins)
	states, err := h.models(j)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, l := range logins {
		used[l.Token] = true
	}
	leaked := slices.ContainsFunc(h.issuer.Issued(), func(token string) bool { return strings.Contains(shown, token) })
	say("dbt's exit status is %d: all %d models were built, with %d ID tokens, each verified and authorised again.",
		build.Status, states["success"], len(used))
	return errors.Join(
		expect("dbt's exit status", build.Status, 0),
		expect("models that were built", states["success"], chained+wide),
		expect("logins that were refused", refused(logins), 0),
		expect("several ID tokens were used", len(used) > 1, true),
		expect("a token is in dbt's output", leaked, false),
	)
}

func refused(logins []standin.Attempt) (count int) {
	for _, l := range logins {
		if l.Err != nil {
			count++
		}
	}
	return count
}

// showLogins prints when dbt logged in, against the expiry of the token that it used.
func (h *handmade) showLogins(logins []standin.Attempt) {
	say("what the account says of dbt's logins:")
	for _, l := range logins {
		verdict := "accepted"
		if l.Err != nil {
			verdict = "refused: " + l.Err.Error()
		}
		left := l.Expiry.Sub(l.At).Round(100 * time.Millisecond)
		quote(fmt.Sprintf("%5.1f s after the first: %s (the token had %s left)", l.At.Sub(logins[0].At).Seconds(), verdict, left))
	}
}

// dbtEnv is what dbt needs of the machine.
func (h *handmade) dbtEnv() map[string]string {
	return map[string]string{"HOME": h.python.Home, "USERPROFILE": h.python.Home,
		"PATH": h.python.Bin + string(os.PathListSeparator) + os.Getenv("PATH")}
}

// models counts the models of a run by what became of them.
func (h *handmade) models(j *job) (map[string]int, error) {
	text, err := os.ReadFile(filepath.Join(j.workspace(), "target", "run_results.json"))
	if err != nil {
		return nil, err
	}
	var in struct {
		Results []struct{ Status string } `json:"results"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	states := map[string]int{}
	for _, r := range in.Results {
		states[r.Status]++
	}
	return states, nil
}

// checkout writes a project whose models follow one another at first, so that
// only some of the threads log in early.
func (h *handmade) checkout(name string) (*job, error) {
	j := &job{dir: filepath.Join(h.root, name)}
	account, err := url.Parse(h.account.URL())
	if err != nil {
		return nil, err
	}
	output := fmt.Sprintf("type: snowflake, account: acme-prod, host: 127.0.0.1, port: %s, protocol: http, user: DBT_PROD, "+
		"role: TRANSFORMER, database: ANALYTICS, warehouse: W, schema: marts, threads: %d", account.Port(), threads)
	files := map[string]string{
		"dbt_project.yml": "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n" +
			"models: {+materialized: table}\n",
		"profiles.yml": "shop:\n  target: prod\n  outputs:\n    prod: {" + output +
			", authenticator: workload_identity, workload_identity_provider: OIDC, token: \"{{ env_var('DBT_ENV_SECRET_TOKEN') }}\"}\n",
		".github/oidc-dbt.yml": fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    dbt: {%s}\n"+
			"    exchange:\n      oidc: {audience: %s}\n    allow:\n      - {repository: acme/analytics, repository_id: \"487920697\", "+
			"environment: production, ref: refs/heads/main}\n", h.issuer.URL(), output, handAud),
		"models/step_1.sql": "select 1 as id\n",
	}
	for i := 2; i <= chained; i++ {
		files[fmt.Sprintf("models/step_%d.sql", i)] = fmt.Sprintf("select * from {{ ref('step_%d') }}\n", i-1)
	}
	files[fmt.Sprintf("models/step_%d.sql", chained)] += "/* slow */\n"
	for i := range wide {
		files[fmt.Sprintf("models/mart_%d.sql", i+1)] = fmt.Sprintf("select * from {{ ref('step_%d') }}\n", chained)
	}
	for path, text := range files {
		to := filepath.Join(j.workspace(), filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), 0o600)); err != nil {
			return nil, err
		}
	}
	return j, os.MkdirAll(j.temp(), 0o755)
}
