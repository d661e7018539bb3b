package guard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/quick"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

const where = `target "prod", rule 2 (.github/oidc-dbt.yml:14)`

// decided is one message as a guard decides on it, whatever its text.
func decided(c Config, v statement.Verdict) (entry Entry, err error) {
	c.Where = where
	c.Record = func(e Entry) error { entry = e; return nil }
	g := New(c)
	err = g.decide(Entry{Verdict: v}, g.objection(v), true)
	return entry, err
}

func TestDecision(t *testing.T) {
	t.Parallel()
	admin := []statement.Class{statement.Admin}
	for name, tt := range map[string]struct {
		config  Config
		verdict statement.Verdict
		err     string // "" where the message goes on
	}{
		"read":            {Config{Statements: Read}, statement.Verdict{Class: statement.Read, Statements: 1}, ""},
		"nothing is read": {Config{Statements: Read}, statement.Verdict{Class: statement.Read}, ""},
		"session":         {Config{Statements: Read}, statement.Verdict{Class: statement.Session, Statements: 1}, ""},
		"define under read": {Config{Statements: Read},
			statement.Verdict{Class: statement.Define, Statements: 1, Head: "DROP TABLE"},
			"DROP TABLE at byte 0 is of class define, and `statements: read` admits read and session"},
		"define under build": {Config{Statements: Build}, statement.Verdict{Class: statement.Define, Statements: 3}, ""},
		"grant under build": {Config{Statements: Build},
			statement.Verdict{Class: statement.Grant, Statements: 2, Head: "GRANT", Offset: 17},
			"GRANT at byte 17 is of class grant, and `statements: build` admits read, session, write and define"},
		"grant named": {Config{Statements: Build, Also: []statement.Class{statement.Grant}},
			statement.Verdict{Class: statement.Grant, Statements: 2}, ""},
		"more than what is named": {Config{Statements: Build, Also: []statement.Class{statement.Grant}},
			statement.Verdict{Class: statement.Run, Statements: 1, Head: "CALL"},
			"CALL at byte 0 is of class run, and `statements: build` with `also` admits read, session, write, define and grant"},
		"unknown": {Config{Statements: Build},
			statement.Verdict{Class: statement.Unknown, Statements: 1, Offset: 9, Why: "unterminated string"},
			"the statement at byte 9 is of class unknown (unterminated string), and `statements: build` admits read, session, " +
				"write and define"},
		"unknown under any": {Config{Statements: Any}, statement.Verdict{Class: statement.Unknown, Statements: 1}, ""},
		"a worse class hides another": {Config{Statements: Build, Also: admin},
			statement.Classify(statement.Postgres, "alter system set x = 1; grant a to b"),
			"ALTER SYSTEM at byte 0 is of class admin, and another part of the message is of class grant, " +
				"and `statements: build` with `also` admits read, session, write, define and admin"},
		"a worse class hides a part of its statement": {Config{Statements: Read, Also: []statement.Class{statement.Define}},
			statement.Classify(statement.Postgres, "create table x as with a as (delete from t returning *) select * from a"),
			"CREATE TABLE at byte 0 is of class define, and another part of the message is of class write, " +
				"and `statements: read` with `also` admits read, session and define"},
		"a class that hides nothing": {Config{Statements: Build, Also: admin},
			statement.Classify(statement.Postgres, "alter system set x = 1; drop table t; insert into t values (1)"), ""},
		"read-only undone": {Config{Statements: Read},
			statement.Verdict{Class: statement.Session, Statements: 1, Head: "BEGIN", Undoes: "BEGIN READ WRITE"},
			"BEGIN READ WRITE would end the read-only mode of `statements: read`"},
		"nothing to undo": {Config{Statements: Build},
			statement.Verdict{Class: statement.Session, Statements: 1, Undoes: "BEGIN READ WRITE"}, ""},
		"writing, by name": {Config{Statements: Read, Also: []statement.Class{statement.Write}},
			statement.Verdict{Class: statement.Session, Statements: 1, Undoes: "BEGIN READ WRITE"}, ""},
		"a limit that is fixed": {Config{Dialect: statement.Trino, Statements: Build, Limits: Limits{StatementTimeout: time.Hour}},
			statement.Verdict{Class: statement.Session, Statements: 1, Head: "SET SESSION", Sets: "query_max_run_time"},
			"SET SESSION at byte 0 changes query_max_run_time, and the guard's `limits` are fixed"},
		"a limit that is not given": {Config{Dialect: statement.Trino, Statements: Build, Limits: Limits{StatementTimeout: time.Hour}},
			statement.Verdict{Class: statement.Session, Statements: 1, Sets: "query_max_scan_physical_bytes"}, ""},
		"the other of two": {Config{Dialect: statement.ClickHouse, Statements: Build, Limits: Limits{Scan: 1}},
			statement.Verdict{Class: statement.Read, Statements: 1, Head: "SELECT", Sets: "max_execution_time, max_bytes_to_read"},
			"SELECT at byte 0 changes max_bytes_to_read, and the guard's `limits` are fixed"},
		"what may change any limit": {Config{Dialect: statement.ClickHouse, Statements: Any, Limits: Limits{Scan: 1}},
			statement.Verdict{Class: statement.Admin, Statements: 1, Head: "SET", Sets: "profile"},
			"SET at byte 0 changes profile, and the guard's `limits` are fixed"},
		"no limits": {Config{Dialect: statement.ClickHouse, Statements: Any},
			statement.Verdict{Class: statement.Admin, Statements: 1, Head: "SET", Sets: "profile"}, ""},
		"no level": {Config{}, statement.Verdict{Class: statement.Read, Statements: 1, Head: "SELECT"},
			"SELECT at byte 0 is of class read, and `statements: ` admits nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, decision := "", Allowed
			if tt.err != "" {
				want = "not allowed by the guard of " + where + ": " + tt.err + " (see docs/guardrails.md)"
				decision = Denied
			}
			entry, err := decided(tt.config, tt.verdict)
			var denial *Denial
			if got := message(err); got != want || err != nil && !errors.As(err, &denial) {
				t.Errorf("got %q, want %q", got, want)
			}
			if entry.Decision != decision || (entry.Why == "") != (tt.err == "") || !strings.HasSuffix(tt.err, entry.Why) ||
				strings.Contains(entry.Why, "at byte") {
				t.Errorf("recorded %q (%q), want %q", entry.Decision, entry.Why, decision)
			}
			why := entry.Why
			tt.config.Observe = true
			if entry, err = decided(tt.config, tt.verdict); err != nil {
				t.Errorf("observing: got %v", err)
			}
			if denies := entry.Decision == Observed; denies != (tt.err != "") || entry.Why != why {
				t.Errorf("observing: recorded %q (%q)", entry.Decision, entry.Why)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	const why = "the body is longer than 1 MiB"
	const class = "class unknown (" + why + "), and `statements: build` admits read, session, write and define"
	for name, tt := range map[string]struct {
		config   Config
		passable bool
		decision string
		recorded string
		err      string
	}{
		"enforced":           {Config{Statements: Build}, true, Denied, class, "the statement at byte 0 is of " + class},
		"observed":           {Config{Statements: Build, Observe: true}, true, Observed, class, ""},
		"nothing can go on":  {Config{Statements: Build, Observe: true}, false, Denied, class, "the statement at byte 0 is of " + class},
		"everything goes on": {Config{Statements: Any}, true, Allowed, why, ""},
		"even of everything": {Config{Statements: Any}, false, Denied, "the message cannot be forwarded (" + why + ")",
			"the message cannot be forwarded (" + why + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got Entry
			tt.config.Where, tt.config.Record = where, func(e Entry) error { got = e; return nil }
			want := Entry{Session: "3", Length: 1 << 21, Decision: tt.decision,
				Verdict: statement.Verdict{Class: statement.Unknown, Statements: 1, Why: why}, Why: tt.recorded}
			if tt.err != "" {
				tt.err = "not allowed by the guard of " + where + ": " + tt.err + " (see docs/guardrails.md)"
			}
			if err := New(tt.config).Refuse("3", why, 1<<21, tt.passable); message(err) != tt.err {
				t.Errorf("got %q, want %q", message(err), tt.err)
			}
			if got != want {
				t.Errorf("recorded %+v, want %+v", got, want)
			}
		})
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, text := range []bool{false, true} {
		var got Entry
		g := New(Config{Dialect: statement.Postgres, Statements: Any, Text: text, Now: func() time.Time { return at },
			Record: func(e Entry) error { got = e; return nil }})
		if err := g.Check("7", "select 1"); err != nil {
			t.Fatal(err)
		}
		want := Entry{Time: at, Session: "7", Verdict: statement.Classify(statement.Postgres, "select 1"), Length: 8, Decision: Allowed,
			SHA256: "822ae07d4783158bc1912bb623e5107cc9002d519e1143a9c200ed6ee18b6d0f"}
		if text {
			want.Text = "select 1"
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// TestUnrecorded: what cannot be recorded does not go on, in no mode.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	for _, observe := range []bool{false, true} {
		g := New(Config{Statements: Any, Observe: observe, Where: where, StopAfter: 1,
			Stop:   func() { t.Error("ended for what is no denial of the guard's") },
			Record: func(Entry) error { return errors.New("append audit record: no space left on device") }})
		want := "not recorded, and so not allowed by the guard of " + where + ": append audit record: no space left on device"
		if got := message(g.Check("1", "select 1")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestStop: the guard ends the run once, and nothing goes on after that.
func TestStop(t *testing.T) {
	t.Parallel()
	var stops atomic.Int64
	var decisions sync.Map
	g := New(Config{Statements: Read, StopAfter: 3, Where: where, Stop: func() { stops.Add(1) },
		Record: func(e Entry) error { decisions.Store(e.Session, e.Decision); return nil }})
	read, drop := statement.Verdict{Class: statement.Read}, statement.Verdict{Class: statement.Define, Head: "DROP TABLE"}
	send := func(session string, v statement.Verdict) error {
		return g.decide(Entry{Session: session, Verdict: v}, g.objection(v), true)
	}
	for i := range 2 {
		if send(fmt.Sprint(i), drop) == nil || send("read", read) != nil {
			t.Fatal("the run ended early")
		}
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { _ = send(fmt.Sprint("more ", i), drop) })
	}
	all.Wait()
	want := "not allowed by the guard of " + where + ": the run was ended after 3 denials (see docs/guardrails.md)"
	if got := message(send("late", read)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := stops.Load(); got != 1 {
		t.Errorf("ended %d times, want once", got)
	}
	if got, _ := decisions.Load("late"); got != Denied {
		t.Errorf("recorded %q, want %q", got, Denied)
	}
	observing := New(Config{Statements: Read, StopAfter: 1, Observe: true, Stop: func() { t.Error("an observer ended the run") }})
	for range 3 {
		if err := observing.decide(Entry{}, observing.objection(drop), true); err != nil {
			t.Error(err)
		}
	}
	if got := observing.Observed(); got != 3 {
		t.Errorf("%d are observed, want 3", got)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	var none *Guard
	if none.ReadOnly() {
		t.Error("no guard makes sessions read-only")
	}
	for name, tt := range map[string]struct {
		config Config
		want   bool
	}{
		"read":          {Config{Statements: Read}, true},
		"read and run":  {Config{Statements: Read, Also: []statement.Class{statement.Run}}, true},
		"read or write": {Config{Statements: Read, Also: []statement.Class{statement.Write}}, false},
		"observing":     {Config{Statements: Read, Observe: true}, false},
		"build":         {Config{Statements: Build}, false},
		"any":           {Config{Statements: Any}, false},
	} {
		if got := New(tt.config).ReadOnly(); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestObserveReportsWhatEnforceDenies: on the same messages, of any kind.
func TestObserveReportsWhatEnforceDenies(t *testing.T) {
	t.Parallel()
	same := func(seed uint64) bool {
		random := rand.New(rand.NewPCG(seed, 1))
		c := Config{Dialect: statement.Postgres, Statements: Levels[random.IntN(len(Levels))]}
		for _, class := range Classes() {
			if random.IntN(4) == 0 {
				c.Also = append(c.Also, class)
			}
		}
		messages := make([]func(*Guard) error, 50)
		for i := range messages {
			v := statement.Verdict{Class: classes[random.IntN(len(classes))], Statements: random.IntN(4), Offset: random.IntN(100)}
			if random.IntN(5) == 0 {
				v.Undoes = "BEGIN READ WRITE"
			}
			refused, passable := random.IntN(5) == 0, random.IntN(2) == 0
			messages[i] = func(g *Guard) error {
				session := fmt.Sprint(i)
				if refused {
					return g.Refuse(session, "the frame is malformed", 7, passable)
				}
				return g.decide(Entry{Session: session, Verdict: v}, g.objection(v), true)
			}
		}
		objections := func(observe bool) (found []string) {
			c := c
			c.Observe = observe
			c.Record = func(e Entry) error {
				if e.Decision != Allowed {
					found = append(found, e.Session)
				}
				return nil
			}
			g := New(c)
			for _, send := range messages {
				_ = send(g)
			}
			return found
		}
		return slices.Equal(objections(true), objections(false))
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

// TestDenialsHaveNoText: a literal is data, and a message's text is the user's.
func TestDenialsHaveNoText(t *testing.T) {
	t.Parallel()
	for _, d := range []statement.Dialect{statement.Postgres, statement.Redshift, statement.Snowflake, statement.Trino, statement.ClickHouse} {
		g := New(Config{Dialect: d, Where: where, Record: func(e Entry) error {
			if s := fmt.Sprintf("%+v", e); strings.Contains(strings.ToLower(s), "hunter2") {
				t.Errorf("the entry has the text: %s", s)
			}
			return nil
		}})
		for _, text := range []string{"drop table hunter2", "hunter2", "select 'hunter2", "alter user a password 'hunter2'", `"hunter2"`} {
			if err := g.Check("1", text); err == nil || strings.Contains(strings.ToLower(err.Error()), "hunter2") {
				t.Errorf("%s: %q: got %v", d, text, err)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	text := "create table t as select * from (values " + strings.Repeat("(1, 'text'), ", 70) + "(1, 'text')) as v"
	g := New(Config{Dialect: statement.Postgres, Statements: Build})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_ = g.Check("1", text)
	}
}
