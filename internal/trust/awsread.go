package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// An iamPolicy is a trust policy as it was read.
type iamPolicy struct {
	variables  bool // version 2012-10-17
	statements []iamStatement
}

// An iamStatement is one statement. What it says of others than web identities
// is in others.
type iamStatement struct {
	label      string // how findings call it
	deny       bool
	anyone     bool     // its principal is "*"
	notThese   bool     // it has NotPrincipal
	issuers    []string // without https://
	others     []string // other principals that it is for
	web        bool     // about AssumeRoleWithWebIdentity
	actions    []string
	conditions []iamCondition
}

// An iamCondition is one key under one operator.
type iamCondition struct {
	name     string // the operator as it is written
	set      string // "", "ForAllValues" or "ForAnyValue"
	operator string // without set and IfExists
	ifExists bool
	key      string
	values   []string
}

// parseIAM reads a trust policy.
func parseIAM(name string, text []byte) (p iamPolicy, err error) {
	var doc struct {
		Version   string
		Statement json.RawMessage
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return p, usage("%s: the trust policy is not JSON: %v", name, err)
	}
	p.variables = doc.Version == "2012-10-17"
	var list []json.RawMessage
	if trimmed := bytes.TrimSpace(doc.Statement); bytes.HasPrefix(trimmed, []byte("{")) {
		list = []json.RawMessage{trimmed}
	} else if json.Unmarshal(doc.Statement, &list) != nil || len(list) == 0 {
		return p, usage("%s: the trust policy has no Statement", name)
	}
	for i, raw := range list {
		s, err := parseIAMStatement(raw)
		if err != nil {
			return p, usage("%s, statement %d: %v", name, i+1, err)
		}
		s.label = fmt.Sprintf("statement %d", i+1)
		if sid := sidOf(raw); sid != "" {
			s.label = fmt.Sprintf("statement %q", sid)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func sidOf(raw json.RawMessage) string {
	var s struct{ Sid string }
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s.Sid
}

func parseIAMStatement(raw json.RawMessage) (s iamStatement, err error) {
	var element struct {
		Effect                      string
		Principal, NotPrincipal     json.RawMessage
		Action, NotAction, Resource json.RawMessage
		NotResource                 json.RawMessage
		Condition                   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(raw, &element); err != nil {
		return s, fmt.Errorf("not a statement: %w", err)
	}
	if element.Effect != "Allow" && element.Effect != "Deny" {
		return s, fmt.Errorf("its Effect is %q, want Allow or Deny", element.Effect)
	}
	if element.Resource != nil || element.NotResource != nil {
		return s, fmt.Errorf(
			"it has Resource, which a trust policy cannot have: want the role's trust, not its permissions")
	}
	s.deny = element.Effect == "Deny"
	switch {
	case element.Principal != nil:
		err = s.principal(element.Principal)
	case element.NotPrincipal != nil:
		s.notThese = true
	default:
		err = fmt.Errorf("it has no Principal: want the role's trust, not its permissions")
	}
	if err != nil {
		return s, err
	}
	if err := s.action(element.Action, element.NotAction); err != nil {
		return s, err
	}
	for _, name := range slices.Sorted(maps.Keys(element.Condition)) {
		for _, key := range slices.Sorted(maps.Keys(element.Condition[name])) {
			values, err := scalars(element.Condition[name][key])
			if err != nil {
				return s, fmt.Errorf("condition %s of %s: %w", name, key, err)
			}
			c := iamCondition{name: name, key: key, values: values}
			set, rest, ok := strings.Cut(name, ":")
			if ok {
				c.set = set
			} else {
				rest = name
			}
			c.operator, c.ifExists = strings.CutSuffix(rest, "IfExists")
			s.conditions = append(s.conditions, c)
		}
	}
	return s, nil
}

var oidcProviderARN = lazy.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/(.+)$`)

func (s *iamStatement) principal(raw json.RawMessage) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if text != "*" {
			return fmt.Errorf("its Principal is %q, want \"*\" or an object", text)
		}
		s.anyone = true
		return nil
	}
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(raw, &kinds); err != nil {
		return fmt.Errorf("its Principal: %w", err)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		names, err := scalars(kinds[kind])
		if err != nil {
			return fmt.Errorf("its Principal %s: %w", kind, err)
		}
		for _, name := range names {
			switch m := oidcProviderARN.FindStringSubmatch(name); {
			case kind == "Federated" && m != nil:
				s.issuers = append(s.issuers, m[1])
			case kind == "Federated" && !strings.HasPrefix(name, "arn:"):
				s.issuers = append(s.issuers, name)
			case name == "*": // of whatever kind: IAM takes it for AWS only
				s.anyone = true
			default:
				s.others = append(s.others, name)
			}
		}
	}
	return nil
}

func (s *iamStatement) action(action, not json.RawMessage) error {
	if action == nil && not == nil {
		return fmt.Errorf("it has no Action")
	}
	raw := action
	if raw == nil {
		raw = not
	}
	var err error
	if s.actions, err = scalars(raw); err != nil {
		return fmt.Errorf("its Action: %w", err)
	}
	named := slices.ContainsFunc(s.actions, func(a string) bool {
		return logic.Glob(strings.ToLower(a), true).Contains(strings.ToLower(webIdentity))
	})
	s.web = named == (action != nil)
	return nil
}

// scalars reads a string, number or boolean, or a list of them.
func scalars(raw json.RawMessage) (list []string, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	items, ok := value.([]any)
	if !ok {
		items = []any{value}
	}
	for _, item := range items {
		switch item := item.(type) {
		case string, bool, json.Number:
			list = append(list, fmt.Sprint(item))
		default:
			return nil, fmt.Errorf("%s is neither a text nor a list of texts", raw)
		}
	}
	return list, nil
}

// admits is met by the tokens of identities that the policy lets call
// AssumeRoleWithWebIdentity.
func (p iamPolicy) admits(identities []policy.Identity) logic.Formula {
	var allow, deny []logic.Formula
	for _, s := range p.statements {
		if !s.web {
			continue
		}
		f := s.formula(identities, p.variables)
		if s.deny {
			deny = append(deny, f)
		} else {
			allow = append(allow, f)
		}
	}
	return logic.And(logic.Or(allow...), logic.Not(logic.Or(deny...)))
}

func (s iamStatement) formula(identities []policy.Identity, variables bool) logic.Formula {
	var parts []logic.Formula
	for _, id := range identities {
		if !s.anyone && !s.notThese && !slices.Contains(s.issuers, bare(id.Issuer)) {
			continue
		}
		all := []logic.Formula{logic.Equals("iss", id.Issuer)}
		if s.notThese {
			all = append(all, logic.Undecided(s.label+" has NotPrincipal"))
		}
		for _, c := range s.conditions {
			all = append(all, c.formula(s.label, id, variables))
		}
		parts = append(parts, logic.And(all...))
	}
	return logic.Or(parts...)
}

// formula is what a block of ours comes to.
func (b awsBlock) formula(id policy.Identity) logic.Formula {
	var parts []logic.Formula
	for op, claims := range b {
		for claim, values := range claims {
			set, operator, ok := strings.Cut(op, ":")
			if !ok {
				set, operator = "", op
			}
			c := iamCondition{
				name:     op,
				set:      set,
				operator: operator,
				key:      bare(id.Issuer) + ":" + claim,
				values:   values,
			}
			parts = append(parts, c.formula("", id, true))
		}
	}
	return logic.And(parts...)
}

// iamOperators are those on texts: whether the condition is negated, wildcards
// are read, and letter case is ignored. (IAM User Guide, "IAM JSON policy
// elements: Condition operators")
var iamOperators = map[string]struct{ negated, wild, fold bool }{
	opEquals: {}, "StringNotEquals": {negated: true}, opIgnoreCase: {fold: true},
	opNotIgnoring: {negated: true, fold: true}, opLike: {wild: true}, opNotLike: {negated: true, wild: true},
}

// claim returns the claim of an issuer's tokens that a key has, "" where
// nothing is behind the key. foreign is set for keys that no token decides.
func (c iamCondition) claim(issuer string) (claim string, foreign bool) {
	i := strings.LastIndex(c.key, ":")
	if i < 0 || !strings.Contains(c.key[:i], ".") {
		return "", true
	}
	name := strings.ToLower(c.key[i+1:])
	switch {
	case !strings.EqualFold(c.key[:i], bare(issuer)):
		return "", false
	case name == "oaud", name == "amr":
		return name, false
	case awsReads(issuer, name):
		return name, false
	}
	return "", false
}

// formula is met by the tokens of an issuer that meet the condition. A key that
// the request does not have is a mismatch, which the negated operators want;
// with IfExists and ForAllValues it is no matter.
func (c iamCondition) formula(label string, id policy.Identity, variables bool) logic.Formula {
	claim, foreign := c.claim(id.Issuer)
	op, known := iamOperators[c.operator]
	switch {
	case foreign:
		return logic.Undecided(fmt.Sprintf("%s: %s is not in the token", label, c.key))
	case claim == "":
		return c.absent(op.negated)
	case claim == "oaud":
		return c.on("aud", label, variables)
	case claim == "aud" && mayHaveAZP(id.Kind):
		return logic.Or(logic.And(logic.Has("azp"), c.on("azp", label, variables)),
			logic.And(logic.Not(logic.Has("azp")), c.on("aud", label, variables)))
	case !known && c.operator != "Null":
		return logic.Undecided(fmt.Sprintf("%s: operator %s on %s", label, c.name, c.key))
	}
	return c.on(claim, label, variables)
}

// absent is the condition on a key that is never there.
func (c iamCondition) absent(negated bool) logic.Formula {
	always := c.ifExists || c.set == "ForAllValues" || negated && c.set == ""
	if c.operator == "Null" {
		always = slices.ContainsFunc(c.values, func(v string) bool { return strings.EqualFold(v, "true") })
	}
	if always {
		return logic.Always()
	}
	return logic.Never()
}

func (c iamCondition) on(claim, label string, variables bool) logic.Formula {
	op, known := iamOperators[c.operator]
	if c.operator == "Null" {
		var parts []logic.Formula
		for _, v := range c.values {
			if strings.EqualFold(v, "true") {
				parts = append(parts, logic.Not(logic.Has(claim)))
			} else {
				parts = append(parts, logic.Has(claim))
			}
		}
		return logic.Or(parts...)
	}
	if !known {
		return logic.Undecided(fmt.Sprintf("%s: operator %s on %s", label, c.name, c.key))
	}
	var parts []logic.Formula
	for _, v := range c.values {
		in, ok := iamValue(v, op.wild, op.fold, variables)
		if !ok {
			parts = append(parts, logic.Undecided(fmt.Sprintf("%s: policy variable in %q", label, v)))
			continue
		}
		parts = append(parts, logic.Is(claim, in))
	}
	f := logic.Or(parts...)
	if op.negated {
		f = logic.Not(f)
		if c.set == "ForAnyValue" {
			f = logic.And(logic.Has(claim), f)
		}
	}
	if c.ifExists && c.set != "ForAnyValue" || c.set == "ForAllValues" {
		f = logic.Or(logic.Not(logic.Has(claim)), f)
	}
	return f
}

// iamValue is the texts that a value of a condition matches; ok is false where
// that depends on the request.
func iamValue(value string, wild, fold, variables bool) (in logic.Language, ok bool) {
	var expr, plain strings.Builder
	special := fold
	for value != "" {
		before, rest, found := value, "", false
		if variables {
			before, rest, found = strings.Cut(value, "${")
		}
		for _, r := range before {
			plain.WriteRune(r)
			switch {
			case wild && r == '*':
				special = true
				expr.WriteString(`(?s:.*)`)
			case wild && r == '?':
				special = true
				expr.WriteString(`(?s:.)`)
			default:
				expr.WriteString(regexp.QuoteMeta(string(r)))
			}
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name != "*" && name != "?" && name != "$" {
			return in, false
		}
		plain.WriteString(name)
		expr.WriteString(regexp.QuoteMeta(name))
		value = after
	}
	switch {
	case !special:
		return logic.Literal(plain.String()), true
	case fold:
		return whole(`(?i:` + expr.String() + `)`), true
	}
	return whole(expr.String()), true
}

// An iamRole is what `aws iam get-role` prints of a role.
type iamRole struct {
	Arn                      string
	MaxSessionDuration       int
	AssumeRolePolicyDocument json.RawMessage
}

// policyText returns the trust policy, which IAM's API encodes as a URL.
func (r iamRole) policyText(name string) ([]byte, error) {
	var encoded string
	if json.Unmarshal(r.AssumeRolePolicyDocument, &encoded) != nil {
		return r.AssumeRolePolicyDocument, nil
	}
	if strings.HasPrefix(strings.TrimSpace(encoded), "{") {
		return []byte(encoded), nil
	}
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return nil, usage("%s: AssumeRolePolicyDocument is neither JSON nor encoded as a URL: %v", name, err)
	}
	return []byte(text), nil
}
