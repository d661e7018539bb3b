// Package guard decides which SQL may go on to a warehouse, and records it before it does.
//
// It knows classes of statements, not tables, users or text: package statement
// says what a message may do at most. What is not wholly of admitted classes is
// denied. The warehouse's role remains the boundary: an admitted statement may
// call functions that do anything that the role may do.
package guard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// Level is how much a guard admits without naming classes.
type Level string

// The levels, from the strictest.
const (
	Read  Level = "read"  // read and session
	Build Level = "build" // what dbt itself sends to build: read, session, write and define
	Any   Level = "any"   // everything; the guard only records
)

// Levels are all levels, from the strictest.
var Levels = []Level{Read, Build, Any}

// Classes returns what a level admits; nothing for a level that is unknown.
func (l Level) Classes() []statement.Class {
	switch l {
	case Read:
		return []statement.Class{statement.Read, statement.Session}
	case Build:
		return []statement.Class{statement.Read, statement.Session, statement.Write, statement.Define}
	case Any:
		return slices.Clone(classes)
	}
	return nil
}

// classes are all classes, from the least to the worst.
var classes = []statement.Class{
	statement.Read, statement.Session, statement.Write, statement.Define, statement.Grant, statement.Run,
	statement.Admin, statement.Unknown,
}

// Classes returns all classes, from the least to the worst.
func Classes() []statement.Class { return slices.Clone(classes) }

// Config is what a guard holds.
type Config struct {
	Dialect    statement.Dialect
	Statements Level
	Also       []statement.Class // admitted in addition
	Limits     Limits
	Roles      []string // that the policy gives its output, by RoleName; of Trino each as CATALOG=ROLE
	Users      []string // likewise, where a request names its user: Trino
	Observe    bool     // what would be denied goes on, and is recorded as such
	StopAfter  int      // denials that end the run; 0 for never
	Where      string   // who denies, for the message: `target "prod", rule 2 (.github/oidc-dbt.yml:14)`
	Text       bool     // entries have the text
	// Now gives entries their time; nil leaves that to Record.
	Now func() time.Time
	// Record is called before a message goes on, also by several sessions at
	// once. An error denies the message: what is not recorded does not pass.
	Record func(Entry) error
	Stop   func() // is called once, before the denial is returned that is the StopAfter-th; it must not wait
}

// The decisions of an Entry.
const (
	Allowed  = "allowed"
	Denied   = "denied"
	Observed = "observed" // denied, except that the guard only observes
)

// An Entry is the record of one message.
type Entry struct {
	Time     time.Time
	Session  string
	Verdict  statement.Verdict
	Length   int    // in bytes
	SHA256   string // of the text in hex; "" for what was not read as text
	Decision string // Allowed, Denied, Observed
	Why      string // what the guard has against the message, or did not understand of it; without its text
	Text     string // "" unless the guard's configuration asks for it
}

// A Denial is why a message does not go on. It holds no text of the message.
type Denial struct{ message string }

// Error returns one line.
func (d *Denial) Error() string { return d.message }

// A Guard decides on the messages of one run's sessions. Its methods may be
// called by several at once.
type Guard struct {
	config   Config
	admitted []statement.Class
	settings []Setting // that hold the limits
	readOnly bool
	denials  atomic.Int64
	observed atomic.Int64
	stop     sync.Once
}

// New returns a guard. A level that is unknown admits nothing.
func New(c Config) *Guard {
	g := &Guard{config: c, admitted: slices.Concat(c.Statements.Classes(), c.Also), settings: settingsOf(c.Dialect, c.Limits)}
	g.readOnly = c.Statements == Read
	for _, class := range []statement.Class{statement.Write, statement.Define, statement.Grant} {
		g.readOnly = g.readOnly && !slices.Contains(c.Also, class)
	}
	return g
}

// Dialect returns the SQL that the guard reads.
func (g *Guard) Dialect() statement.Dialect { return g.config.Dialect }

// ReadOnly reports whether the server is to hold the sessions to reading, too.
// It is false for a nil guard.
func (g *Guard) ReadOnly() bool { return g != nil && g.readOnly && !g.config.Observe }

// Check decides on one message, whose text is whole. The error is a *Denial.
func (g *Guard) Check(session, text string) error {
	v := statement.Classify(g.config.Dialect, text)
	if g.chooses(v, text) {
		v.Class = statement.Session
	}
	sum := sha256.Sum256([]byte(text))
	e := Entry{Session: session, Verdict: v, Length: len(text), SHA256: hex.EncodeToString(sum[:])}
	if g.config.Text {
		e.Text = text
	}
	return g.decide(e, g.objection(v), true)
}

// Refuse decides on what cannot be read as SQL at all, such as a frame, an
// encoding or a length that is not supported; why says so, without any text of
// the message. It goes on only if it is passable and the guard observes, or
// admits what is unknown. The error is a *Denial.
func (g *Guard) Refuse(session, why string, length int, passable bool) error {
	v := statement.Verdict{Class: statement.Unknown, Statements: 1, Why: why}
	o := g.objection(v)
	if !passable && o == (objection{}) {
		o.why = fmt.Sprintf("the message cannot be forwarded (%s)", why)
	}
	return g.decide(Entry{Session: session, Verdict: v, Length: length}, o, passable)
}

// An objection is what a guard has against a message. The zero objection is none.
type objection struct{ place, why string }

func (o objection) String() string { return strings.TrimSpace(o.place + " " + o.why) }

// reason is the objection as a record has it, next to the statement's keywords.
func (o objection) reason() string { return strings.TrimPrefix(o.why, "is of ") }

// objection says what the guard has against a message.
func (g *Guard) objection(v statement.Verdict) objection {
	if !slices.Contains(g.admitted, v.Class) {
		return objection{place(v), fmt.Sprintf("is of class %s%s, and %s", v.Class, because(v), g.admits())}
	}
	// Class is only the worst: what is admitted by name may hide a class below
	// it that is not.
	for _, class := range classes {
		if v.Besides.Has(class) && !slices.Contains(g.admitted, class) {
			return objection{place(v), fmt.Sprintf("is of class %s, and another part of the message is of class %s, and %s",
				v.Class, class, g.admits())}
		}
	}
	if g.readOnly && v.Undoes != "" {
		return objection{why: v.Undoes + " would end the read-only mode of `statements: read`"}
	}
	if name := g.loosened(v); name != "" {
		return objection{place(v), fmt.Sprintf("changes %s, and the guard's `limits` are fixed", name)}
	}
	return objection{}
}

// place names a statement by its keywords and where it begins.
func place(v statement.Verdict) string {
	head := v.Head
	if head == "" {
		head = "the statement"
	}
	return fmt.Sprintf("%s at byte %d", head, v.Offset)
}

func because(v statement.Verdict) string {
	if v.Why == "" {
		return ""
	}
	return " (" + v.Why + ")"
}

// admits says what the guard admits, in the policy's words.
func (g *Guard) admits() string {
	names := make([]string, len(g.admitted))
	for i, class := range g.admitted {
		names[i] = string(class)
	}
	list := "nothing"
	if last := len(names) - 1; last > 0 {
		list = strings.Join(names[:last], ", ") + " and " + names[last]
	}
	also := ""
	if len(g.config.Also) > 0 {
		also = " with `also`"
	}
	return fmt.Sprintf("`statements: %s`%s admits %s", g.config.Statements, also, list)
}

// decide records what is decided, and counts a denial.
func (g *Guard) decide(e Entry, o objection, passable bool) error {
	if g.stopped() {
		o = objection{why: "the run was ended after " + denials(g.config.StopAfter)}
	}
	switch {
	case o == (objection{}):
		e.Decision, e.Why = Allowed, e.Verdict.Why
	case g.config.Observe && passable:
		e.Decision, e.Why = Observed, o.reason()
	default:
		e.Decision, e.Why = Denied, o.reason()
	}
	if g.config.Now != nil {
		e.Time = g.config.Now()
	}
	if g.config.Record != nil {
		if err := g.config.Record(e); err != nil {
			return &Denial{fmt.Sprintf("not recorded, and so not allowed by the guard of %s: %v", g.config.Where, err)}
		}
	}
	switch e.Decision {
	case Allowed:
		return nil
	case Observed:
		g.observed.Add(1)
		return nil
	}
	g.count()
	return &Denial{fmt.Sprintf("not allowed by the guard of %s: %s (see docs/guardrails.md)", g.config.Where, o)}
}

func denials(n int) string {
	if n == 1 {
		return "1 denial"
	}
	return fmt.Sprintf("%d denials", n)
}

// Observed is how many messages have gone on that would have been denied.
func (g *Guard) Observed() int64 { return g.observed.Load() }

// stopped reports whether there were so many denials that nothing goes on any
// more: what ends the run may take a moment.
func (g *Guard) stopped() bool {
	return !g.config.Observe && g.config.StopAfter > 0 && g.denials.Load() >= int64(g.config.StopAfter)
}

// count counts a denial.
func (g *Guard) count() {
	if g.denials.Add(1); g.stopped() && g.config.Stop != nil {
		g.stop.Do(g.config.Stop)
	}
}
