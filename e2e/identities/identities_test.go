//go:build e2e && linux && amd64

// Package identities builds a dbt project by an identity of each kind, on DuckDB over the stand-in S3, as the pages of
// docs/identities show it: with their policies, commands and parts of jobs' files.
package identities

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A row is a run of one kind of identity.
type row struct {
	name     string
	kind     string
	page     string // of docs/identities: the policy that has the identity, and the command of its job
	identity string // of that policy
	policy   string // where no page has it
	command  string // where the page's is not for this identity
	claims   string // of the run's token, YAML
	stranger string // what differs in a token of the same issuer, of another organisation or project, YAML
	system   func(m *machine) []string
	served   map[string]func(m *machine) http.Handler // further services, by public address
	issuer   func(m *machine) string                  // starts an issuer of its own
	keys     func(m *machine) http.Handler            // serves the keys of a real issuer
	settle   func(m *machine, document map[string]any)
	life     time.Duration // of sessions, so that the run outlives some

	actor    string   // in the audit record: kind by what, name, id
	run      string   // in the audit record: claims, YAML
	session  string   // at the token service
	withheld []string // variables that dbt does not get
}

// TestIdentities: each kind's run builds, is recorded, and is named at the token service; a stranger's with a good
// token of the same issuer is denied before the token service is asked.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, r := range slices.Concat(setup.Few(4, ciSystems...), setup.Few(2, workloads...), setup.Few(2, peopleAndAgents...), setup.Few(1, byOpenBao...)) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			newMachine(t, r).holds()
		})
	}
}

func (m *machine) holds() {
	m.t.Helper()
	m.denied()
	if n := m.exchanges(); n != 0 {
		m.t.Errorf("the warehouse's side has seen %d tokens of a stranger", n)
	}
	m.builds()
	sessions := m.sessions()
	if len(sessions) == 0 || m.row.life > 0 && len(sessions) < 2 {
		m.t.Fatalf("sessions: %q", sessions)
	}
	for _, name := range sessions {
		if m.row.session != "" && name != m.row.session {
			m.t.Errorf("session %q, want %q", name, m.row.session)
		}
	}
}

// denied holds that a stranger of the same issuer gets nothing.
func (m *machine) denied() {
	m.t.Helper()
	claims := decode[map[string]any](m.t, m.row.claims)
	maps.Copy(claims, decode[map[string]any](m.t, m.row.stranger))
	out, status := m.run(claims)
	if status != 5 || !strings.Contains(out, "denied by policy") {
		m.t.Fatalf("a stranger: status %d, want 5\n%s", status, out)
	}
	if _, err := os.Stat(m.witness()); err == nil {
		m.t.Error("the stranger's command has run")
	}
	records := m.records()
	last := records[len(records)-1]
	if last.Unmapped.Decision != "denied" || last.Unmapped.Kind != m.row.kind || last.Unmapped.Identity != m.row.identity {
		m.t.Errorf("the stranger's record is %+v", last)
	}
}

// builds holds that the run builds, what its command gets, and what is recorded.
func (m *machine) builds() {
	m.t.Helper()
	out, status := m.run(decode[map[string]any](m.t, m.row.claims))
	if status != 0 || !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		m.t.Fatalf("status %d\n%s", status, out)
	}
	environment, err := os.ReadFile(m.witness())
	if err != nil {
		m.t.Fatal(err)
	}
	setup.NoSecrets(m.t, m.issuer, "dbt's environment", string(environment))
	for _, name := range m.row.withheld {
		if strings.Contains("\n"+string(environment), "\n"+name+"=") {
			m.t.Errorf("dbt gets %s", name)
		}
	}
	var issued *record
	for _, r := range m.records() {
		if r.Unmapped.Outcome == "issued" {
			issued = &r
		}
	}
	if issued == nil {
		m.t.Fatalf("nothing is recorded as issued: %+v", m.records())
	}
	m.compare(*issued)
}

func (m *machine) compare(r record) {
	m.t.Helper()
	actor := ""
	if r.Unmapped.ActorKind != "" {
		actor = r.Unmapped.ActorKind + " by " + r.Unmapped.ActorSource
	}
	if u := r.Actor.User; u != nil {
		actor += " " + u.Name + " " + u.UID
	}
	want := m.row.actor
	if want == "" {
		want = "user by token"
	}
	if actor != want {
		m.t.Errorf("actor is %q, want %q", actor, want)
	}
	if r.Unmapped.Kind != m.row.kind || r.Unmapped.Identity != m.row.identity || r.User.Name != m.now["sub"] {
		m.t.Errorf("recorded is identity %q of kind %q, subject %q", r.Unmapped.Identity, r.Unmapped.Kind, r.User.Name)
	}
	for name, value := range decode[map[string]string](m.t, m.row.run) {
		if got := r.Unmapped.Claims[name]; got != value {
			m.t.Errorf("claim %s is recorded as %q, want %q", name, got, value)
		}
	}
}
