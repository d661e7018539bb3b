package wall

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const trinoPrefix = "http-server.authentication.jwt."

// A TrinoMapping is how a coordinator authenticates tokens, and as which users.
type TrinoMapping struct {
	issuer, audience, field string
	rules                   []trinoRule
}

// trinoRule is a rule of a user-mapping file.
type trinoRule struct {
	Pattern string  `json:"pattern"`
	User    *string `json:"user"`
	Allow   *bool   `json:"allow"`
	Case    string  `json:"case"`
	regexp  *javaPattern
}

// Trino reads a coordinator's config.properties and the file that its
// user-mapping.file names, nil if it names none. Its error is what Trino does
// not start with, or a regular expression that Java and Go do not share.
func Trino(properties, userMapping []byte) (*TrinoMapping, error) {
	config, err := javaProperties(properties)
	if err != nil {
		return nil, err
	}
	types := strings.Split(config["http-server.authentication.type"], ",")
	if !slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(strings.TrimSpace(t), "jwt") }) {
		return nil, errors.New("http-server.authentication.type does not have JWT")
	}
	if config[trinoPrefix+"key-file"] == "" {
		return nil, errors.New(trinoPrefix + "key-file is required")
	}
	m := &TrinoMapping{field: "sub"}
	m.issuer, m.audience = config[trinoPrefix+"required-issuer"], config[trinoPrefix+"required-audience"]
	if field := config[trinoPrefix+"principal-field"]; field != "" {
		m.field = field
	}
	pattern, hasPattern := config[trinoPrefix+"user-mapping.pattern"]
	_, hasFile := config[trinoPrefix+"user-mapping.file"]
	switch {
	case hasPattern && hasFile:
		return nil, errors.New("user mapping pattern and file can not both be set")
	case hasFile != (userMapping != nil):
		return nil, errors.New(trinoPrefix + "user-mapping.file and the file do not go together")
	case hasFile:
		var file struct {
			Rules []trinoRule `json:"rules"`
		}
		if err := read(userMapping, &file); err != nil {
			return nil, err
		}
		m.rules = file.Rules
	case hasPattern:
		m.rules = []trinoRule{{Pattern: pattern}}
	default:
		m.rules = []trinoRule{{Pattern: "(.*)"}}
	}
	if len(m.rules) == 0 {
		return nil, errors.New("rules list is empty")
	}
	for i := range m.rules {
		r := &m.rules[i]
		if c := strings.ToLower(r.Case); c != "" && c != "keep" && c != "lower" && c != "upper" {
			return nil, fmt.Errorf("rule %d: case is %q, cases are keep, lower and upper", i+1, r.Case)
		}
		if r.regexp, err = newJavaPattern(r.Pattern); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return m, nil
}

// User maps a token's principal. The first rule that matches all of it
// decides. What Trino then makes of it is Java's replaceAll, which finds
// again, and may find more than one match or another one.
func (m *TrinoMapping) User(claims map[string]any) (string, bool) {
	issuer, _ := text(claims, "iss")
	if m.issuer != "" && issuer != m.issuer || m.audience != "" && !anyIn(values(claims["aud"]), []string{m.audience}) {
		return "", false
	}
	principal, ok := claims[m.field].(string)
	if !ok {
		return "", false
	}
	for _, r := range m.rules {
		if !r.regexp.matches(principal) {
			continue
		}
		if r.Allow != nil && !*r.Allow {
			return "", false
		}
		user := "$1"
		if r.User != nil {
			user = *r.User
		}
		mapped, ok := r.regexp.replaceAll(principal, user)
		mapped = strings.TrimFunc(mapped, func(c rune) bool { return c <= ' ' })
		switch strings.ToLower(r.Case) {
		case "lower":
			mapped = strings.ToLower(mapped)
		case "upper":
			mapped = strings.ToUpper(mapped)
		}
		return mapped, ok && mapped != ""
	}
	return "", false
}

// Wall says who becomes one user.
func (m *TrinoMapping) Wall(user string) Wall {
	return func(claims map[string]any) (bool, error) {
		got, ok := m.User(claims)
		return ok && got == user, nil
	}
}
