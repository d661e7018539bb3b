package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// maxStatement bounds the SQL text of one message that a guard decides on: dbt
// inserts the rows of a seed by 10,000 in a statement.
const maxStatement = 16 << 20

// atLogin is the session of what a client asks for before it has one.
const atLogin = "login"

// readOnlySetting has a server begin each transaction of a session as one that
// reads. (PostgreSQL: default_transaction_read_only)
const readOnlySetting = "default_transaction_read_only"

// settled are start-up parameters that change nothing that a guard decides on:
// how values look, who asks, and what drivers say of themselves. Parameters of
// the encoding count among them because the server reports the encoding.
var settled = []string{
	"application_name", "bytea_output", "client_encoding", "client_protocol_version", "database", "datestyle",
	"driver_discovery_version", "driver_version", "extra_float_digits", "intervalstyle", "os_version",
	"plugin_name", "timezone", "user",
}

var settingName = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// restrict decides on a client's start-up parameters: a setting there is what
// SET is later. The guard's limits take the place of a client's own, and for a
// guard that only lets read the server holds the session to that: no other
// parameter can override either, since a parameter comes after all options.
func (p *postgresProxy) restrict(startup *pgproto3.StartupMessage) error {
	g := p.config.Guard
	if g == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(startup.Parameters)) {
		if err := restrictParameter(g, strings.ToLower(name), startup.Parameters[name]); err != nil {
			return postgresError{insufficientPrivilege, err}
		}
	}
	fixed := g.Settings()
	if g.ReadOnly() && g.Dialect() == statement.Postgres {
		fixed = append(slices.Clip(fixed), guard.Setting{Name: readOnlySetting, Value: "on"})
	}
	for _, setting := range fixed {
		fix(startup.Parameters, setting.Name, setting.Value)
	}
	return nil
}

func restrictParameter(g *guard.Guard, name, value string) error {
	switch {
	case name == "options":
		return restrictOptions(g, value)
	case name == "replication":
		return g.Refuse(atLogin, "a connection for replication", 0, true)
	case slices.Contains(settled, name), strings.HasPrefix(name, "_pq_."), g.Fixes(name):
		return nil
	}
	return restrictSetting(g, name, value)
}

func restrictSetting(g *guard.Guard, name, value string) error {
	if name == "role" && g.HasRole(value) {
		return nil
	}
	if !settingName.MatchString(name) || strings.ContainsAny(value, `\`) {
		return g.Refuse(atLogin, "a start-up parameter that is not understood", len(value), false)
	}
	return g.Check(atLogin, fmt.Sprintf("SET %s TO '%s'", name, strings.ReplaceAll(value, "'", "''")))
}

// restrictOptions decides on options: -c NAME=VALUE and --NAME=VALUE, in the
// server's own words. (PostgreSQL: src/backend/utils/init/postinit.c,
// pg_split_opts; src/backend/tcop/postgres.c, process_postgres_switches)
func restrictOptions(g *guard.Guard, options string) error {
	words := splitOptions(options)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		setting, ok := strings.CutPrefix(word, "--")
		if !ok {
			setting, ok = strings.CutPrefix(word, "-c")
			if ok && setting == "" && len(words) > 0 {
				setting, words = words[0], words[1:]
			}
		}
		name, value, assigned := strings.Cut(setting, "=")
		name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
		if !ok || !assigned {
			return g.Refuse(atLogin, "an option of the start-up that is not understood", len(options), false)
		}
		if slices.Contains(settled, name) || g.Fixes(name) {
			continue
		}
		if err := restrictSetting(g, name, value); err != nil {
			return err
		}
	}
	return nil
}

// splitOptions splits at white space that has no backslash before it.
func splitOptions(options string) (words []string) {
	var word []byte
	in, escaped := false, false
	for _, c := range []byte(options) {
		switch {
		case escaped:
			word, escaped = append(word, c), false
		case c == '\\':
			in, escaped = true, true
		case c == ' ' || c >= '\t' && c <= '\r':
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}

// A frameGuard has a guard decide on the messages of a client, which arrive in
// pieces of any size. Messages with SQL text are kept until they are whole; all
// others pass as they come.
type frameGuard struct {
	guard   *guard.Guard
	session string
	ready   func() bool        // the server is not at work, and reads text as the guard does
	write   func([]byte) error // to the server

	held []byte // the beginning of a message
	want int    // how long that is to become
	head bool   // only its head is wanted yet
	left int    // of a message that passes
	late bool   // something is executed by what has yet to be written
}

// frameHead is the length of a message's head: its kind, and its length
// without the kind.
const frameHead = 5

// pass decides on b, and writes what may go on. After an error nothing of the
// client's may go on.
func (f *frameGuard) pass(b []byte) error {
	for written := 0; ; {
		i := written
		for i < len(b) && len(f.held) == 0 {
			n, hold, err := f.next(b[i:])
			if err != nil {
				return err
			}
			if hold {
				break
			}
			i += n
		}
		if i > written {
			if err := f.send(b[written:i]); err != nil {
				return err
			}
		}
		if i == len(b) {
			return nil
		}
		n, err := f.hold(b[i:])
		if err != nil {
			return err
		}
		written = i + n
	}
}

// next returns how many bytes of b may go on, or hold for a message whose
// beginning is to be kept.
func (f *frameGuard) next(b []byte) (n int, hold bool, err error) {
	if f.left > 0 {
		n = min(f.left, len(b))
		f.left -= n
		return n, false, nil
	}
	if len(b) < frameHead {
		f.want, f.head = frameHead, true
		return 0, true, nil
	}
	text, size, err := f.begin(b)
	switch {
	case err != nil:
		return 0, false, err
	case !text:
		f.left = size
		return 0, false, nil
	case len(b) < size:
		f.want, f.head = size, false
		return 0, true, nil
	}
	return size, false, f.check(b[:size])
}

// hold keeps the beginning of a message, and returns how much of b it took.
func (f *frameGuard) hold(b []byte) (int, error) {
	n := min(f.want-len(f.held), len(b))
	f.held = append(f.held, b[:n]...)
	if len(f.held) < f.want {
		return n, nil
	}
	if f.head {
		text, size, err := f.begin(f.held)
		if err != nil {
			return n, err
		}
		f.head = false
		if text && size > frameHead {
			f.want = size
			return n, nil
		}
		if !text {
			f.left = size - frameHead
			return n, f.release()
		}
	}
	if err := f.check(f.held); err != nil {
		return n, err
	}
	return n, f.release()
}

// release writes the message that was kept.
func (f *frameGuard) release() error {
	err := f.send(f.held)
	if f.held = f.held[:0]; cap(f.held) > chunkSize {
		f.held = nil
	}
	return err
}

func (f *frameGuard) send(b []byte) error {
	f.late = false
	return f.write(b)
}

// begin decides on a message's head: whether its text is wanted, and its length
// as a whole.
func (f *frameGuard) begin(head []byte) (text bool, size int, err error) {
	kind, n := head[0], binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<30 { // the server ends the session (pqcomm.c, pq_getmessage)
		return false, 0, f.guard.Refuse(f.session, "a message without a valid length", 0, false)
	}
	size = int(n) + 1
	switch kind {
	case 'Q', 'P': // Query, Parse
		if size > maxStatement {
			f.late = true
			return false, size, f.guard.Refuse(f.session, fmt.Sprintf("a text larger than %d bytes", maxStatement), size, true)
		}
		return true, size, nil
	case 'E': // Execute
		f.late = true
		return false, size, nil
	case 'B', 'C', 'D', 'H', 'S', 'X', // Bind, Close, Describe, Flush, Sync, Terminate
		'd', 'c', 'f': // CopyData, CopyDone, CopyFail
		return false, size, nil
	case 'F':
		f.late = true
		return false, size, f.guard.Refuse(f.session, "a call of a function by the protocol", size, true)
	}
	return false, size, f.guard.Refuse(f.session, "a message of a kind that is not known", size, true)
}

// check decides on a whole message with SQL text.
func (f *frameGuard) check(m []byte) error {
	body := m[frameHead:]
	if m[0] == 'P' {
		_, rest, ok := bytes.Cut(body, []byte{0}) // the prepared statement's name
		if !ok {
			return f.guard.Refuse(f.session, "a message that is not valid", len(m), false)
		}
		body = rest
	}
	text, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || m[0] == 'Q' && len(rest) > 0 {
		return f.guard.Refuse(f.session, "a message that is not valid", len(m), false)
	}
	if ambiguous(text) && (f.late || !f.ready()) {
		return f.guard.Refuse(f.session, "backslashes, or a quote of dollars outside ASCII, in a session whose "+
			"standard_conforming_strings or client_encoding may be another one", len(text), true)
	}
	f.late = f.late || m[0] == 'Q'
	return f.guard.Check(f.session, string(text))
}

// ambiguous reports whether a text could mean something else to a server with
// another encoding of the client's, where a backslash may be the second byte of
// a character, or with backslashes as escapes in all strings. (PostgreSQL:
// Character Set Support, Supported Character Sets)
func ambiguous(text []byte) bool {
	if bytes.IndexByte(text, '\\') >= 0 {
		return true
	}
	for i, c := range text {
		if c != '$' {
			continue
		}
		outside := false // of ASCII
		for _, c := range text[i+1:] {
			if c == '$' && outside {
				return true
			}
			if outside = outside || c >= 0x80; c < 0x80 && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				break
			}
		}
	}
	return false
}

// reports knows what a server has last reported of the settings by which it
// reads text. It reports changes before it is ready for the next statement.
type reports struct {
	strings, encoding atomic.Bool // as a guard reads text

	body []byte // of a report whose end has yet to come
	want int
}

// safeEncodings are those in which a byte of ASCII is never part of another
// character. (PostgreSQL: src/backend/utils/mb/mbutils.c)
var safeEncodings = lazy.MustCompile(
	`^(UTF8|UNICODE|SQL_ASCII|LATIN\d+|ISO_8859_\d|WIN\d+|KOI8[RU]|EUC_\w+|MULE_INTERNAL)$`)

// maxReport bounds what is read of a report: the two that matter are short.
const maxReport = 64

// begin takes in the beginning of a report of length n.
func (r *reports) begin(b []byte, n int) {
	r.body, r.want = r.body[:0], min(n, maxReport)
	r.add(b)
}

// add takes in what follows, if a report has not ended.
func (r *reports) add(b []byte) {
	if r.want == 0 {
		return
	}
	r.body = append(r.body, b[:min(len(b), r.want-len(r.body))]...)
	if len(r.body) < r.want {
		return
	}
	r.want = 0
	name, value, _ := bytes.Cut(r.body, []byte{0})
	value, _, _ = bytes.Cut(value, []byte{0})
	switch string(name) {
	case "standard_conforming_strings":
		r.strings.Store(string(value) == "on")
	case "client_encoding":
		r.encoding.Store(safeEncodings.MatchString(strings.ToUpper(string(value))))
	}
}

// reads reports whether the server reads text as a guard does.
func (s *postgresServer) reads(d statement.Dialect) bool {
	if d == statement.Redshift { // it reports neither, and has one encoding and one form of strings
		return true
	}
	return s.reports.strings.Load() && s.reports.encoding.Load()
}

// guarded returns what has the guard decide on what a client sends.
func (p *postgresProxy) guarded(server *postgresServer) *frameGuard {
	g := p.config.Guard
	f := &frameGuard{guard: g, write: server.pass}
	if server.key != nil {
		f.session = fmt.Sprint(server.key.ProcessID)
	}
	f.ready = func() bool { return server.running() == 0 && server.reads(g.Dialect()) }
	return f
}
