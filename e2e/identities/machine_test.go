//go:build e2e && linux && amd64

package identities

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A machine is where a job of one system runs, or a person works: a checkout, a home, and a network in which the
// system's public names lead to its stand-in.
type machine struct {
	t         *testing.T
	row       row
	issuer    *standin.Issuer
	url       string          // the issuer, as its tokens and the policy have it
	audience  string          // which the warehouse's side accepts
	exchanges func() int      // how many tokens the warehouse's side has been shown
	sessions  func() []string // the names of what it has given
	people    *standin.People // the issuer of people
	account   *standin.STS    // of AWS, which the machine has a role in
	workspace string
	home      string // what outlives a job: state, programs, files outside the checkout
	command   string
	env       []string
	now       map[string]any    // the claims of the run
	after     []func()          // what ends with the run
	places    map[string]string // folders of the machine's own file system, by where the job sees them
}

// newMachine lays a machine out by the row's page.
func newMachine(t *testing.T, r row) *machine {
	t.Helper()
	m := &machine{t: t, row: r, workspace: t.TempDir(), home: t.TempDir(), places: map[string]string{}}
	policy := r.policy
	m.command = "oidc-dbt exec --target prod -- dbt build"
	if r.page != "" {
		page := readPage(t, r.page)
		policy = page.block(t, "version: 1\nidentities:", "\n  "+r.identity+":")
		m.command = page.command(m.command)
	}
	if r.command != "" {
		m.command = r.command
	}
	issuer, err := standin.StartIssuer(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	m.issuer = issuer
	document := decode[map[string]any](t, policy)
	if m.url = issuerOf(document, r.identity); r.issuer != nil {
		m.url = r.issuer(m)
		document["identities"].(map[string]any)[r.identity].(map[string]any)["issuer"] = m.url
	}
	network := m.network()
	if r.settle != nil {
		r.settle(m, document)
	} else {
		m.settle(document, network)
	}
	m.programs()
	m.checkout(policyText(t, document))
	m.env = append(setup.Python(t).Environ(), "PATH="+filepath.Join(m.home, "bin")+":"+os.Getenv("PATH"),
		"XDG_STATE_HOME="+filepath.Join(m.home, "state"), "NO_COLOR=1", "HTTPS_PROXY="+network.proxy,
		"SSL_CERT_FILE="+network.ca)
	return m
}

// settle has each target of the policy build on DuckDB over the stand-in's store, with a role of the stand-in's STS;
// identities and rules stay as they are. The audience stays, too.
func (m *machine) settle(document map[string]any, n network) {
	m.t.Helper()
	roles, subject := map[string]standin.Role{}, decode[map[string]any](m.t, m.row.claims)["sub"].(string)
	exchanges := map[string]map[string]any{}
	for name, v := range document["targets"].(map[string]any) {
		target := v.(map[string]any)
		aws := map[string]any{"region": "eu-central-1", "role": setup.Role}
		for provider, keys := range target["exchange"].(map[string]any) {
			keys := keys.(map[string]any)
			if provider == "aws" {
				maps.Copy(aws, keys)
			} else {
				aws["audience"] = keys["audience"]
			}
		}
		if aws["audience"] == nil {
			aws["audience"] = "sts.amazonaws.com"
		}
		m.audience = aws["audience"].(string)
		roles[aws["role"].(string)] = standin.Role{Audience: m.audience, Equals: map[string][]string{"sub": {subject}}}
		exchanges[name] = aws
		target["exchange"] = map[string]any{"aws": aws}
	}
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: m.url, Life: m.row.life, Roles: roles, HTTP: n.client})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(sts.Close)
	if m.row.life > 0 {
		sts.SetGrace(standin.Grace)
	}
	m.exchanges = func() int { return sts.Requests("AssumeRoleWithWebIdentity") }
	m.sessions = func() (names []string) {
		for _, s := range sts.Sessions() {
			names = append(names, s.SessionARN[strings.LastIndex(s.SessionARN, "/")+1:])
		}
		return names
	}
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(store.Close)
	for name, v := range document["targets"].(map[string]any) {
		exchanges[name]["endpoint"] = sts.URL()
		v.(map[string]any)["dbt"] = map[string]any{"type": "duckdb", "path": ":memory:", "schema": "main",
			"secrets": []any{map[string]any{"type": "s3", "endpoint": store.Host(), "url_style": "path", "use_ssl": false}}}
	}
}

// programs puts the commands of a job on its path. dbt notes the environment that it has got.
func (m *machine) programs() {
	m.t.Helper()
	bin := filepath.Join(m.home, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		m.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	for name, to := range map[string]string{"oidc-dbt": setup.Binary(m.t), "circleci": self, "oz": self} {
		if err := os.Symlink(to, filepath.Join(bin, name)); err != nil {
			m.t.Fatal(err)
		}
	}
	// DuckDB would take the proxy for the store, too.
	script := fmt.Sprintf("#!/bin/sh\nenv >%q\nunset HTTPS_PROXY SSL_CERT_FILE\nexec %q \"$@\"\n",
		m.witness(), setup.Python(m.t).Program("dbt"))
	if err := os.WriteFile(filepath.Join(bin, "dbt"), []byte(script), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) witness() string { return filepath.Join(m.home, "environment") }

// project is a dbt project, which leaves its result in the store or in the database.
func project(store bool) map[string]string {
	files := map[string]string{
		"dbt_project.yml":      "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
		"seeds/raw_orders.csv": "order_id,amount\n1,10\n2,32\n",
		"models/orders.sql":    "select * from {{ ref('raw_orders') }}\n",
		"models/read_back.sql": "select sum(amount) as total from {{ ref('orders') }}\n",
	}
	if store {
		files["models/orders.sql"] = "{{ config(materialized='external', location='s3://lake/orders.parquet') }}\n" +
			files["models/orders.sql"]
		files["models/read_back.sql"] = "-- depends_on: {{ ref('orders') }}\n" +
			"select sum(amount) as total from read_parquet('s3://lake/orders.parquet')\n"
	}
	return files
}

var policyFlag = regexp.MustCompile(`--policy (/\S+)`)

// checkout writes the project, and the policy to where the command expects it.
func (m *machine) checkout(policy string) {
	m.t.Helper()
	for name, text := range project(m.row.settle == nil) {
		setup.Write(m.t, m.workspace, name, text)
	}
	if flag := policyFlag.FindStringSubmatch(m.command); flag != nil {
		outside := filepath.Join(m.home, "policy")
		setup.Write(m.t, outside, filepath.Base(flag[1]), policy)
		m.places[filepath.Dir(flag[1])] = outside
		return
	}
	setup.Write(m.t, m.workspace, ".github/oidc-dbt.yml", policy)
}

// run runs the command of the page as a job of the system does.
func (m *machine) run(claims map[string]any) (out string, status int) {
	m.t.Helper()
	claims = maps.Clone(claims)
	claims["iss"] = m.url
	m.now = claims
	m.issuer.SetClaims(claims)
	_ = os.Remove(m.witness())
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Minute)
	defer cancel()
	env := slices.Concat(m.env, m.row.system(m))
	cmd := exec.CommandContext(ctx, "sh", "-c", m.command)
	if len(m.places) > 0 {
		cmd = exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", elsewhere, "sh",
			m.t.TempDir(), m.workspace, m.command)
		for place, folder := range m.places {
			cmd.Args = append(cmd.Args, place, folder)
		}
	}
	cmd.Dir, cmd.Env = m.workspace, env
	text, err := cmd.CombinedOutput()
	for _, end := range m.after {
		end()
	}
	m.after = nil
	if cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	setup.NoSecrets(m.t, m.issuer, "what was printed", string(text))
	return string(text), cmd.ProcessState.ExitCode()
}

// elsewhere runs a command in a file system with further folders, each of them another folder of this machine. Only
// this command sees them.
const elsewhere = `
root=$1 workspace=$2 command=$3
shift 3
# mirror makes what is in a folder visible in an empty one.
mirror() {
  for entry in "$1"/* "$1"/.[!.]*; do
    to=$2/${entry##*/}
    if [ -L "$entry" ]; then cp -P "$entry" "$to"
    elif [ -d "$entry" ]; then mkdir "$to"; mount --rbind "$entry" "$to"
    elif [ -f "$entry" ]; then : >"$to"; mount --bind "$entry" "$to"
    fi
  done
}
mount -t tmpfs tmpfs "$root"
mirror "" "$root"
own=' '
while [ $# -gt 0 ]; do
  place=$1 folder=$2 at=
  shift 2
  for part in $(echo "$place" | tr / ' '); do
    at=$at/$part
    case $own in *" $at "*) continue ;; esac
    own="$own$at "
    if [ ! -d "$root$at" ]; then mkdir "$root$at"
    else mount -t tmpfs tmpfs "$root$at"; mirror "$at" "$root$at"
    fi
  done
  mount --bind "$folder" "$root$place"
done
exec chroot "$root" sh -c 'cd "$0" && exec sh -c "$1"' "$workspace" "$command"
`

// A record is what the tests look at in a line of the audit log.
type record struct {
	StatusID int `json:"status_id"`
	Actor    struct {
		User *struct{ Name, UID, Type string }
	}
	User     struct{ Name string }
	Unmapped struct {
		Decision, Outcome, Identity, Kind string
		ActorKind                         string `json:"actor_kind"`
		ActorSource                       string `json:"actor_kind_source"`
		Claims                            map[string]string
	}
}

// records reads the audit log.
func (m *machine) records() (list []record) {
	m.t.Helper()
	file, err := os.Open(filepath.Join(m.home, "state", "oidc-dbt", "audit.jsonl"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			m.t.Fatal(err)
		}
		setup.NoSecrets(m.t, m.issuer, "the audit log", lines.Text())
		list = append(list, r)
	}
	return list
}

// decode reads a YAML document.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := yaml.Load([]byte(strings.ReplaceAll(text, "\t", " ")), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

func policyText(t *testing.T, document map[string]any) string {
	t.Helper()
	var text bytes.Buffer
	if err := yaml.NewEncoder(&text).Encode(document); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
