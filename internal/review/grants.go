package review

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Principal is a user of a warehouse, or a role or service account of a
// cloud, with one of the ways in which it logs in.
type Principal struct {
	Name     string `json:"principal"`
	Type     string `json:"type"`
	Factor   string `json:"factor"`
	LastUsed string `json:"last_used"`
}

// grantColumns are the columns of a file of users, the first of which is needed.
var grantColumns = []string{"principal", "type", "factor", "last_used"}

// MaxGrants bounds a file of users: 100,000 are 8 MB.
const MaxGrants = 32 << 20

// ParseGrants reads what a warehouse's owner has exported: CSV with the columns
// principal, type, factor and last_used in any order, or JSON objects with those
// keys, one a line or in an array. Other columns and keys are left out.
func ParseGrants(src []byte) (list []Principal, err error) {
	src = bytes.TrimPrefix(src, bom)
	switch trimmed := bytes.TrimSpace(src); {
	case len(trimmed) == 0:
		return nil, errors.New("is empty")
	case trimmed[0] == '[':
		err = json.Unmarshal(trimmed, &list)
	case trimmed[0] == '{':
		list, err = grantObjects(trimmed)
	default:
		list, err = grantRows(src)
	}
	if err != nil {
		return nil, err
	}
	for i, p := range list {
		if strings.TrimSpace(p.Name) == "" {
			return nil, fmt.Errorf("user %d has no principal", i+1)
		}
	}
	return list, nil
}

func grantObjects(src []byte) (list []Principal, err error) {
	for dec := json.NewDecoder(bytes.NewReader(src)); ; {
		var p Principal
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("user %d: %w", len(list)+1, err)
		}
		list = append(list, p)
	}
}

func grantRows(src []byte) (list []Principal, err error) {
	rows, err := rowsOf(src)
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, name := range rows[0].cells {
		at[strings.ToLower(strings.TrimSpace(name))] = i
	}
	if _, ok := at[grantColumns[0]]; !ok {
		return nil, fmt.Errorf("has no column %q, want the columns %q", grantColumns[0], grantColumns)
	}
	for _, row := range rows[1:] {
		cell := func(name string) string {
			if i, ok := at[name]; ok && i < len(row.cells) {
				return undone(row.cells[i])
			}
			return ""
		}
		list = append(list, Principal{cell("principal"), cell("type"), cell("factor"), cell("last_used")})
	}
	return list, nil
}

// A csvRow is one row of a file, with its line.
type csvRow struct {
	line  int
	cells []string
}

// rowsOf reads CSV as spreadsheets write it. Rows without any text are left out.
func rowsOf(src []byte) (rows []csvRow, err error) {
	src = bytes.TrimPrefix(src, bom)
	first, _, _ := bytes.Cut(src, []byte("\n"))
	for _, separator := range []struct{ char, name string }{{";", "semicolons"}, {"\t", "tabs"}} {
		if bytes.Contains(first, []byte(separator.char)) && !bytes.Contains(first, []byte(",")) {
			return nil, fmt.Errorf("has %s between its cells, want commas: save it again as CSV UTF-8 with commas", separator.name)
		}
	}
	in := csv.NewReader(bytes.NewReader(src))
	in.FieldsPerRecord = -1
	for {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("is no CSV: %w", err)
		}
		line, _ := in.FieldPos(0)
		if slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" }) {
			rows = append(rows, csvRow{line, cells})
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("is empty")
	}
	return rows, nil
}

// String says how a principal logs in, and when it last did.
func (p Principal) String() string {
	text := "there"
	if p.Factor != "" {
		text += ", by " + p.Factor
	}
	if p.LastUsed != "" {
		text += ", last used " + p.LastUsed
	}
	return text
}

// absent is said of a rule's user that the warehouse does not have.
const absent = "not there"

// reconcile compares the rules with the users both ways.
func (a *Access) reconcile(users []Principal) {
	seen := make([]bool, len(users))
	for i := range a.Lines {
		l := &a.Lines[i]
		if l.Kind != lineAllow {
			continue
		}
		var found []string
		for j, u := range users {
			if l.uses(u.Name) {
				seen[j] = true
				found = append(found, printable(u.String()))
			}
		}
		switch {
		case len(found) > 0:
			l.InWarehouse = strings.Join(slices.Compact(found), "; ")
		case l.User != "" || l.Principal != "":
			l.InWarehouse = absent
		}
	}
	for j, u := range users {
		if seen[j] {
			continue
		}
		whole := sumOf(fmt.Appendf(nil, "%q %q %q", u.Name, u.Type, u.Factor))
		a.Lines = append(a.Lines, Line{
			Kind: lineUser, User: printable(u.Name), IdentityKind: printable(u.Type), InWarehouse: printable(u.String()) + ", and no rule",
			Fingerprint: fmt.Sprintf("sha256:%x", whole),
		})
	}
}

// uses reports whether the line logs in as a user: as its user, or by its
// principal, of which an ARN may be given by its last name.
func (l Line) uses(name string) bool {
	candidates := append(strings.Split(l.Principal, " then "), l.User)
	for _, c := range candidates {
		if c == "" {
			continue
		}
		_, last, isARN := strings.Cut(c, ":role/")
		if i := strings.LastIndexByte(last, '/'); i >= 0 {
			last = last[i+1:]
		}
		if filledLike(c, name) || isARN && filledLike(last, name) {
			return true
		}
	}
	return false
}

// filledLike reports whether a text is a value of the policy, in which
// `${claim}` is any text. Case does not matter, as in most warehouses.
func filledLike(value, text string) bool {
	value, text = strings.ToLower(value), strings.ToLower(text)
	var fixed []string
	for {
		before, after, found := strings.Cut(value, "${")
		fixed = append(fixed, before)
		if !found {
			break
		}
		_, value, _ = strings.Cut(after, "}")
	}
	if len(fixed) == 1 {
		return text == fixed[0]
	}
	last := fixed[len(fixed)-1]
	text, ok := strings.CutPrefix(text, fixed[0])
	if !ok || !strings.HasSuffix(text, last) {
		return false
	}
	text = strings.TrimSuffix(text, last)
	for _, f := range fixed[1 : len(fixed)-1] {
		if _, text, ok = strings.Cut(text, f); !ok {
			return false
		}
	}
	return true
}
