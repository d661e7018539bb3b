package auditlog

import (
	"fmt"
	"path"
	"path/filepath"
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

// series are the numbers of a run's statements, and of the objects that have
// them. Both count from 1 without a gap. Their order is that of the files.
type series struct {
	statements, objects numbers
	file                string  // of the last that was read
	last                Finding // about that
}

// numbers are some that should be all from 1 to the highest, once each.
type numbers struct{ count, highest, sum uint64 }

func (n numbers) with(number uint64) numbers {
	return numbers{n.count + 1, max(n.highest, number), n.sum + number}
}

// missing is how many there are not, if none is there twice.
func (n numbers) missing() uint64 { return n.highest - min(n.count, n.highest) }

// twice reports whether there is one more than once, as far as the sums tell.
func (n numbers) twice() bool {
	return n.count > n.highest || n.count == n.highest && n.sum != n.highest*(n.highest+1)/2
}

// statement follows the statements of a run. What a run sends is no part of
// its own course: it may send nothing, or any number.
func (v *Verification) statement(e Entry) {
	v.Statements++
	if v.runs[keyOf(&e.Record)].flags&refused != 0 {
		v.found(v.about(e, AfterDenial, "a statement was sent, and the decision on the run was a denial"))
	}
	key := keyOf(&e.Record)
	s := v.series[key]
	s.statements = s.statements.with(statementNumber(&e.Record))
	if n := ObjectOf(e.File); n > 0 && e.File != s.file {
		s.objects = s.objects.with(uint64(n))
	}
	s.file, s.last = e.File, v.about(e, NoStatement, "")
	v.series[key] = s
}

// statements judges the series of numbers.
func (v *Verification) statements() (list []Finding) {
	for _, s := range v.series {
		f, objects := s.last, ""
		if n := s.objects.missing(); n > 0 {
			objects = fmt.Sprintf("%d of its %d objects", n, s.objects.highest)
		}
		switch n := s.statements.missing(); {
		case n > 0:
			f.Message = fmt.Sprintf("%d of the run's %d statements are missing", n, s.statements.highest)
			if objects != "" {
				f.Message += ", with " + objects
			}
		case s.statements.twice():
			f.Name, f.Message = Duplicate, "a statement of the run is there twice"
		case objects != "":
			f.Message = "the run's statements are there, and not " + objects
		default:
			continue
		}
		list = append(list, f)
	}
	return list
}

// statementNumber returns the number in a valid record's uid, 0 for none.
func statementNumber(r *Record) uint64 {
	text, ok := strings.CutPrefix(r.Metadata.UID, r.Metadata.CorrelationUID+"-statement-")
	n, err := strconv.ParseUint(text, 10, 31)
	if !ok || err != nil || strconv.FormatUint(n, 10) != text {
		return 0
	}
	return n
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

// consistentStatement compares what a record of a statement says twice.
func consistentStatement(r *Record) error {
	s := r.Unmapped.Statement
	severity := map[string]int{"allowed": 1, "observed": 2, "denied": 3}[s.Decision]
	status := map[bool]int{true: 2, false: 1}[s.Decision == "denied"]
	if statementNumber(r) == 0 {
		return fmt.Errorf("%q is %q, want %q and a number by the other fields", "metadata.uid", r.Metadata.UID,
			r.Metadata.CorrelationUID+"-statement-")
	}
	for _, tt := range []struct{ field, got, want string }{
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
