// Package statement says what SQL text may do at most, one dialect at a time: it reads the heads of statements, not their meaning.
//
// It knows what it admits and nothing else: a statement whose head, place or
// lexis is not on its lists is of class unknown. It promises nothing about what
// a statement that it knows does at the server: functions, views, triggers and
// rules run with rights of their own.
package statement

import "slices"

// Dialect is the SQL of one kind of server.
type Dialect string

// The dialects.
const (
	Postgres   Dialect = "postgres"
	Redshift   Dialect = "redshift"
	Snowflake  Dialect = "snowflake"
	Trino      Dialect = "trino"
	ClickHouse Dialect = "clickhouse"
)

// Class is what a statement may do at most.
type Class string

// The classes, from the least to the worst.
const (
	Read    Class = "read"    // asks: SELECT, VALUES, SHOW, DESCRIBE, EXPLAIN that does not run what it explains
	Session Class = "session" // changes its own session only: transactions, USE, a few settings
	Write   Class = "write"   // changes rows: INSERT, UPDATE, DELETE, MERGE, TRUNCATE
	Define  Class = "define"  // changes tables, views, schemas, indexes, and what describes them
	Grant   Class = "grant"   // GRANT, REVOKE, and owners
	Run     Class = "run"     // runs code or reaches beyond the tables: CALL, DO, COPY, functions, procedures, stages
	Admin   Class = "admin"   // users, roles, warehouses, policies, the server's own settings
	Unknown Class = "unknown" // not understood, whatever the reason
)

// A Verdict is what Classify found. No part of it is text of the user's.
type Verdict struct {
	Class      Class  // of the worst statement
	Besides    Set    // the other classes that statements or parts of them are of; never read or session
	Statements int    // how many there are; empty ones do not count; 0, of class read, for a message without any
	Head       string // the deciding statement's first words, such as "DROP TABLE"; "" where the first is none that is known
	Offset     int    // of the deciding statement, or of what is unknown, in bytes
	Why        string // for unknown: what was not understood; else ""
	Sets       string // settings that may limit a session and that it changes, or what may change them all, joined by commas
	Undoes     string // what would end a read-only session, such as "BEGIN READ WRITE"; "" for nothing
}

// A Set is a set of classes.
type Set uint8

// Has reports whether a class is in the set.
func (s Set) Has(c Class) bool { return s>>rankOf(string(c))&1 == 1 }

// A rank orders the classes.
type rank uint8

const (
	read rank = iota
	session
	write
	define
	grant
	run
	admin
	unknown
)

var classes = [...]Class{Read, Session, Write, Define, Grant, Run, Admin, Unknown}

func rankOf(name string) rank {
	i := slices.Index(classes[:], Class(name))
	if i < 0 {
		panic("statement: no class " + name)
	}
	return rank(i)
}

// Classify says what a message of SQL text may do at most: the class of its
// worst statement, the first of them if there are several. It takes time in
// proportion to the text.
func Classify(d Dialect, text string) Verdict {
	compiled, ok := grammars[d]
	if !ok {
		return Verdict{Class: Unknown, Statements: 1, Why: "dialect that is not known"}
	}
	return classify(compiled(), text, false)
}
