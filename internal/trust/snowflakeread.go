package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const snowflakeExport = "what `snow sql --format json --query 'SHOW USER WORKLOAD IDENTITY AUTHENTICATION METHODS FOR USER …'` prints"

// A snowflakeRow is a row of SHOW USER WORKLOAD IDENTITY AUTHENTICATION METHODS,
// of SHOW USERS, or of DESCRIBE USER, as `snow` prints them.
type snowflakeRow struct {
	Name     string          `json:"name"`
	Type     string          `json:"type"`
	Status   string          `json:"status"`
	Disabled any             `json:"disabled"`
	Info     json.RawMessage `json:"additional_info"`
	// SHOW USERS
	Password any `json:"has_password"`
	Key      any `json:"has_rsa_public_key"`
	PAT      any `json:"has_pat"`
	// DESCRIBE USER
	Property string `json:"property"`
	Value    any    `json:"value"`
}

// snowflakeInfo is what additional_info says of an identity.
type snowflakeInfo struct {
	Issuer    string `json:"issuer"`
	Subject   string `json:"subject"`
	Audiences any    `json:"audienceList"`
	Account   string `json:"awsAccount"`
	Role      string `json:"iamRole"`
}

func readSnowflake(d Demand, files []File) (Reading, error) {
	r := &snowflakeReader{d: d}
	for _, f := range files {
		rows, err := rowsIn(f)
		if err != nil {
			return Reading{}, err
		}
		for i, row := range rows {
			if err := r.row(f.Name, i+1, row); err != nil {
				return Reading{}, err
			}
		}
		r.listed = r.listed || len(rows) == 0
	}
	if !r.listed {
		return Reading{}, usage("%s: no list of workload identities: want %s", files[0].Name, snowflakeExport)
	}
	return Reading{Admits: logic.Or(r.admits...), Findings: r.findings}, nil
}

// rowsIn reads rows of one statement, or of several.
func rowsIn(f File) (rows []snowflakeRow, err error) {
	if err = json.Unmarshal(f.Text, &rows); err == nil {
		return rows, nil
	}
	var several [][]snowflakeRow
	if json.Unmarshal(f.Text, &several) == nil {
		return slices.Concat(several...), nil
	}
	return nil, usage("%s: want %s: %v", f.Name, snowflakeExport, err)
}

type snowflakeReader struct {
	d        Demand
	listed   bool // a file lists workload identities, or none
	admits   []logic.Formula
	findings []Finding
}

func (r *snowflakeReader) add(name, severity, format string, args ...any) {
	r.findings = append(r.findings, Finding{Name: name, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

func (r *snowflakeReader) row(file string, number int, row snowflakeRow) error {
	switch {
	case row.Property != "":
		r.property(file, row)
		return nil
	case row.Info != nil:
		r.listed = true
		return r.identity(file, number, row)
	case row.Password != nil || row.Key != nil || row.Disabled != nil:
		r.user(file, row)
		return nil
	}
	return usage("%s: row %d is neither a workload identity nor a user: want %s", file, number, snowflakeExport)
}

// isTrue reads a column of Snowflake's, which is a boolean or its text.
func isTrue(value any) bool {
	text := strings.ToLower(fmt.Sprint(value))
	return text == "true" || text == "yes" || text == "y"
}

// user finds other ways to log in.
func (r *snowflakeReader) user(file string, row snowflakeRow) {
	where := fmt.Sprintf("%s: user %q", file, row.Name)
	if row.Type != "" && row.Type != "SERVICE" {
		r.add("not-a-service-user", "warning", "%s is of type %s, which may log in with a password: set TYPE = SERVICE", where, row.Type)
	}
	for _, way := range []struct {
		has  any
		what string
	}{{row.Password, "a password"}, {row.Key, "a key"}, {row.PAT, "a programmatic access token"}} {
		if isTrue(way.has) {
			r.add("other-login", "warning", "%s also has %s: who has it needs no ID token; unset it, or attach an "+
				"authentication policy", where, way.what)
		}
	}
}

// property finds the same in DESCRIBE USER.
func (r *snowflakeReader) property(file string, row snowflakeRow) {
	value := fmt.Sprint(row.Value)
	set := row.Value != nil && value != "" && value != "null" && value != "false"
	switch {
	case row.Property == "TYPE" && set && value != "SERVICE":
		r.add("not-a-service-user", "warning", "%s: the user is of type %s, which may log in with a password: set TYPE = SERVICE", file, value)
	case set && slices.Contains([]string{"PASSWORD", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "HAS_PAT"}, row.Property):
		r.add("other-login", "warning", "%s: the user also has %s: who has it needs no ID token; unset it, or attach an authentication policy",
			file, row.Property)
	}
}

// identity adds what a workload identity admits.
func (r *snowflakeReader) identity(file string, number int, row snowflakeRow) error {
	where := fmt.Sprintf("%s: workload identity %d (%s)", file, number, row.Name)
	info, err := infoOf(row.Info)
	if err != nil {
		return usage("%s: additional_info is not JSON: want %s: %v", where, snowflakeExport, err)
	}
	if strings.EqualFold(row.Status, "DISABLED") || isTrue(row.Disabled) {
		r.add("disabled", "note", "%s is disabled and admits nothing", where)
		return nil
	}
	if row.Type != "OIDC" {
		r.add("other-identity", "warning", "%s is of type %s: it is another way to log in this user than the policy's", where, row.Type)
		return nil
	}
	if info.Subject == "" || info.Issuer == "" {
		r.add("missing-subject", "error", "%s has no issuer or no subject", where)
		r.admits = append(r.admits, logic.Undecided(where+" has no issuer or no subject"))
		return nil
	}
	audiences, ok := info.audiences()
	if len(audiences) == 0 {
		audiences = []string{snowflakeAudience}
	}
	audience := logic.Equals("aud", audiences...)
	if !ok {
		audience = logic.Undecided(where + ": audienceList is no list of texts")
	}
	r.findings = append(r.findings, r.d.subjectFindings(where, info.Issuer, info.Subject)...)
	r.admits = append(r.admits, logic.And(audience, exact{info.Issuer, info.Subject}.formula()))
	return nil
}

// infoOf reads an object, or its text.
func infoOf(raw json.RawMessage) (info snowflakeInfo, err error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = []byte(text)
	}
	err = json.Unmarshal(raw, &info)
	return info, err
}

// audiences are those of the list; ok is false where it is none.
func (i snowflakeInfo) audiences() (list []string, ok bool) {
	switch v := i.Audiences.(type) {
	case nil:
	case string:
		list = strings.FieldsFunc(strings.Trim(v, "[]"), func(r rune) bool { return r == ',' || r == ' ' || r == '"' })
	case []any:
		for _, a := range v {
			text, ok := a.(string)
			if !ok {
				return nil, false
			}
			if text != "" {
				list = append(list, text)
			}
		}
	default:
		return nil, false
	}
	return list, true
}
