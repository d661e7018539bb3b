package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// githubIssuer is the only issuer for which AWS documents keys for GitHub's claims.
const githubIssuer = "https://token.actions.githubusercontent.com"

// awsKeys are the claims that AWS compares for any issuer, and for GitHub's
// own. (IAM User Guide, "Available keys for AWS OIDC federation", since January 2026)
var awsKeys, awsGitHubKeys = []string{"sub", "aud", "email"}, []string{
	"actor", "actor_id", "job_workflow_ref", "repository", "repository_id", "repository_owner_id", "workflow", "ref",
	"environment", "enterprise_id",
}

// awsReads reports whether AWS has a condition key for a claim of an issuer.
func awsReads(issuer, claim string) bool {
	return slices.Contains(awsKeys, claim) || issuer == githubIssuer && slices.Contains(awsGitHubKeys, claim)
}

// The sizes of a role's trust policy in characters without white space: the
// quota L-C07B4B0D by default, and what it can be raised to.
const awsQuota, awsRaised = 2048, 8192

// An awsBlock is the Condition of a statement: values by operator and claim,
// whose keys get the issuer in front.
type awsBlock map[string]map[string][]string

const (
	opEquals      = "StringEquals"
	opNotEquals   = "StringNotEquals"
	opLike        = "StringLike"
	opNotLike     = "StringNotLike"
	opAnyLike     = "ForAnyValue:StringLike" // the same as StringLike of a claim with one value
	opIgnoreCase  = "StringEqualsIgnoreCase"
	opNotIgnoring = "StringNotEqualsIgnoreCase"
)

// and returns the block with the conditions of another; ok is false where no
// token meets both.
func (b awsBlock) and(other awsBlock) (both awsBlock, ok bool) {
	both = awsBlock{}
	for op, claims := range b {
		both[op] = maps.Clone(claims)
	}
	for _, op := range slices.Sorted(maps.Keys(other)) {
		for claim, values := range other[op] {
			to, have := op, both[op][claim]
			switch {
			case have == nil || slices.Equal(have, values):
			case op == opEquals:
				values = slices.DeleteFunc(slices.Clone(values),
					func(v string) bool { return !slices.Contains(have, v) })
				if len(values) == 0 {
					return nil, false
				}
			case op == opLike:
				to = opAnyLike
			default: // the negated ones: none of all
				values = slices.Compact(slices.Sorted(slices.Values(slices.Concat(have, values))))
			}
			if both[to] == nil {
				both[to] = map[string][]string{}
			}
			both[to][claim] = values
		}
	}
	return both, true
}

// crossed returns each block of one list with each of another.
func crossed(a, b []awsBlock) (list []awsBlock) {
	for _, x := range a {
		for _, y := range b {
			if both, ok := x.and(y); ok {
				list = append(list, both)
			}
		}
	}
	return list
}

// awsTests returns blocks, any of which is enough, that hold a claim to the
// patterns. `*` of the policy stops at a `/`, and IAM's does not: the values
// that have more of them than the pattern are kept out by StringNotLike, so
// that patterns with other numbers of them need a block of their own. bounded
// is false where other claims hold what the pattern would.
func awsTests(claim string, patterns []string, bounded bool) (list []awsBlock) {
	var literals []string
	var limits []awsLimits
	groups := map[awsLimits][]string{}
	for _, p := range patterns {
		if !strings.Contains(p, "*") {
			literals = append(literals, p)
			continue
		}
		l, glob := limitsOf(claim, p)
		if !bounded {
			l = unlimited
		}
		if groups[l] == nil {
			limits = append(limits, l)
		}
		groups[l] = append(groups[l], glob)
	}
	var alone []string
	for _, text := range literals {
		if i := slices.IndexFunc(limits, func(l awsLimits) bool { return l.allow(text) }); i >= 0 {
			groups[limits[i]] = append(groups[limits[i]], awsGlob(text))
		} else {
			alone = append(alone, awsText(text))
		}
	}
	for _, l := range limits {
		b := awsBlock{opLike: {claim: groups[l]}}
		if not := l.patterns(); not != nil {
			b[opNotLike] = map[string][]string{claim: not}
		}
		list = append(list, b)
	}
	if alone != nil {
		list = append(list, awsBlock{opEquals: {claim: alone}})
	}
	return list
}

// awsLimits are how many `/`, `:` and `@` a value may have at most, -1 for any number.
type awsLimits [3]int

const limited = "/:@"

var unlimited = awsLimits{-1, -1, -1}

// limitsOf returns what keeps the wildcards of a pattern from matching more
// than the policy's do, and the pattern in IAM's form. A character is limited
// to those that the pattern itself has, if none of its wildcards may match it.
func limitsOf(claim, pattern string) (l awsLimits, glob string) {
	stops := awsStops(claim, pattern)
	if policy.IsWorkflowClaim(claim) && !strings.Contains(pattern, "@") {
		pattern += "@"
	}
	glob = awsGlob(pattern)
	l = unlimited
	for i, char := range limited {
		outside := func(s string) bool { return strings.ContainsRune(s, char) }
		if slices.ContainsFunc(stops, outside) &&
			!slices.ContainsFunc(stops, func(s string) bool { return !outside(s) }) {
			l[i] = strings.Count(pattern, string(char))
		}
	}
	return l, glob
}

// awsStops returns which of the limited characters each wildcard of a pattern
// does not match. (policy.Expression)
func awsStops(claim, pattern string) (stops []string) {
	one, several := "/", ""
	if claim == "sub" {
		one = "/:"
	}
	at := len(pattern)
	if policy.IsWorkflowClaim(claim) {
		if i := strings.Index(pattern, "@"); i >= 0 {
			at = i
		}
	}
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '*' {
			continue
		}
		stop, start := one, i
		for i+1 < len(pattern) && pattern[i+1] == '*' {
			i, stop = i+1, several
		}
		if policy.IsWorkflowClaim(claim) && start < at {
			stop += "@"
		}
		stops = append(stops, stop)
	}
	return stops
}

// exact reports whether what limits the wildcards keeps them to what the
// policy's match.
func exactLimits(claim, pattern string) bool {
	l, _ := limitsOf(claim, pattern)
	for i, char := range limited {
		for _, stop := range awsStops(claim, pattern) {
			if strings.ContainsRune(stop, char) && l[i] < 0 {
				return false
			}
		}
	}
	return true
}

func (l awsLimits) allow(text string) bool {
	for i, char := range limited {
		if l[i] >= 0 && strings.Count(text, string(char)) > l[i] {
			return false
		}
	}
	return true
}

// patterns are what StringNotLike has: one more of each.
func (l awsLimits) patterns() (list []string) {
	for i, char := range limited {
		if l[i] >= 0 {
			list = append(list, strings.Repeat("*"+string(char), l[i]+1)+"*")
		}
	}
	return list
}

// awsText writes a text for an exact operator: `${` begins a policy variable there, too.
// (IAM User Guide, "IAM policy elements: Variables and tags")
func awsText(text string) string { return strings.ReplaceAll(text, "${", "${$}{") }

// awsGlob writes a pattern for StringLike.
func awsGlob(pattern string) string {
	var b strings.Builder
	last := rune(0)
	for i, r := range pattern {
		switch {
		case r == '*' && last == '*':
		case r == '?':
			b.WriteString("${?}")
		case r == '$' && strings.HasPrefix(pattern[i+1:], "{"):
			b.WriteString("${$}")
		default:
			b.WriteRune(r)
		}
		last = r
	}
	return b.String()
}

// An awsStatement is one statement of a trust policy.
type awsStatement struct {
	sid, effect string
	issuer      string // of a web identity
	provider    string // the ARN of the issuer's provider in the account
	principal   string // of another principal: an ARN
	source      string // where Terraform has the ARN from, "" for nowhere
	actions     []string
	conditions  awsBlock
	global      map[string]map[string][]string // conditions whose keys are complete
}

const webIdentity = "sts:AssumeRoleWithWebIdentity"

// bare is an issuer as IAM writes it.
func bare(issuer string) string {
	return strings.TrimPrefix(strings.TrimPrefix(issuer, "https://"), "http://")
}

// object returns the statement, with a reference to its provider for Terraform.
func (s awsStatement) object(terraform bool) hclObject {
	principal := hclField{"AWS", s.principal}
	if s.issuer != "" {
		principal = hclField{"Federated", s.provider}
	}
	if terraform && s.source != "" {
		principal.Value = hclRef(s.source)
	}
	o := hclObject{
		{"Sid", s.sid},
		{"Effect", s.effect},
		{"Principal", hclObject{principal}},
		{"Action", oneOrMore(s.actions)},
	}
	blocks := map[string]map[string][]string{}
	for op, claims := range s.conditions {
		blocks[op] = map[string][]string{}
		for claim, values := range claims {
			blocks[op][bare(s.issuer)+":"+claim] = values
		}
	}
	maps.Copy(blocks, s.global)
	var condition hclObject
	for _, op := range slices.Sorted(maps.Keys(blocks)) {
		var keys hclObject
		for _, key := range slices.Sorted(maps.Keys(blocks[op])) {
			keys = append(keys, hclField{key, oneOrMore(blocks[op][key])})
		}
		condition = append(condition, hclField{op, keys})
	}
	if condition != nil {
		o = append(o, hclField{"Condition", condition})
	}
	return o
}

func oneOrMore(values []string) any {
	if len(values) == 1 {
		return values[0]
	}
	return values
}

// awsDocument returns the policy that statements make.
func awsDocument(statements []awsStatement, terraform bool) hclObject {
	list := make(hclList, len(statements))
	for i, s := range statements {
		list[i] = s.object(terraform)
	}
	return hclObject{{"Version", "2012-10-17"}, {"Statement", list}}
}

// awsLength counts a policy as IAM does: characters without white space.
func awsLength(text string) (n int) {
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// jsonText writes a document of objects, lists and texts, the keys in their order.
func jsonText(value any) string {
	var compact bytes.Buffer
	writeJSON(&compact, value)
	var b bytes.Buffer
	if err := json.Indent(&b, compact.Bytes(), "", "  "); err != nil {
		panic(err) // it was written here
	}
	return b.String() + "\n"
}

func writeJSON(b *bytes.Buffer, value any) {
	switch v := value.(type) {
	case hclObject:
		b.WriteByte('{')
		for i, f := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, f.Name)
			b.WriteByte(':')
			writeJSON(b, f.Value)
		}
		b.WriteByte('}')
	case hclList:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, e)
		}
		b.WriteByte(']')
	case []string:
		list := make(hclList, len(v))
		for i, s := range v {
			list[i] = s
		}
		writeJSON(b, list)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	default:
		encoder := json.NewEncoder(b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(fmt.Sprint(v)); err != nil {
			panic(err) // a string always can be
		}
		b.Truncate(b.Len() - 1)
	}
}
