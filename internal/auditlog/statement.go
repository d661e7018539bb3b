package auditlog

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Statement is what a guard decided on one message of SQL.
type Statement struct {
	Session  string `json:"session"`
	Decision string `json:"decision"` // "allowed", "denied", "observed"
	Class    string `json:"class"`
	Count    int    `json:"count"` // of statements in the message
	Head     string `json:"head"`
	Why      string `json:"why"`
	Length   int    `json:"length"`
	SHA256   string `json:"sha256"`
}

// A Query is the text of a statement, where the policy asks for it.
type Query struct {
	UID  string `json:"uid"`
	Text string `json:"query_string"`
}

// IsStatement reports whether the record is of a statement.
func (r *Record) IsStatement() bool { return r.ClassUID == statementClassUID }

// ObjectOf returns the number of the object in a bucket that has records of
// statements, by its name, 0 for another name.
func ObjectOf(name string) int {
	base, isObject := strings.CutSuffix(path.Base(filepath.ToSlash(name)), ".json")
	_, number, ok := strings.Cut(base, "-statements-")
	n, err := strconv.Atoi(number)
	if !isObject || !ok || err != nil || n < 1 || fmt.Sprintf("%06d", n) != number {
		return 0
	}
	return n
}

// series are a run's statements by their numbers, and the objects that have
// them. Both count from 1 without a gap. Their order is that of the files.
type series struct {
	statements, objects numbers
	file                string  // of the last that was read
	first, last, other  Finding // about those; other is the first one that has other grounds, if there is one
	grounds             uint16  // of the first
}

// maxSpans bounds what a run's numbers take of the memory: 512 KiB.
const maxSpans = 1 << 16

// numbers are some that should be all from 1 to the highest, once each.
type numbers struct {
	spans     []span // in their order, none of which touch
	twice     bool   // one is there more than once
	scattered bool   // there are more spans, and what is missing cannot be told
}

// A span is the numbers from first to last.
type span struct{ first, last uint32 }

// with returns n with a number that is at least 1.
func (n numbers) with(number uint32) numbers {
	i, _ := slices.BinarySearchFunc(n.spans, number, func(s span, number uint32) int { return cmp.Compare(s.last, number) })
	if i < len(n.spans) && n.spans[i].first <= number {
		n.twice = true
		return n
	}
	before, behind := i > 0 && n.spans[i-1].last == number-1, i < len(n.spans) && n.spans[i].first == number+1
	switch {
	case before && behind:
		n.spans[i-1].last = n.spans[i].last
		n.spans = slices.Delete(n.spans, i, i+1)
	case before:
		n.spans[i-1].last = number
	case behind:
		n.spans[i].first = number
	case len(n.spans) == maxSpans:
		n.scattered = true
	default:
		n.spans = slices.Insert(n.spans, i, span{number, number})
	}
	return n
}

// missing returns how many there are not up to the highest.
func (n numbers) missing() (missing, highest uint32) {
	for _, s := range n.spans {
		missing += s.first - highest - 1
		highest = s.last
	}
	return missing, highest
}

// grounds is what a statement and the decision on its run have in common, hashed
// as in said.
func (v *Verification) grounds(r *Record) uint16 {
	person, rule := r.Actor.User.Name, -1
	if person == "" { // a workload, whose tokens name no person
		person = r.User.Name
	}
	if r.Unmapped.Rule != nil {
		rule = r.Unmapped.Rule.Index
	}
	return uint16(maphash.Comparable(v.seed, struct {
		target, policy, identity, kind, person string
		rule                                   int
	}{r.Unmapped.Target, r.Unmapped.PolicySHA256, r.Unmapped.Identity, r.Unmapped.IdentityKind, person, rule}))
}

// statement follows the statements of a run. What a run sends is no part of
// its own course: it may send nothing, or any number.
func (v *Verification) statement(e Entry) {
	v.Statements++
	key, grounds := keyOf(&e.Record), v.grounds(&e.Record)
	s, known := v.series[key]
	s.last = v.about(e, NoStatement, "")
	if !known {
		s.first, s.grounds = s.last, grounds
	}
	if grounds != s.grounds && s.other.Name == "" {
		s.other = s.last
	}
	s.statements = s.statements.with(statementNumber(&e.Record))
	if n := ObjectOf(e.File); n > 0 && e.File != s.file {
		s.objects = s.objects.with(uint32(n))
	}
	s.file = e.File
	v.series[key] = s
}

// statements judges the series by their numbers, and by what their runs came to.
func (v *Verification) statements() (list []Finding) {
	for key, s := range v.series {
		list = append(list, s.gaps()...)
		if f := v.ungrounded(key, s); f.Message != "" {
			list = append(list, f)
		}
	}
	return list
}

// gaps returns what is found in the numbers.
func (s series) gaps() (list []Finding) {
	f, objects := s.last, ""
	if n, all := s.objects.missing(); n > 0 {
		objects = fmt.Sprintf("%d of its %d objects", n, all)
	}
	switch n, all := s.statements.missing(); {
	case s.statements.scattered:
		f.Message = "the numbers of the run's statements are too scattered to tell which are missing"
	case n > 0:
		f.Message = fmt.Sprintf("%d of the run's %d statements are missing", n, all)
		if objects != "" {
			f.Message += ", with " + objects
		}
	case objects != "":
		f.Message = "the run's statements are there, and not " + objects
	}
	if f.Message != "" {
		list = append(list, f)
	}
	if s.statements.twice {
		f.Name, f.Message = Duplicate, "a statement of the run is there twice"
		list = append(list, f)
	}
	return list
}

// ungrounded returns a finding with a message about statements that the run
// cannot have sent.
func (v *Verification) ungrounded(key runKey, s series) Finding {
	state, f := v.runs[key], s.first
	_, orphaned := v.orphans[key] // is found by its outcome
	switch {
	case state.flags&refused != 0:
		f.Name, f.Message = AfterDenial, "a statement was sent, and the decision on the run was a denial"
	case state.flags&barren != 0:
		f.Name, f.Message = Conflict, "a statement was sent, and the run's outcome is that there was no credential"
	case state.flags&decided == 0 && !orphaned:
		f.Name, f.Message = NoDecision, "a statement was sent, and no record of a decision on the run"
	case state.flags&decided == 0:
	case s.grounds != state.said[grounds.index]:
		f.Name, f.Message = Conflict, otherGrounds
	case s.other.Name != "":
		f = s.other
		f.Name, f.Message = Conflict, otherGrounds
	}
	return f
}

const otherGrounds = "the statement's target, policy, rule or identity is another than that of the decision on its run"

// statementNumber returns the number in a valid record's uid, 0 for none.
func statementNumber(r *Record) uint32 {
	text, ok := strings.CutPrefix(r.Metadata.UID, r.Metadata.CorrelationUID+"-statement-")
	n, err := strconv.ParseUint(text, 10, 31)
	if !ok || err != nil || strconv.FormatUint(n, 10) != text {
		return 0
	}
	return uint32(n)
}

// statementForm is OCSF's Datastore Activity as far as records use it.
func statementForm() form {
	decisions := []string{"allowed", "denied", "observed"}
	classes := []string{"read", "session", "write", "define", "grant", "run", "admin", "unknown"}
	statement := object("decision class count length", map[string]form{
		"session": text(), "decision": text(decisions...), "class": text(classes...), "count": number(), "head": text(), "why": text(),
		"length": number(), "sha256": text(),
	})
	more := object("statement rule", map[string]form{
		"target": text(), "policy_sha256": text(), "actor_kind": text(), "identity": text(), "kind": text(),
		"rule":   object("index", map[string]form{"index": number(), "number": number(), "line": number()}),
		"claims": texts(), "statement": statement,
	})
	more.further = true
	return object(strings.Replace(everywhere, "actor user service auth_protocol_id auth_protocol is_remote", "actor src_endpoint database", 1),
		map[string]form{
			"activity_id": number(4), "activity_name": text("Query"),
			"category_uid": number(6), "category_name": text("Application Activity"),
			"class_uid": number(statementClassUID), "class_name": text("Datastore Activity"),
			"type_uid": number(statementClassUID*100 + 4), "type_name": text("Datastore Activity: Query"),
			"severity_id": number(1, 2, 3), "severity": text("Informational", "Low", "Medium"),
			"status_id": number(1, 2), "status": text("Success", "Failure"), "message": text(), "time": number(),
			"metadata": metadataForm(),
			"actor": object("app_name user", map[string]form{
				"app_name": text(), "user": userForm(),
			}),
			"src_endpoint": object("ip", map[string]form{"ip": text()}),
			"database":     object("name type_id type", map[string]form{"name": text(), "type_id": number(99), "type": text()}),
			"query_info":   object("uid query_string", map[string]form{"uid": text(), "query_string": text()}),
			"unmapped":     more,
		})
}

// isSHA256 reports whether a text is one as records have it.
func isSHA256(text string) bool {
	return len(text) == 2*sha256.Size && strings.Trim(text, "0123456789abcdef") == ""
}

// consistentStatement compares what a record of a statement says twice.
func consistentStatement(r *Record) error {
	s := r.Unmapped.Statement
	severity := map[string]int{"allowed": 1, "observed": 2, "denied": 3}[s.Decision]
	status := map[bool]int{true: 2, false: 1}[s.Decision == "denied"]
	if statementNumber(r) == 0 {
		return fmt.Errorf("%q is %q, want %q and a number by the other fields", "metadata.uid", r.Metadata.UID,
			r.Metadata.CorrelationUID+"-statement-")
	}
	switch {
	case s.Count < 1:
		return fmt.Errorf("%q is %d, want the number of statements in the message", "unmapped.statement.count", s.Count)
	case s.Length < 0:
		return fmt.Errorf("%q is %d, want bytes", "unmapped.statement.length", s.Length)
	case !isSHA256(s.SHA256) && (s.SHA256 != "" || s.Class != "unknown"): // what cannot be read as text has none
		return fmt.Errorf("%q is %q, want a SHA-256 in lower case", "unmapped.statement.sha256", s.SHA256)
	}
	for _, tt := range []struct{ field, got, want string }{
		{"query_info.uid", r.Query.UID, map[bool]string{true: s.SHA256}[r.Query != (Query{})]},
		{"status_id", strconv.Itoa(r.StatusID), strconv.Itoa(status)},
		{"status", r.Status, map[int]string{1: "Success", 2: "Failure"}[status]},
		{"severity_id", strconv.Itoa(r.SeverityID), strconv.Itoa(severity)},
		{"severity", r.Severity, map[int]string{1: "Informational", 2: "Low", 3: "Medium"}[severity]},
	} {
		if tt.got != tt.want {
			return fmt.Errorf("%q is %q, want %q by the other fields", tt.field, tt.got, tt.want)
		}
	}
	if r.Time <= 0 {
		return fmt.Errorf("%q is %d, want milliseconds since 1970", "time", r.Time)
	}
	return nil
}
