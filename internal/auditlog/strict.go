package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A form is what a value of a record must be.
type form struct {
	kind    kind
	values  []string        // all that are allowed, as JSON has them without quotes; none for any
	fields  map[string]form // of an object
	needs   []string        // fields that an object must have
	of      *form           // of a list's elements, or of all of an object's values
	further bool            // an object may have fields that are not known
}

type kind string

const (
	aText   kind = "text"
	aNumber kind = "whole number"
	aTruth  kind = "true or false"
	anObj   kind = "object"
	aList   kind = "list"
)

func text(values ...string) form { return form{kind: aText, values: values} }

func number(values ...int) form {
	f := form{kind: aNumber}
	for _, v := range values {
		f.values = append(f.values, strconv.Itoa(v))
	}
	return f
}

func object(needs string, fields map[string]form) form {
	return form{kind: anObj, fields: fields, needs: strings.Fields(needs)}
}

func list(of form) form { return form{kind: aList, of: &of} }

func texts() form { of := text(); return form{kind: anObj, of: &of} }

// versions are those of OCSF that records were written in.
var versions = []string{"1.3.0", "1.8.0"}

// everywhere are the fields that every record has.
const everywhere = "activity_id activity_name category_uid category_name class_uid class_name type_uid type_name severity_id " +
	"severity status_id status message time metadata actor user service auth_protocol_id auth_protocol is_remote unmapped"

// recordForm is OCSF's Authentication as far as records use it. A field that OCSF
// lets out is required where every record has it.
func recordForm() form {
	user := userForm()
	session := object("", map[string]form{
		"uid": text(), "issuer": text(), "expiration_time": number(), "credential_uid": text(),
	})
	name := object("name", map[string]form{"name": text()})
	policy := object("", map[string]form{"name": text(), "uid": text()})
	authorization := object("decision", map[string]form{"decision": text("allowed", "denied"), "policy": policy})
	return object(everywhere, map[string]form{
		"activity_id": number(1, 2, 6), "activity_name": text("Logon", "Logoff", "Preauth"),
		"category_uid": number(3), "category_name": text("Identity & Access Management"),
		"class_uid": number(classUID), "class_name": text("Authentication"),
		"type_uid":    number(300201, 300202, 300206),
		"type_name":   text("Authentication: Logon", "Authentication: Logoff", "Authentication: Preauth"),
		"severity_id": number(1, 2, 3), "severity": text("Informational", "Low", "Medium"),
		"status_id": number(1, 2), "status": text("Success", "Failure"), "status_code": text(), "status_detail": text(),
		"message": text(), "count": number(), "time": number(),
		"metadata": metadataForm(),
		"actor": object("app_name", map[string]form{
			"app_name": text(), "user": user, "idp": name, "session": session, "authorizations": list(authorization),
		}),
		"user": user, "service": name, "session": session,
		"auth_protocol_id": number(4), "auth_protocol": text("OpenID"), "is_remote": {kind: aTruth},
		"unmapped": unmappedForm(),
	})
}

func userForm() form {
	return object("name type_id type", map[string]form{
		"name": text(), "uid": text(), "type_id": number(0, 1, 99), "type": text(),
	})
}

func metadataForm() form {
	return object("correlation_uid uid version product", map[string]form{
		"correlation_uid": text(), "uid": text(), "version": text(versions...), "log_name": text(),
		"product": object("name", map[string]form{"name": text("oidc-dbt"), "vendor_name": text(), "version": text()}),
	})
}

// unmappedForm is of our own names: a newer version may have more of them.
func unmappedForm() form {
	mismatch := object("rule claim got want", map[string]form{
		"rule": number(), "number": number(), "line": number(), "claim": text(), "got": text(), "want": text(),
	})
	project := object("", map[string]form{
		"project": text(), "package_lock_sha256": text(), "packages": list(text()), "packages_omitted": number(),
	})
	f := object("", map[string]form{
		"decision": text("allowed", "denied"), "guard": text(),
		"outcome": text("issued", "renewed", "skipped", "revoked", "failed", "stopped", "turned_away"),
		"target":  text(), "audience": text(), "dry_run": {kind: aTruth}, "policy_origin": text(), "policy_sha256": text(),
		"extra_ca_sha256": text(), "actor_kind": text(), "actor_kind_source": text(), "agent_hint": text(),
		"identity": text(), "kind": text(), "act": list(text()),
		"rule":       object("index", map[string]form{"index": number(), "number": number(), "line": number()}),
		"mismatches": list(mismatch), "mismatches_omitted": number(), "credential_kind": text(), "static": {kind: aTruth},
		"claims": texts(), "warehouse_key": texts(), "dbt": list(project),
	})
	f.further = true
	return f
}

// A checker holds lines to what records are.
type checker struct{ record, statement form }

// check returns what is wrong with a line that is a record by its class.
func (c checker) check(line []byte, r *Record) error {
	if !utf8.Valid(line) {
		return errors.New("the line is not UTF-8") // readers differ in what they make of it
	}
	w := walker{text: line}
	if r.IsStatement() {
		if err := c.statement.check(&w, ""); err != nil {
			return err
		}
		return consistentStatement(r)
	}
	if err := c.record.check(&w, ""); err != nil {
		return err
	}
	return consistent(r)
}

// A walker goes through a text that is known to be JSON: it does not check that again.
type walker struct {
	text []byte
	at   int
}

// peek returns the next byte that is no white space.
func (w *walker) peek() byte {
	for {
		switch c := w.text[w.at]; c {
		case ' ', '\t', '\r', '\n':
			w.at++
		default:
			return c
		}
	}
}

// take goes past the next byte if it is c.
func (w *walker) take(c byte) bool {
	if w.peek() != c {
		return false
	}
	w.at++
	return true
}

// scalar goes past a text, a number or a word, and returns it as JSON has it.
func (w *walker) scalar() []byte {
	quoted, start := w.peek() == '"', w.at
	for w.at++; w.at < len(w.text); w.at++ {
		switch c := w.text[w.at]; {
		case quoted && c == '\\':
			w.at++
		case quoted && c == '"':
			w.at++
			return w.text[start:w.at]
		case !quoted && bytes.IndexByte([]byte(" \t\r\n,]}"), c) >= 0:
			return w.text[start:w.at]
		}
	}
	return w.text[start:]
}

// name goes past the name of a field and its colon.
func (w *walker) name() string {
	name := unquoted(w.scalar())
	w.take(':')
	return name
}

func unquoted(text []byte) string {
	if text[0] != '"' {
		return string(text)
	}
	if !bytes.Contains(text, []byte(`\`)) {
		return string(text[1 : len(text)-1])
	}
	var s string
	_ = json.Unmarshal(text, &s) // it is JSON
	return s
}

// skip goes past a value.
func (w *walker) skip() {
	for depth := 0; ; {
		switch w.peek() {
		case '{', '[':
			depth++
			w.at++
		case '}', ']':
			depth--
			w.at++
		case ',', ':':
			w.at++
		default:
			w.scalar()
		}
		if depth == 0 {
			return
		}
	}
}

// check goes past a value.
func (f form) check(w *walker, at string) error {
	var have kind
	switch c := w.peek(); {
	case c == '{':
		have = anObj
	case c == '[':
		have = aList
	case c == '"':
		have = aText
	case c == 't' || c == 'f':
		have = aTruth
	case c == 'n':
		have = "null"
	default:
		have = aNumber
	}
	var value []byte
	if have != anObj && have != aList {
		value = w.scalar()
	}
	if have == aNumber && bytes.ContainsAny(value, ".eE") {
		have = "fraction"
	}
	switch {
	case have != f.kind:
		return fmt.Errorf("%s is a %s, want a %s", place(at), have, f.kind)
	case have == anObj:
		return f.object(w, at)
	case have == aList:
		return f.list(w, at)
	}
	if f.values == nil {
		return nil
	}
	if text := unquoted(value); !slices.Contains(f.values, text) {
		return fmt.Errorf("%s is %q, want one of %q", place(at), text, f.values)
	}
	return nil
}

func place(at string) string {
	if at == "" {
		return "the line"
	}
	return strconv.Quote(at)
}

func (f form) list(w *walker, at string) error {
	w.take('[')
	for i := 0; !w.take(']'); i++ {
		if err := f.of.check(w, fmt.Sprintf("%s[%d]", at, i)); err != nil {
			return err
		}
		w.take(',')
	}
	return nil
}

func (f form) object(w *walker, at string) error {
	w.take('{')
	seen := make(map[string]bool, len(f.fields))
	for ; !w.take('}'); w.take(',') {
		name := w.name()
		field, known := f.fields[name]
		if f.of != nil {
			field, known = *f.of, true
		}
		below := name
		if at != "" {
			below = at + "." + name
		}
		switch {
		case seen[name]: // readers differ in which of the two counts
			return fmt.Errorf("%q is there twice", below)
		case !known && (!f.further || f.hasInOtherCase(name)):
			return fmt.Errorf("%q is no field of a record", below)
		}
		seen[name] = true
		if !known {
			w.skip()
		} else if err := field.check(w, below); err != nil {
			return err
		}
	}
	for _, name := range f.needs {
		if !seen[name] {
			return fmt.Errorf("%q is missing", strings.TrimPrefix(at+"."+name, "."))
		}
	}
	return nil
}

// hasInOtherCase reports whether a name differs from that of a field by case
// only: encoding/json takes it for the field, and others do not.
func (f form) hasInOtherCase(name string) bool {
	for field := range f.fields {
		if strings.EqualFold(field, name) {
			return true
		}
	}
	return false
}

// consistent compares what a record says twice.
func consistent(r *Record) error {
	activity := map[int]string{1: "Logon", 2: "Logoff", 6: "Preauth"}[r.ActivityID]
	decision := r.Unmapped.Decision != ""
	part := strings.ToLower(activity)
	if r.isHalt() {
		part = "stopped"
	}
	for _, tt := range []struct{ field, got, want string }{
		{"activity_name", r.ActivityName, activity},
		{"type_uid", strconv.Itoa(r.TypeUID), strconv.Itoa(classUID*100 + r.ActivityID)},
		{"type_name", r.TypeName, "Authentication: " + activity},
		{"status", r.Status, map[int]string{1: "Success", 2: "Failure"}[r.StatusID]},
		{"severity", r.Severity, map[int]string{1: "Informational", 2: "Low", 3: "Medium"}[r.SeverityID]},
		{"metadata.uid", r.Metadata.UID, r.Metadata.CorrelationUID + "-" + part},
	} {
		if tt.got != tt.want {
			return fmt.Errorf("%q is %q, want %q by the other fields", tt.field, tt.got, tt.want)
		}
	}
	switch {
	case r.Time <= 0:
		return fmt.Errorf("%q is %d, want milliseconds since 1970", "time", r.Time)
	case decision != (activity == "Preauth"), decision == (r.Unmapped.Outcome != ""):
		return fmt.Errorf("activity %s has decision %q and outcome %q", activity, r.Unmapped.Decision, r.Unmapped.Outcome)
	case r.Unmapped.Decision == "allowed" && r.Unmapped.Rule == nil:
		return fmt.Errorf("%q is missing: a rule allows", "unmapped.rule")
	case (r.Unmapped.Outcome == "issued" || r.Unmapped.Outcome == "renewed") && r.Session == (Session{}):
		return fmt.Errorf("%q is missing: a credential was issued", "session")
	}
	return nil
}
