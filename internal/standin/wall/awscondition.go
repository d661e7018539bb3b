package wall

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// An awsRequest is what the token brings to the request's context.
type awsRequest struct {
	issuer string              // without https://
	keys   map[string][]string // by the name after the issuer, in lower case
}

// newAWSRequest has the keys that AWS documents for the issuer, and no
// others: a claim without a key is never in the context.
func newAWSRequest(claims map[string]any) awsRequest {
	issuer, _ := text(claims, "iss")
	r := awsRequest{strings.TrimPrefix(issuer, "https://"), map[string][]string{}}
	names := map[string]string{"sub": "sub", "aud": "aud", "oaud": "aud", "amr": "amr", "email": "email"}
	if _, ok := text(claims, "azp"); ok {
		names["aud"] = "azp"
	}
	if r.issuer == gitHubIssuer {
		for _, key := range gitHubKeys {
			names[key] = key
		}
	}
	for key, claim := range names {
		if v := values(claims[claim]); len(v) > 0 {
			r.keys[key] = v
		}
	}
	return r
}

// lookup returns a key's values. Names of keys ignore case. A key of another
// issuer is absent; one that does not belong to an issuer is not in the token.
func (r awsRequest) lookup(key string) ([]string, error) {
	i := strings.LastIndex(key, ":")
	if prefix := key[:i]; !strings.Contains(prefix, ".") {
		return nil, fmt.Errorf("condition key %q is not decided by the token", key)
	} else if !strings.EqualFold(prefix, r.issuer) {
		return nil, nil
	}
	return r.keys[strings.ToLower(key[i+1:])], nil
}

// A condition is one key under one operator.
type condition struct {
	set       string // "", "ForAllValues" or "ForAnyValue"
	operator  string // without set and IfExists
	ifExists  bool
	key       string
	values    []string
	variables bool // since version 2012-10-17
}

// An awsOperator is one of IAM's JSON policy elements, "Condition operators".
type awsOperator struct {
	negated bool
	matches func(pattern []glyph, value string) bool // nil: about types that no claim has
}

var awsOperators = map[string]awsOperator{
	"StringEquals":              {false, equal},
	"StringNotEquals":           {true, equal},
	"StringEqualsIgnoreCase":    {false, equalFold},
	"StringNotEqualsIgnoreCase": {true, equalFold},
	"StringLike":                {false, like},
	"StringNotLike":             {true, like},
	"Bool":                      {false, equalFold},
	"NumericEquals":             {false, numeric(func(v, p float64) bool { return v == p })},
	"NumericNotEquals":          {true, numeric(func(v, p float64) bool { return v == p })},
	"NumericLessThan":           {false, numeric(func(v, p float64) bool { return v < p })},
	"NumericLessThanEquals":     {false, numeric(func(v, p float64) bool { return v <= p })},
	"NumericGreaterThan":        {false, numeric(func(v, p float64) bool { return v > p })},
	"NumericGreaterThanEquals":  {false, numeric(func(v, p float64) bool { return v >= p })},
	"Null":                      {false, nil},
	"ArnEquals":                 {false, nil},
	"ArnLike":                   {false, nil},
	"ArnNotEquals":              {true, nil},
	"ArnNotLike":                {true, nil},
	"BinaryEquals":              {false, nil},
	"IpAddress":                 {false, nil},
	"NotIpAddress":              {true, nil},
	"DateEquals":                {false, nil},
	"DateNotEquals":             {true, nil},
	"DateLessThan":              {false, nil},
	"DateLessThanEquals":        {false, nil},
	"DateGreaterThan":           {false, nil},
	"DateGreaterThanEquals":     {false, nil},
}

func readConditions(raw json.RawMessage, version string) ([]condition, error) {
	var blocks map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &blocks); err != nil {
		return nil, errors.New("condition is no object of objects")
	}
	var conditions []condition
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		set, rest, ok := strings.Cut(name, ":")
		if !ok {
			set, rest = "", name
		}
		base, ifExists := strings.CutSuffix(rest, "IfExists")
		if _, known := awsOperators[base]; !known || ok && set != "ForAllValues" && set != "ForAnyValue" ||
			base == "Null" && (ifExists || ok) {
			return nil, fmt.Errorf("condition has the unknown operator %q", name)
		}
		for _, key := range slices.Sorted(maps.Keys(blocks[name])) {
			if !strings.Contains(key, ":") {
				return nil, fmt.Errorf("condition %s: the key %q has no prefix", name, key)
			}
			var value any
			if err := json.Unmarshal(blocks[name][key], &value); err != nil {
				return nil, err
			}
			c := condition{set, base, ifExists, key, values(value), version == "2012-10-17"}
			if err := c.check(); err != nil {
				return nil, fmt.Errorf("condition %s of %s: %w", name, key, err)
			}
			conditions = append(conditions, c)
		}
	}
	return conditions, nil
}

func (c condition) check() error {
	for _, v := range c.values {
		truth := strings.EqualFold(v, "true") || strings.EqualFold(v, "false") || strings.HasPrefix(v, "${")
		if (c.operator == "Bool" || c.operator == "Null") && !truth {
			return fmt.Errorf("value %q is neither true nor false", v)
		}
		if c.variables {
			if _, err := c.glyphs(v, func(string) ([]string, error) { return []string{""}, nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds follows "Condition operators" and "Set operators for multivalued
// context keys". A key that is not in the context is a mismatch, which makes
// the negated operators true; IfExists and ForAllValues are then true as
// well, ForAnyValue is false.
func (c condition) holds(r awsRequest) (bool, error) {
	got, err := r.lookup(c.key)
	if err != nil {
		return false, err
	}
	null := !slices.ContainsFunc(got, func(v string) bool { return v != "" })
	op := awsOperators[c.operator]
	switch {
	case c.operator == "Null":
		want := strconv.FormatBool(null)
		return slices.ContainsFunc(c.values, func(v string) bool { return strings.EqualFold(v, want) }), nil
	case c.set == "ForAllValues" && null:
		return true, nil
	case c.set == "ForAnyValue" && len(got) == 0:
		return false, nil
	case len(got) == 0:
		return c.ifExists || op.negated, nil
	case op.matches == nil:
		return false, fmt.Errorf("operator %s is not about strings: %s does not decide it", c.operator, c.key)
	case c.set == "" && len(got) > 1:
		return false, fmt.Errorf("%s has %d values, and %s is about one", c.key, len(got), c.operator)
	}
	patterns := make([][]glyph, len(c.values))
	for i, v := range c.values {
		if patterns[i], err = c.glyphs(v, r.lookup); err != nil {
			return false, err
		}
	}
	one := func(value string) bool {
		hit := slices.ContainsFunc(patterns, func(p []glyph) bool { return op.matches(p, value) })
		return hit != op.negated
	}
	if c.set == "ForAllValues" {
		return !slices.ContainsFunc(got, func(v string) bool { return !one(v) }), nil
	}
	return slices.ContainsFunc(got, one), nil
}

// A glyph is a character of a value, or a wildcard of the Like operators.
type glyph struct {
	char rune
	wild bool
}

func wildcards(pattern string) []glyph {
	var all []glyph
	for _, r := range pattern {
		all = append(all, glyph{r, r == '*' || r == '?'})
	}
	return all
}

// glyphs puts in the policy variables: ${*}, ${?} and ${$} are these
// characters, ${KEY} and ${KEY, 'default'} the value of a key, none of whose
// characters is a wildcard. IAM calls a statement with a variable that has no
// value possibly invalid: then nothing is decided.
func (c condition) glyphs(value string, lookup func(string) ([]string, error)) ([]glyph, error) {
	if !c.variables {
		return wildcards(value), nil
	}
	var all []glyph
	for {
		before, rest, found := strings.Cut(value, "${")
		all = append(all, wildcards(before)...)
		if !found {
			return all, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("policy variable in %q is not closed", value)
		}
		put := name
		if name != "*" && name != "?" && name != "$" {
			key, fallback, ok := strings.Cut(name, ",")
			if key = strings.TrimSpace(key); !strings.Contains(key, ":") {
				return nil, fmt.Errorf("invalid policy variable %q", name)
			}
			got, err := lookup(key)
			switch {
			case err != nil:
				return nil, err
			case len(got) == 1:
				put = got[0]
			case ok && len(got) == 0:
				put = strings.Trim(strings.TrimSpace(fallback), "'")
			default:
				return nil, fmt.Errorf("policy variable %q has not one value", name)
			}
		}
		for _, r := range put {
			all = append(all, glyph{char: r})
		}
		value = after
	}
}

func spell(pattern []glyph) string {
	var b strings.Builder
	for _, g := range pattern {
		b.WriteRune(g.char)
	}
	return b.String()
}

func equal(pattern []glyph, value string) bool     { return spell(pattern) == value }
func equalFold(pattern []glyph, value string) bool { return strings.EqualFold(spell(pattern), value) }

func numeric(compare func(value, pattern float64) bool) func([]glyph, string) bool {
	return func(pattern []glyph, value string) bool {
		p, err := strconv.ParseFloat(spell(pattern), 64)
		v, err2 := strconv.ParseFloat(value, 64)
		return err == nil && err2 == nil && compare(v, p)
	}
}

// like matches the whole value: * is any run of characters, ? is one.
func like(pattern []glyph, value string) bool {
	chars := []rune(value)
	p, v, star, mark := 0, 0, -1, 0
	for v < len(chars) {
		switch {
		case p < len(pattern) && pattern[p].wild && pattern[p].char == '*':
			star, mark = p, v
			p++
		case p < len(pattern) && (pattern[p].wild || pattern[p].char == chars[v]):
			p, v = p+1, v+1
		case star >= 0:
			mark++
			p, v = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p].wild && pattern[p].char == '*' {
		p++
	}
	return p == len(pattern)
}
