//go:build e2e && linux

// Package mcp is a person at a terminal with several tools that need the warehouse, and with an agent that gets dbt by
// the Model Context Protocol, as docs/identities/agents.md and docs/guides/terminal.md say.
package mcp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// life is what the token service announces for a session.
const life = 3 * time.Second

// A desk is a person's machine: a clone, a home folder, a login that is kept.
type desk struct {
	t         *testing.T
	home      string
	workspace string
	mark      string // a variable of every process that was started here
	env       []string
	idp       *standin.People
	sts       *standin.STS
	store     *standin.Store
}

// block returns a block of a page that has the text.
func block(t *testing.T, page, language, with string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(b[1], with) {
			return b[1]
		}
	}
	t.Fatalf("%s has no block of %s with %q", page, language, with)
	return ""
}

// sit lays out a clone with a page's policy, whose targets have these roles, and signs the person in.
func sit(t *testing.T, page string, roles ...string) *desk {
	t.Helper()
	d := &desk{t: t, home: t.TempDir(), workspace: t.TempDir(), mark: "OIDC_DBT_TEST_DESK=" + rand.Text()}
	var err error
	d.idp, err = standin.StartPeople(standin.PeopleConfig{ClientID: "dbt-cli", Approves: true,
		Claims: map[string]any{"sub": "00u1ann", "preferred_username": "ann@acme.example"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.idp.Close)
	trust := map[string]standin.Role{}
	for _, name := range roles {
		trust["arn:aws:iam::123456789012:role/"+name] = standin.Role{Audience: "dbt-cli", Claims: map[string][]string{"sub": {"00u1ann"}}}
	}
	d.sts, err = standin.StartSTS(standin.STSConfig{IssuerURL: d.idp.URL(), Life: life, Roles: trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.sts.Close)
	d.sts.SetGrace(standin.Grace)
	if d.store, err = standin.StartStore(d.sts, "lake"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.store.Close)
	d.clone(page)
	d.env = d.environ()
	for _, args := range [][]string{{"approve", "--yes"}, {"login", "--device", "--token-store", "file"}} {
		if out, status := d.run(args...); status != 0 {
			t.Fatalf("%q: status %d\n%s", args, status, out)
		}
	}
	return d
}

// clone writes the page's policy for the servers of the test, and a project.
func (d *desk) clone(page string) {
	d.t.Helper()
	policy := strings.NewReplacer(
		"https://id.acme.example/realms/acme", d.idp.URL(),
		"endpoint: s3.eu-central-1.amazonaws.com", `endpoint: "`+d.gateway()+`", url_style: path, use_ssl: false`,
		"region: eu-central-1", "region: eu-central-1, endpoint: "+d.sts.URL(),
	).Replace(block(d.t, page, "yaml", "kind: people"))
	for name, text := range map[string]string{
		".github/oidc-dbt.yml": policy,
		"dbt_project.yml":      "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
		"seeds/raw_orders.csv": "order_id,amount\n1,10\n2,32\n",
		"models/orders.sql":    "{{ config(materialized='external', location='s3://lake/' ~ target.schema ~ '/orders.parquet') }}\nselect * from {{ ref('raw_orders') }}\n",
		"target/keep/folder":   "",
	} {
		setup.Write(d.t, d.workspace, name, text)
	}
}

// slow adds a chain of models, each of which takes as long as a session lives. config is more of their configuration.
func (d *desk) slow(config string) {
	d.t.Helper()
	before := "orders"
	for _, name := range []string{"slow_1", "slow_2", "slow_3"} {
		setup.Write(d.t, d.workspace, "models/"+name+".sql", "-- depends_on: {{ ref('"+before+"') }}\n"+
			"{{ config(materialized='external', location='s3://lake/"+name+".parquet', "+config+") }}\nselect 42 as answer\n")
		before = name
	}
}

// gateway is the store's address for clients: it takes its time with what is slow.
func (d *desk) gateway() string {
	d.t.Helper()
	to, err := url.Parse(d.store.URL())
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	host, port := setup.Serve(d.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "slow") {
			time.Sleep(life)
		}
		proxy.ServeHTTP(w, r)
	}))
	return fmt.Sprintf("%s:%d", host, port)
}

// environ has the variables that MCP clients pass on, and no others.
func (d *desk) environ() []string {
	d.t.Helper()
	python, bin := setup.Python(d.t), d.t.TempDir()
	for link, to := range map[string]string{
		filepath.Join(d.home, ".duckdb"): filepath.Join(python.Home, ".duckdb"),
		filepath.Join(bin, "oidc-dbt"):   setup.Binary(d.t),
	} {
		if err := os.Symlink(to, link); err != nil {
			d.t.Fatal(err)
		}
	}
	temp := filepath.Join(d.home, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		d.t.Fatal(err)
	}
	return []string{d.mark, "HOME=" + d.home, "TMPDIR=" + temp, "USER=ann", "SHELL=/bin/sh", "TERM=dumb",
		"PATH=" + strings.Join([]string{bin, python.Bin, os.Getenv("PATH")}, ":")}
}

// with puts a folder in front of PATH.
func (d *desk) with(folder string) {
	i := slices.IndexFunc(d.env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	d.env[i] = "PATH=" + folder + ":" + strings.TrimPrefix(d.env[i], "PATH=")
}

// command returns a program of the person's PATH, started in the clone.
func (d *desk) command(env []string, name string, args ...string) *exec.Cmd {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	d.t.Cleanup(cancel)
	// env looks for the program on the PATH that it is given.
	cmd := exec.CommandContext(ctx, "env", slices.Concat([]string{name}, args)...)
	cmd.Dir, cmd.Env = d.workspace, slices.Concat(d.env, env)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs oidc-dbt to its end.
func (d *desk) run(args ...string) (out string, status int) {
	d.t.Helper()
	return d.end(d.command(nil, "oidc-dbt", args...))
}

// end runs a command to its end.
func (d *desk) end(cmd *exec.Cmd) (out string, status int) {
	d.t.Helper()
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// A record is what the tests read of an audit record.
type record struct {
	User struct {
		Name string `json:"name"` // the token's subject
	} `json:"user"`
	Unmapped struct {
		Target    string `json:"target"`
		Identity  string `json:"identity"`
		AgentHint string `json:"agent_hint"`
	} `json:"unmapped"`
}

// audit returns the records that were kept.
func (d *desk) audit() (records []record) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.home, ".local", "state", "oidc-dbt", "audit.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			d.t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// nothingLeft fails the test if a process of the desk runs, or if a temporary file is there.
func (d *desk) nothingLeft() {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		running := d.running()
		if len(running) == 0 {
			break
		}
		if time.Now().After(deadline) {
			d.t.Errorf("processes are left: %q", running)
			return
		}
	}
	files, err := filepath.Glob(filepath.Join(d.home, "tmp", "oidc-dbt*"))
	if err != nil || len(files) > 0 {
		d.t.Errorf("files are left: %q, %v", files, err)
	}
}

// running returns the command lines of the processes that were started here.
func (d *desk) running() (commands []string) {
	d.t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, p := range processes {
		env, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil || !bytes.Contains(env, []byte(d.mark)) {
			continue // it has ended, or is not ours
		}
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err == nil && len(line) > 0 {
			commands = append(commands, strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " "))
		}
	}
	return commands
}

// noSecrets fails the test if a text has a token or a session's key.
func (d *desk) noSecrets(where, text string) {
	d.t.Helper()
	secrets := append(d.idp.Issued(), d.idp.Secrets()...)
	for _, s := range d.sts.Sessions() {
		secrets = append(secrets, s.SecretAccessKey, s.SessionToken)
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			d.t.Errorf("a secret is in %s:\n%s", where, text)
		}
	}
}

// said keeps what a process prints.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
