package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// A witness keeps what a guard has recorded, and denies what has the word "drop".
type witness struct {
	mu      sync.Mutex
	entries []guard.Entry
}

func (w *witness) record(e guard.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, e)
	if strings.Contains(e.Text, "drop") {
		return errors.New("no drop")
	}
	return nil
}

// recorded returns the entries so far: sessions that end may still add to them.
func (w *witness) recorded() []guard.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.entries)
}

// texts returns what was decided on, or why it was no text.
func (w *witness) texts() (texts []string) {
	for _, e := range w.recorded() {
		if e.SHA256 == "" {
			texts = append(texts, "? "+e.Verdict.Why)
		} else {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// guards has a broker ask a guard, of which a witness keeps the records.
func guards(w *witness, d statement.Dialect, level guard.Level) func(*broker.Config) {
	config := guard.Config{Dialect: d, Statements: level, Where: `target "prod"`, Text: true, Record: w.record}
	return func(c *broker.Config) { c.Guard = guard.New(config) }
}

const noDrop = `not recorded, and so not allowed by the guard of target "prod": no drop`

// TestPostgresGuard: what the guard denies never reaches the server, whose
// session ends; the client is told why.
func TestPostgresGuard(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{nil, {"127.0.0.1"}} {
		t.Run(fmt.Sprint("TLS ", names != nil), func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, cleartext, names...)
			w := &witness{}
			b := start(t, pgRoute(server), pgCredential, guards(w, statement.Postgres, guard.Any))
			conn, err := pgConnect(t, b, "")
			if err != nil {
				t.Fatal(err)
			}
			if rows := pgQuery(t, conn, "rows 100000")[0].Rows; len(rows) != 100_000 {
				t.Errorf("%d rows", len(rows))
			}
			large := strings.Repeat("x", 10_000_000)
			if tag, err := conn.CopyFrom(t.Context(), strings.NewReader(large), "copy in"); err != nil || tag.String() != "COPY 10000000" {
				t.Errorf("copy in: %s, %v", tag, err)
			}
			_, err = conn.Exec(t.Context(), "drop table marked_text").ReadAll()
			if got, want := pgError(err), "FATAL 42501: oidc-dbt: "+noDrop; got != want {
				t.Errorf("error is %s, want %s", got, want)
			}
			if diff := cmp.Diff([]string{"rows 100000", "copy in", "drop table marked_text"}, w.texts()); diff != "" {
				t.Errorf("decided on (-want +got)\n%s", diff)
			}
			for _, e := range w.recorded() {
				if e.Session != fmt.Sprint(conn.PID()) {
					t.Errorf("the session is %q, want %d", e.Session, conn.PID())
				}
			}
			if _, err := pgConnect(t, b, ""); err != nil {
				t.Errorf("the next session: %v", err)
			}
		})
	}
}

// TestPostgresGuardWhileTheServerWorks: a denial cancels what was sent before it.
func TestPostgresGuardWhileTheServerWorks(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, cleartext, "127.0.0.1")
	b := start(t, pgRoute(server), pgCredential, guards(&witness{}, statement.Postgres, guard.Any))
	conn, err := pgConnect(t, b, "")
	if err != nil {
		t.Fatal(err)
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer hijacked.Conn.Close()
	hijacked.Frontend.SendQuery(&pgproto3.Query{String: "sleep"})
	if err := hijacked.Frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	<-server.began
	hijacked.Frontend.SendQuery(&pgproto3.Query{String: "drop"})
	if err := hijacked.Frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	var last string
	for {
		m, err := hijacked.Frontend.Receive()
		if err != nil {
			break
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			last = e.Code + " " + e.Message
		}
	}
	if want := "42501 oidc-dbt: " + noDrop; last != want {
		t.Errorf("the last error is %q, want %q", last, want)
	}
	server.expect(t, "1 cancelled, 1 ends")
}

// TestPostgresGuardStartup: settings of the start-up are decided on as SET is,
// and a guard that only lets read has the server hold the session to that.
func TestPostgresGuardStartup(t *testing.T) {
	t.Parallel()
	const refused = `FATAL 42501: oidc-dbt: not allowed by the guard of target "prod": the message cannot be forwarded (%s) (see docs/guardrails.md)`
	const option = "an option of the start-up that is not understood"
	for _, tt := range []struct {
		name, parameters string
		level            guard.Level
		dialect          statement.Dialect
		texts            []string
		readOnly         string
		err              string
	}{
		{name: "none", level: guard.Any, dialect: statement.Postgres},
		{name: "read", level: guard.Read, dialect: statement.Postgres, readOnly: "on"},
		{name: "read at Redshift", level: guard.Read, dialect: statement.Redshift},
		{name: "harmless ones", parameters: "application_name=x TimeZone=UTC client_protocol_version=2 driver_version=2.1 driver_discovery_version=1 os_version=linux client_encoding=UTF8 options='-c datestyle=ISO'", level: guard.Read, dialect: statement.Postgres, readOnly: "on"},
		{name: "settings", parameters: `search_path=a statement_timeout=1s`, level: guard.Any, dialect: statement.Postgres, texts: []string{"SET search_path TO 'a'", "SET statement_timeout TO '1s'"}},
		{name: "a quote", parameters: `search_path='a\'b'`, level: guard.Any, dialect: statement.Postgres, texts: []string{"SET search_path TO 'a''b'"}},
		{name: "options", parameters: `options='-c search_path=a,b --statement-timeout=1s -crole=admin'`, level: guard.Any, dialect: statement.Postgres, texts: []string{"SET search_path TO 'a,b'", "SET statement_timeout TO '1s'", "SET role TO 'admin'"}},
		{name: "denied", parameters: "role=drop", level: guard.Any, dialect: statement.Postgres, texts: []string{"SET role TO 'drop'"}, err: "FATAL 42501: oidc-dbt: " + noDrop},
		{name: "replication", parameters: "replication=database", level: guard.Any, dialect: statement.Postgres, texts: []string{"? a connection for replication"}},
		{name: "another option", parameters: "options='-f s'", level: guard.Any, dialect: statement.Postgres, texts: []string{"? " + option}, err: fmt.Sprintf(refused, option)},
		{name: "an option without a value", parameters: "options='-c'", level: guard.Any, dialect: statement.Postgres, texts: []string{"? " + option}, err: fmt.Sprintf(refused, option)},
		{name: "a name that is none", parameters: "options='-c a;b=c'", level: guard.Any, dialect: statement.Postgres, texts: []string{"? a start-up parameter that is not understood"}, err: fmt.Sprintf(refused, "a start-up parameter that is not understood")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, cleartext, "127.0.0.1")
			w := &witness{}
			b := start(t, pgRoute(server), pgCredential, guards(w, tt.dialect, tt.level))
			_, err := pgConnect(t, b, tt.parameters)
			if got := pgError(err); got != tt.err && (tt.err != "" || err != nil) {
				t.Errorf("error is %s, want %s", got, tt.err)
			}
			if diff := cmp.Diff(tt.texts, w.texts()); diff != "" {
				t.Errorf("decided on (-want +got)\n%s", diff)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			for s := range maps.Values(server.sessions) {
				if got := s.startup.Parameters["default_transaction_read_only"]; got != tt.readOnly {
					t.Errorf("the server got %q, want %q", got, tt.readOnly)
				}
			}
			if tt.err != "" && len(server.sessions) > 0 {
				t.Error("there is a session")
			}
		})
	}
}

// TestPostgresGuardReadOnly: nothing that a client asks for at its start undoes
// the server's own read-only mode.
func TestPostgresGuardReadOnly(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, cleartext, "127.0.0.1")
	b := start(t, pgRoute(server), pgCredential, guards(&witness{}, statement.Postgres, guard.Read))
	for _, parameters := range []string{
		"default_transaction_read_only=off", "Default_Transaction_Read_Only=off", "options='-c default_transaction_read_only=off'",
		"options=-cDEFAULT_TRANSACTION_READ_ONLY=off", "options=--default-transaction-read-only=0", "transaction_read_only=off",
	} {
		if _, err := pgConnect(t, b, parameters); !strings.HasPrefix(pgError(err), `FATAL 42501: oidc-dbt: not allowed by the guard of target "prod": `) {
			t.Errorf("%s: %v", parameters, err)
		}
	}
	if server.arrivals() > 0 {
		t.Error("the server was asked")
	}
}

// TestPostgresGuardManySessions: as many as dbt may have, at once.
func TestPostgresGuardManySessions(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, cleartext, "127.0.0.1")
	w := &witness{}
	b := start(t, pgRoute(server), pgCredential, guards(w, statement.Postgres, guard.Any))
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			conn, err := pgConnect(t, b, "")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			for range 20 {
				if _, err := conn.Exec(t.Context(), "rows 100 "+strings.Repeat("x", i*100)).ReadAll(); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := conn.Exec(t.Context(), "drop").ReadAll(); pgError(err) != "FATAL 42501: oidc-dbt: "+noDrop {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.recorded()); n != 64*21 {
		t.Errorf("%d messages were decided on, want %d", n, 64*21)
	}
}

// TestGuardlessRoute: a route that asks no guard must not be given one.
func TestGuardlessRoute(t *testing.T) {
	t.Parallel()
	_, err := broker.Start(broker.Config{Target: t.Name(), Route: route.Route{Kind: route.AWSContainer}, Guard: guard.New(guard.Config{}), Now: time.Now})
	if want := `start broker: route "aws_container" has no guard`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestPostgresHalt: what runs is cancelled, sessions end with the reason, and
// nothing begins any more.
func TestPostgresHalt(t *testing.T) {
	t.Parallel()
	server, b, conns, ends := asleep(t, []string{"127.0.0.1"})
	b.Halt(errors.New("the run was ended: too many denials"))
	server.expect(t, "7 cancelled, 7 ends")
	const want = "FATAL 57P01: oidc-dbt: the run was ended: too many denials"
	for range sleepers - 1 {
		if got := pgError(<-ends); got != "ERROR 57014: canceling statement due to user request" {
			t.Errorf("a client is told %s", got)
		}
	}
	for _, conn := range conns {
		if err := halted(conn); err != want {
			t.Errorf("the next statement ends with %s, want %s", err, want)
		}
	}
	for range 2 {
		if _, err := pgConnect(t, b, ""); pgError(err) != want {
			t.Errorf("a login ends with %v, want %s", err, want)
		}
		b.Halt(errors.New("again"))
	}
}

func halted(conn *pgconn.PgConn) string {
	_, err := conn.Exec(context.Background(), "who").ReadAll()
	return pgError(err)
}
