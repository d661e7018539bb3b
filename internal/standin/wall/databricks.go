package wall

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// databricksPolicies is how many federation policies a service principal, or an account, may have.
const databricksPolicies = 20

// databricksPolicy is a federation policy as the API and the CLI print it.
type databricksPolicy struct {
	Name string `json:"name"`
	OIDC *struct {
		Issuer       string   `json:"issuer"`
		Audiences    []string `json:"audiences"`
		Subject      string   `json:"subject"`
		SubjectClaim string   `json:"subject_claim"`
	} `json:"oidc_policy"`
}

var databricksName = regexp.MustCompile(`^accounts/([0-9a-f-]{36})/`)

// Databricks reads the federation policies of one service principal, each of
// which admits who has its subject in its subject claim, and checks nothing else.
func Databricks(policies []byte) (Wall, error) {
	list, err := readDatabricks(policies, true)
	if err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		return slices.ContainsFunc(list, func(p databricksPolicy) bool { return p.admits(claims, p.OIDC.Subject) }), nil
	}, nil
}

// DatabricksAccount reads an account's federation policies, with which a token
// is whoever its subject claim names: it says who becomes that user, or the
// service principal of that application id.
func DatabricksAccount(policies []byte, principal string) (Wall, error) {
	list, err := readDatabricks(policies, false)
	if err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		return slices.ContainsFunc(list, func(p databricksPolicy) bool { return p.admits(claims, principal) }), nil
	}, nil
}

// readDatabricks fills in what a policy leaves out: the claim sub, and the
// account's id as audience.
func readDatabricks(policies []byte, wantSubject bool) ([]databricksPolicy, error) {
	list, err := readList[databricksPolicy](policies, "policies")
	if err != nil {
		return nil, err
	}
	if len(list) > databricksPolicies {
		return nil, fmt.Errorf("%d federation policies, more than %d", len(list), databricksPolicies)
	}
	for i := range list {
		p := list[i].OIDC
		err := error(nil)
		switch {
		case p == nil:
			err = errors.New("no oidc_policy")
		case !strings.HasPrefix(p.Issuer, "https://"):
			err = fmt.Errorf("issuer %q is no https URL", p.Issuer)
		case wantSubject && p.Subject == "":
			err = errors.New("a service principal's policy needs a subject")
		case !wantSubject && p.Subject != "":
			err = errors.New("an account's policy must not have a subject")
		}
		if err == nil && len(p.Audiences) == 0 {
			m := databricksName.FindStringSubmatch(list[i].Name)
			if m == nil {
				err = errors.New("no audiences, and no name that says which account's id is the default")
			} else {
				p.Audiences = m[1:]
			}
		}
		if err != nil {
			return nil, fmt.Errorf("federation policy %d: %w", i+1, err)
		}
		if p.SubjectClaim == "" {
			p.SubjectClaim = "sub"
		}
	}
	return list, nil
}

func (p databricksPolicy) admits(claims map[string]any, subject string) bool {
	issuer, _ := text(claims, "iss")
	got, ok := text(claims, p.OIDC.SubjectClaim)
	return ok && issuer == p.OIDC.Issuer && got == subject && anyIn(values(claims["aud"]), p.OIDC.Audiences)
}
