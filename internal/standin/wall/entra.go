package wall

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of "Considerations for federated identity credentials".
const (
	entraCredentials = 20
	entraText        = 600 // characters of issuer, subject and audience
)

var entraName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$`)

// entraCredential is a federatedIdentityCredential of Microsoft Graph.
type entraCredential struct {
	Name       string   `json:"name"`
	Issuer     string   `json:"issuer"`
	Subject    string   `json:"subject"`
	Audiences  []string `json:"audiences"`
	Expression *struct {
		Value           string `json:"value"`
		LanguageVersion int    `json:"languageVersion"`
	} `json:"claimsMatchingExpression"`
	comparisons []comparison
}

// A comparison is one part of a flexible credential's expression.
type comparison struct {
	claim, operator, value string
}

// flexibleOperators are the claims of GitHub that a flexible expression may
// have, and their operators.
var flexibleOperators = map[string][]string{
	"sub": {"eq", "matches"}, "job_workflow_ref": {"eq", "matches"},
	"repository_id": {"eq"}, "repository_owner_id": {"eq"},
}

// Entra reads the federated credentials of an application or a managed
// identity, standard and flexible ones: a token needs one of them. Its error
// is what Graph refuses; [EntraControl] refuses what Graph also does for new
// credentials, and old ones may have.
func Entra(credentials []byte) (Wall, error) {
	list, err := readEntra(credentials)
	if err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		return slices.ContainsFunc(list, func(c entraCredential) bool { return c.admits(claims) }), nil
	}, nil
}

// EntraControl is what a flexible expression for GitHub must have since the
// middle of 2026: the subject, and an immutable id.
func EntraControl(credentials []byte) error {
	list, err := readEntra(credentials)
	if err != nil {
		return err
	}
	for _, c := range list {
		has := func(claims ...string) bool {
			return slices.ContainsFunc(c.comparisons, func(p comparison) bool { return slices.Contains(claims, p.claim) })
		}
		if c.Expression != nil && (!has("sub") || !has("repository_id", "repository_owner_id")) {
			return fmt.Errorf("credential %q: the expression lacks sub, or an eq on repository_id or repository_owner_id",
				c.Name)
		}
	}
	return nil
}

func readEntra(credentials []byte) ([]entraCredential, error) {
	list, err := readList[entraCredential](credentials, "value")
	if err != nil {
		return nil, err
	}
	if len(list) > entraCredentials {
		return nil, fmt.Errorf("%d federated credentials, more than %d", len(list), entraCredentials)
	}
	seen := map[string]bool{}
	for i := range list {
		c := &list[i]
		if err := c.complete(); err != nil {
			return nil, fmt.Errorf("credential %q: %w", c.Name, err)
		}
		if seen[c.Name] {
			return nil, fmt.Errorf("duplicate name %q", c.Name)
		}
		pair := c.Issuer + "\n" + c.Subject
		if c.Subject != "" && seen[pair] {
			return nil, fmt.Errorf("credential %q: another one has the same issuer and subject", c.Name)
		}
		seen[c.Name], seen[pair] = true, true
	}
	return list, nil
}

func (c *entraCredential) complete() error {
	if !entraName.MatchString(c.Name) {
		return errors.New("a name has 3 to 120 characters of A-Z a-z 0-9 _ -, and begins with a letter or digit")
	}
	if len(c.Audiences) != 1 {
		return fmt.Errorf("%d audiences, want one", len(c.Audiences))
	}
	if !strings.HasPrefix(c.Issuer, "https://") {
		return fmt.Errorf("issuer %q is no https URL", c.Issuer)
	}
	for i, value := range []string{c.Issuer, c.Subject, c.Audiences[0]} {
		if n := utf8.RuneCountInString(value); n > entraText {
			return fmt.Errorf("%s has %d characters, more than %d", []string{"issuer", "subject", "audience"}[i], n, entraText)
		}
	}
	if (c.Subject == "") == (c.Expression == nil) {
		return errors.New("want either subject or claimsMatchingExpression")
	}
	if c.Expression == nil {
		return nil
	}
	if c.Issuer != "https://"+gitHubIssuer {
		return fmt.Errorf("flexible credentials are not for the issuer %s", c.Issuer)
	}
	if c.Expression.LanguageVersion != 1 {
		return fmt.Errorf("languageVersion is %d, want 1", c.Expression.LanguageVersion)
	}
	var err error
	c.comparisons, err = readExpression(c.Expression.Value)
	return err
}

var flexible = regexp.MustCompile(`^claims\['([^']*)'\] ([a-z]+) '([^']+)'`)

// readExpression reads comparisons that "and" joins. There is no other
// operator, no parenthesis, one space between words, and no escape for a
// quote: Microsoft's page has none, so that a value must not have one.
func readExpression(expression string) ([]comparison, error) {
	var all []comparison
	rest := expression
	for {
		m := flexible.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("expression: want claims['NAME'] OPERATOR 'VALUE' at %q", rest)
		}
		operators, known := flexibleOperators[m[1]]
		if !known {
			return nil, fmt.Errorf("expression: either lacks all required claims or contains unallowed claims: %s", m[1])
		}
		if !slices.Contains(operators, m[2]) {
			return nil, fmt.Errorf("expression: operator %q is not for %s, operators are %q", m[2], m[1], operators)
		}
		all = append(all, comparison{m[1], m[2], m[3]})
		if rest = rest[len(m[0]):]; rest == "" {
			return all, nil
		}
		after, ok := strings.CutPrefix(rest, " and ")
		if !ok {
			return nil, fmt.Errorf("expression: want \" and \" at %q", rest)
		}
		rest = after
	}
}

func (c entraCredential) admits(claims map[string]any) bool {
	issuer, _ := text(claims, "iss")
	if issuer != c.Issuer || !anyIn(values(claims["aud"]), c.Audiences) {
		return false
	}
	if c.Expression == nil {
		subject, _ := text(claims, "sub")
		return subject == c.Subject
	}
	return !slices.ContainsFunc(c.comparisons, func(p comparison) bool {
		got, ok := text(claims, p.claim)
		return !ok || p.operator == "eq" && got != p.value || p.operator == "matches" && !like(wildcards(p.value), got)
	})
}
