package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const entraExport = "what `az ad app federated-credential list`, `az identity federated-credential list`, or `az rest` of Graph's beta/" +
	"applications/OBJECT_ID/federatedIdentityCredentials prints"

// An entraRow is a credential as Graph, az or Azure Resource Manager print it.
type entraRow struct {
	Name string `json:"name"`
	entraFields
	Properties *entraFields `json:"properties"` // where Azure Resource Manager has the fields
}

type entraFields struct {
	Issuer     string           `json:"issuer"`
	Subject    string           `json:"subject"`
	Expression *entraExpression `json:"claimsMatchingExpression"`
	Audiences  []string         `json:"audiences"`
}

func readEntra(d Demand, files []File) (Reading, error) {
	r := &entraReader{d: d}
	if e, err := d.entraIdentity(); err == nil {
		r.own, _, _ = e.credentials() // none where the rules are over a limit
	}
	var list []entraRow
	for _, f := range files {
		rows, err := entraRows(f)
		if err != nil {
			return Reading{}, err
		}
		for _, row := range rows {
			list = addRow(list, row)
		}
	}
	if n := len(list); n > maxEntraCredentials {
		r.add("over-limit", "error", "there are %d credentials, and an application or managed identity has at most %d: the files are of several",
			n, maxEntraCredentials)
	}
	for _, row := range list {
		r.admits = append(r.admits, r.credential(row))
	}
	return Reading{Admits: logic.Or(r.admits...), Findings: r.findings}, nil
}

// trusts reports whether a rule names an issuer.
func (d Demand) trusts(issuer string) bool {
	return slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.Identity.Issuer == issuer })
}

// entraRows reads a list, Graph's page of one, or one credential.
func entraRows(f File) (rows []entraRow, err error) {
	var page struct {
		Value json.RawMessage `json:"value"`
		Next  string          `json:"@odata.nextLink"`
		entraRow
	}
	list := f.Text
	if err = json.Unmarshal(f.Text, &page); err == nil {
		if list = page.Value; list == nil {
			list, _ = json.Marshal([]entraRow{page.entraRow}) // texts only
		}
	}
	if err = json.Unmarshal(list, &rows); err != nil {
		return nil, usage("%s: want %s: %v", f.Name, entraExport, err)
	}
	if page.Next != "" {
		return nil, usage("%s: the list goes on at %q: want all of it", f.Name, page.Next)
	}
	for i := range rows {
		if rows[i].Properties != nil {
			rows[i].entraFields = *rows[i].Properties
		}
		if rows[i].Issuer == "" {
			return nil, usage("%s: credential %d has no issuer: want %s", f.Name, i+1, entraExport)
		}
	}
	return rows, nil
}

// addRow adds a credential, or what an export says more of one: version 1.0 of
// Graph does not show expressions.
func addRow(list []entraRow, row entraRow) []entraRow {
	i := slices.IndexFunc(list, func(have entraRow) bool { return have.Name == row.Name && have.Issuer == row.Issuer && row.Name != "" })
	if i < 0 {
		return append(list, row)
	}
	switch have := &list[i]; {
	case have.Subject == "" && have.Expression == nil:
		*have = row
	case row.Subject != "" && row.Subject != have.Subject, row.Expression != nil && have.Expression == nil:
		return append(list, row)
	}
	return list
}

type entraReader struct {
	d        Demand
	own      []entraCredential // what is generated for the policy
	admits   []logic.Formula
	findings []Finding
}

func (r *entraReader) add(name, severity, format string, args ...any) {
	r.findings = append(r.findings, Finding{Name: name, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

// undecided is what a credential admits that cannot be evaluated.
func (r *entraReader) undecided(format string, args ...any) logic.Formula {
	return logic.Undecided(fmt.Sprintf(format, args...))
}

// credential returns what a credential admits, and finds what is wrong with it.
func (r *entraReader) credential(row entraRow) logic.Formula {
	where := fmt.Sprintf("credential %q", row.Name)
	if !r.d.trusts(row.Issuer) {
		r.add("other-issuer", "error", "%s trusts the issuer %q, which no rule of target %q names: its tokens log in, too; remove it",
			where, row.Issuer, r.d.Target.Name())
	}
	if len(row.Audiences) == 0 {
		r.add("missing-audience", "error", "%s has no audience: give it %q", where, r.d.Audience())
		return r.undecided("%s has no audience", where)
	}
	head := logic.And(logic.Equals("iss", row.Issuer), logic.Equals("aud", row.Audiences...))
	switch {
	case row.Expression != nil:
		return logic.And(head, r.expression(where, row))
	case row.Subject == "":
		r.add("missing-subject", "error", "%s shows neither a subject nor an expression: export it by the beta version of Graph, which shows "+
			"flexible credentials", where)
		return logic.And(head, r.undecided("%s shows neither a subject nor an expression", where))
	}
	r.findings = append(r.findings, r.d.subjectFindings(where, row.Issuer, row.Subject)...)
	return logic.And(head, logic.Equals("sub", row.Subject))
}

// flexibleClaims are those of GitHub that an expression may compare. (Set up a
// flexible federated identity credential)
var flexibleClaims = []string{"sub", "repository_id", "repository_owner_id", "job_workflow_ref"}

// expression returns what the expression of a flexible credential admits.
func (r *entraReader) expression(where string, row entraRow) logic.Formula {
	if row.Expression.Version != 1 {
		return r.undecided("%s: version %d of the language of expressions", where, row.Expression.Version)
	}
	list, err := parseExpression(row.Expression.Value)
	if err != nil {
		return r.undecided("%s: expression %q: %v", where, row.Expression.Value, err)
	}
	for _, c := range list {
		if row.Issuer == flexibleIssuer && !slices.Contains(flexibleClaims, c.claim) {
			r.add("key-not-read", "warning", "%s compares %s, and Entra ID compares %s of GitHub's claims only", where, c.claim,
				strings.Join(flexibleClaims, ", "))
			return r.undecided("%s: what Entra ID makes of claim %s", where, c.claim)
		}
		if c.operator == "eq" && strings.ContainsAny(c.text, "*?") {
			r.add("wildcard-under-exact-operator", "warning", "%s compares %s by eq with %q, whose wildcard matches nothing: write matches",
				where, c.claim, c.text)
		}
	}
	if r.d.github(row.Issuer) && !r.generated(row) {
		r.width(where, list)
	}
	return list.formula()
}

// generated reports whether a credential is as the policy's own would be.
func (r *entraReader) generated(row entraRow) bool {
	return slices.ContainsFunc(r.own, func(c entraCredential) bool {
		return c.Expression != nil && c.Issuer == row.Issuer && *c.Expression == *row.Expression
	})
}

// of returns the comparison of a claim, the zero one where there is none.
func (list entraComparisons) of(claim string) entraComparison {
	for _, c := range list {
		if c.claim == claim {
			return c
		}
	}
	return entraComparison{}
}

// width finds expressions that hold too little.
func (r *entraReader) width(where string, list entraComparisons) {
	byID := func(claim string) bool { return list.of(claim).operator == "eq" }
	if !byID("repository_id") && !byID("repository_owner_id") {
		r.add("flexible-without-id", "warning", "%s compares no id by eq: Entra ID refuses such new credentials, and who gets the name after a "+
			"deletion or a renaming has the login; compare repository_id", where)
	}
	sub := list.of("sub")
	if sub.claim == "" {
		r.add("missing-subject", "error", "%s does not compare sub", where)
		return
	}
	rest, repo := strings.CutPrefix(sub.text, "repo:")
	full, context, hasContext := strings.Cut(rest, ":")
	owner, name, _ := strings.Cut(full, "/")
	wild := func(text string) bool {
		return sub.operator == "matches" && strings.ContainsAny(strings.TrimSuffix(text, "@*"), "*?")
	}
	switch {
	case byID("repository_id"):
	case !repo && !wild(sub.text[:min(len(sub.text), len("repo:"))]):
		r.add("customised-subject", "error", "%s compares sub with %q, which does not begin with the repository, so any repository can have "+
			"it: begin with repo:OWNER/REPOSITORY", where, sub.text)
	case (!repo || wild(owner)) && !byID("repository_owner_id"):
		r.add("wide-subject", "error", "%s matches sub with %q, which other owners' repositories have, too: write the whole owner, and compare "+
			"repository_owner_id", where, sub.text)
	case (!repo || wild(owner) || wild(name) || name == "") && list.of("job_workflow_ref").claim == "":
		r.add("wide-subject", "error", "%s matches sub with %q, which any repository of the owner has: compare repository_id, or "+
			"job_workflow_ref", where, sub.text)
	}
	if sub.operator == "matches" && (!hasContext || strings.Trim(context, "*?") == "") {
		r.add("wide-subject", "warning", "%s matches sub with %q, so any branch, event and environment of the repository: write what comes "+
			"behind it", where, sub.text)
	}
}

var entraComparisonText = lazy.MustCompile(`^claims\['([^']+)'\] ([A-Za-z]+) '([^']*)'`)

// parseExpression reads entraComparisons that `and` joins: the language has no other
// operator between them.
func parseExpression(text string) (list entraComparisons, err error) {
	for rest := text; ; {
		m := entraComparisonText.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("want claims['NAME'] OPERATOR 'VALUE' at %q", rest)
		}
		if m[2] != "eq" && m[2] != "matches" {
			return nil, fmt.Errorf("operator %q is not eq or matches", m[2])
		}
		list = append(list, entraComparison{m[1], m[2], m[3]})
		rest = rest[len(m[0]):]
		switch after, ok := strings.CutPrefix(rest, " and "); {
		case rest == "":
			return list, nil
		case strings.HasPrefix(rest, "'"):
			return nil, errors.New("how a single quote in a value is read is not specified")
		case !ok:
			return nil, fmt.Errorf("want ` and ` at %q", rest)
		default:
			rest = after
		}
	}
}
