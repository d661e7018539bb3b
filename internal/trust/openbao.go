package trust

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// openbaoLanguage is a CEL role of OpenBao's JWT auth method: a program that
// sees all claims, and says all that a policy says.
// (OpenBao: path_cel_role.go, path_cel_login.go; tried on 2.7.2)
var openbaoLanguage = language{nested: true, generate: generateOpenBao, read: readOpenBao, rotate: rotateOpenBao, revoke: revokeOpenBao}

// Limits of a program, found out on OpenBao 2.7.2.
const (
	celProgramLimit  = 100_000 // code points of one expression
	celVariableLimit = 200     // a request has 1,000 strings at most, and a variable takes four
)

// An openbaoRole is the role as `bao write` takes it.
type openbaoRole struct {
	// BoundAudiences is a list: a text is split at commas, and a role without
	// it takes tokens for any audience.
	BoundAudiences []string       `json:"bound_audiences"`
	Program        openbaoProgram `json:"cel_program"`
}

type openbaoProgram struct {
	Variables  []openbaoVariable `json:"variables"`
	Expression string            `json:"expression"`
}

// An openbaoVariable must be true or false for every token: one that fails
// refuses the token whatever the others are.
type openbaoVariable struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

func generateOpenBao(d Demand) (Wall, error) {
	w := Wall{}
	s, err := newVaultServer(d, "bao")
	if err != nil {
		return w, err
	}
	role, err := d.openbaoRole(s, &w)
	if err != nil {
		return w, err
	}
	w.Documents = []Document{{"vault.json", asJSON(role)}, s.policyDocument()}
	t := newTerraform()
	name := hclName(s.role)
	s.terraformMethod(t)
	s.terraformPolicy(t, name)
	s.terraformEndpoint(t, name, "cel/role/"+s.role, role)
	w.Terraform = t.String()
	w.Script = s.script(w.Documents[0].Text)
	w.Notes = s.notes()
	return w, nil
}

func (d Demand) openbaoRole(s vaultServer, w *Wall) (role openbaoRole, err error) {
	var own []Rule
	var admits []logic.Formula
	for _, r := range d.Rules {
		out := report(r)
		if r.Identity.Issuer == s.issuer.Issuer {
			own = append(own, r)
			admits = append(admits, r.Formula())
			for _, c := range r.Conditions {
				out.enforces(c.Claim)
			}
		} else {
			out.narrower("iss", s.otherIssuer(), "a target of its own for that identity, with another auth_path")
		}
		w.Rules = append(w.Rules, out)
	}
	var deny []Rule
	for _, r := range d.Deny {
		if r.Identity.Issuer == s.issuer.Issuer {
			deny = append(deny, r)
		}
	}
	p := &role.Program
	admit, err := s.variables(p, "rule", own)
	if err != nil {
		return role, err
	}
	denied, err := s.variables(p, "deny", deny)
	if err != nil {
		return role, err
	}
	if denied != "" {
		admit = "(" + admit + ") && !(" + denied + ")"
	}
	p.Expression = admit + " ? " + s.auth() + " : false"
	role.BoundAudiences = []string{d.Audience()}
	w.Admits = logic.And(logic.Equals("iss", s.issuer.Issuer), logic.Equals("aud", d.Audience()), logic.Or(admits...),
		logic.Not(d.DenyFormula()))
	return role, nil
}

// variables adds the rules to a program, one in each variable where there are
// few, and returns the condition that one of them matches, "" for no rule. The
// issuer is checked by the auth method.
func (s vaultServer) variables(p *openbaoProgram, name string, rules []Rule) (string, error) {
	var names []string
	each := (len(rules) + celVariableLimit/2 - 1) / (celVariableLimit / 2)
	for i := 0; i < len(rules); i += each {
		parts := make([]celCode, 0, each)
		for _, r := range rules[i:min(i+each, len(rules))] {
			parts = append(parts, s.celWriter().write(r.conditions()))
		}
		v := openbaoVariable{name + strconv.Itoa(len(names)+1), celAnyOf(parts...).text}
		if n := utf8.RuneCountInString(v.Expression); n > celProgramLimit {
			return "", usage("the program for %s has %d characters, and OpenBao takes %d in an expression: spread the rules over several targets",
				rules[i].label(), n, celProgramLimit)
		}
		names = append(names, v.Name)
		p.Variables = append(p.Variables, v)
	}
	return strings.Join(names, " || "), nil
}

// celWriter writes conditions that are true or false for every token.
func (s vaultServer) celWriter() celWriter {
	return celWriter{
		root:  "claims",
		sure:  func(string) bool { return false },
		list:  func(claim string) bool { return policy.MayBeList(s.issuer.Kind, claim) },
		typed: true,
	}
}

// auth is what a program returns for a token that it admits. `policies` counts
// there, and not token_policies; lease_options must have issue_time.
func (s vaultServer) auth() string {
	policies := make([]string, len(s.policies))
	for i, p := range s.policies {
		policies[i] = celText(p)
	}
	metadata := "'role': " + celText(s.role)
	if s.issuer.Kind == "github" {
		metadata += ", 'sub': claims.sub, 'run_id': claims.run_id"
	}
	return fmt.Sprintf("pb.Auth{policies: [%s], alias: logical.Alias{name: claims.%s}, metadata: {%s}, "+
		"lease_options: pb.LeaseOptions{TTL: %d, MaxTTL: %d, renewable: true, issue_time: now}}",
		strings.Join(policies, ", "), s.userClaim(), metadata, s.duration(s.ttl), s.duration(s.maxTTL))
}
