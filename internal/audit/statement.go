package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// OCSF's Datastore Activity, of which only Query occurs: a client has sent a
// message of SQL. (https://schema.ocsf.io/1.8.0/classes/datastore_activity)
const (
	statementCategoryUID = 6 // Application Activity
	statementClassUID    = 6005
	activityQuery        = 4
	databaseOther        = 99
)

// maxText limits the text of a statement, where it is recorded: a line of it
// stays below what collectors accept, even if every byte is escaped.
const maxText = 32 << 10

// A Statement is one message of SQL and what the guard decided on it.
type Statement struct {
	Time time.Time
	// Session is the server's or the client's own name for where it came from: of
	// PostgreSQL and Redshift the backend's process id ("login" for what a client
	// asks for when it connects), of Snowflake the session's id, of ClickHouse the
	// query's id if the client gave it one. Trino has none.
	Session  string
	Decision string // "allowed", "denied", "observed": it would have been denied
	Class    string // of the worst statement in the message
	Count    int    // of statements in it
	Head     string // the deciding statement's keywords, "" where they are not known
	Why      string // it was denied, or would have been; of one that was allowed, what was not understood
	Length   int    // in bytes
	SHA256   string // of the text, "" for what could not be read as text
	Text     string // "" unless the policy asks for it
}

// An Appended is the line that a statement has become.
type Appended struct {
	Line    []byte // with its newline
	Part    string // what names it among the records of its run: "statement-7"
	Time    time.Time
	Failure bool // the statement was denied
}

// StatementClass is OCSF's class_uid of the records of statements.
const StatementClass = statementClassUID

// A StatementLog appends a line for each statement of one run. Its methods may
// be called by several at once.
type StatementLog struct {
	base statementRecord

	mu     sync.Mutex
	log    *Log
	number int
}

// OpenStatements opens the log at path for the statements of a run that a rule
// allowed; rule counts from 0, line is its line in the policy. dbtType is the
// warehouse's. Errors are those of Open.
func OpenStatements(path string, r Run, rule, line int, dbtType string) (*StatementLog, error) {
	log, err := Open(path)
	if err != nil {
		return nil, err
	}
	return &StatementLog{log: log, base: r.statements(rule, line, dbtType)}, nil
}

// Append writes one line in one write, and returns it. It does not wait until the line is on
// the disk, as the log of decisions does: a build has thousands of statements,
// and a machine that loses power loses the statements' sessions as well. The
// error is that of Log.Append.
func (l *StatementLog) Append(s Statement) (Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return Appended{}, errors.New("append audit record: the run is over")
	}
	l.number++
	record := l.base.of(s, l.number)
	line, err := lineOf(record)
	err = l.log.write(line, err)
	return Appended{line, statementPart(l.number), time.UnixMilli(record.Time), record.StatusID == statusFailure}, err
}

func statementPart(number int) string { return fmt.Sprintf("statement-%d", number) }

// Close waits until all lines are on the disk, and closes the log.
func (l *StatementLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return nil
	}
	log := l.log
	l.log = nil
	return errors.Join(log.f.Sync(), log.Close())
}

// A statementRecord is one line: an OCSF Datastore Activity event.
type statementRecord struct {
	ActivityID   int           `json:"activity_id"`
	ActivityName string        `json:"activity_name"`
	CategoryUID  int           `json:"category_uid"`
	CategoryName string        `json:"category_name"`
	ClassUID     int           `json:"class_uid"`
	ClassName    string        `json:"class_name"`
	TypeUID      int           `json:"type_uid"`
	TypeName     string        `json:"type_name"`
	SeverityID   int           `json:"severity_id"`
	Severity     string        `json:"severity"`
	StatusID     int           `json:"status_id"`
	Status       string        `json:"status"`
	Message      string        `json:"message"`
	Time         int64         `json:"time"`
	Metadata     metadata      `json:"metadata"`
	Actor        actor         `json:"actor"`
	Source       endpoint      `json:"src_endpoint"` // the client
	Database     database      `json:"database"`     // the target
	Query        *query        `json:"query_info,omitempty"`
	Unmapped     statementMore `json:"unmapped"`
}

type endpoint struct {
	IP string `json:"ip"`
}

type database struct {
	Name   string `json:"name"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
}

type query struct {
	UID  string `json:"uid"`
	Text string `json:"query_string"`
}

// statementMore is what OCSF has no attribute for. The names are those of other
// records, with `statement` in addition.
type statementMore struct {
	Target       string            `json:"target,omitempty"`
	PolicySHA256 string            `json:"policy_sha256,omitempty"`
	ActorKind    string            `json:"actor_kind,omitempty"`
	Identity     string            `json:"identity,omitempty"`
	IdentityKind string            `json:"kind,omitempty"`
	Rule         matched           `json:"rule"`
	Claims       map[string]string `json:"claims,omitempty"` // only those of joining
	Statement    statement         `json:"statement"`
}

type statement struct {
	Session  string `json:"session,omitempty"`
	Decision string `json:"decision"`
	Class    string `json:"class"`
	Count    int    `json:"count"`
	Head     string `json:"head,omitempty"`
	Why      string `json:"why,omitempty"`
	Length   int    `json:"length"`
	SHA256   string `json:"sha256,omitempty"`
}

// joining are the claims by which a statement's repository and run are found
// without the other records of the run, which have the rest.
var joining = []string{"repository", "run_id", "run_attempt", "project_path", "pipeline_id", "pipeline_slug", "build_id"}

// statements returns what all statements of the run have in common.
func (r Run) statements(rule, line int, dbtType string) statementRecord {
	all := r.record(time.Time{}, activityPreauth, statusSuccess, severityInformational)
	base := statementRecord{
		ActivityID: activityQuery, ActivityName: "Query", CategoryUID: statementCategoryUID, CategoryName: "Application Activity",
		ClassUID: statementClassUID, ClassName: "Datastore Activity",
		TypeUID: statementClassUID*100 + activityQuery, TypeName: "Datastore Activity: Query",
		Metadata: all.Metadata, Actor: actor{AppName: "oidc-dbt", User: all.Actor.User}, Source: endpoint{"127.0.0.1"},
		Database: database{Name: clean(r.Target), TypeID: databaseOther, Type: clean(dbtType)},
		Unmapped: statementMore{
			Target: all.Unmapped.Target, PolicySHA256: r.PolicySHA256, ActorKind: r.ActorKind, Identity: all.Unmapped.Identity,
			IdentityKind: all.Unmapped.IdentityKind, Rule: matched{Index: rule, Number: rule + 1, Line: line},
		},
	}
	if base.Actor.User == nil { // a workload, whose tokens name no person
		base.Actor.User = &user{Name: all.User.Name, TypeID: all.User.TypeID, Type: all.User.Type}
	}
	for name, value := range all.Unmapped.Claims {
		if !slices.Contains(joining, name) {
			continue
		}
		if base.Unmapped.Claims == nil {
			base.Unmapped.Claims = map[string]string{}
		}
		base.Unmapped.Claims[name] = value
	}
	return base
}

// outcomes are the severity, the status and the message of each decision.
var outcomes = map[string]struct {
	severity, status int
	message          string
}{
	"allowed":  {severityInformational, statusSuccess, "the guard allows the statement"},
	"observed": {severityLow, statusSuccess, "the guard would deny the statement, and only observes"},
	"denied":   {severityMedium, statusFailure, "the guard denies the statement"},
}

// of returns the record of the number-th statement of the run.
func (r statementRecord) of(s Statement, number int) statementRecord {
	o := outcomes[s.Decision]
	r.SeverityID, r.Severity = o.severity, severityNames[o.severity]
	r.StatusID, r.Status = o.status, statusNames[o.status]
	r.Message, r.Time = o.message, milliseconds(s.Time)
	r.Metadata.UID = r.Metadata.CorrelationUID + "-" + statementPart(number)
	r.Unmapped.Statement = statement{
		Session: clean(s.Session), Decision: s.Decision, Class: s.Class, Count: s.Count, Head: clean(s.Head), Why: clean(s.Why),
		Length: s.Length, SHA256: s.SHA256,
	}
	if s.Text != "" {
		r.Query = &query{UID: s.SHA256, Text: cleanTo(s.Text, maxText)}
	}
	return r
}

// lineOf returns a record as one line of JSON with its newline.
func lineOf(record any) ([]byte, error) {
	b, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	// Users print this file in a later step, and the runner interprets "##[…]"
	// anywhere in a line. "#" occurs only inside JSON strings.
	b = bytes.ReplaceAll(b, []byte("##["), []byte(`##\u005b`))
	return append(b, '\n'), nil
}
