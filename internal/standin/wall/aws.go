package wall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The sizes of a role's trust policy in characters without white space: the
// quota L-C07B4B0D by default, and what it may be raised to.
const (
	AWSQuota       = 2048
	AWSRaisedQuota = 8192
)

// gitHubIssuer is the only issuer for which AWS documents keys for GitHub's claims.
const gitHubIssuer = "token.actions.githubusercontent.com"

// gitHubKeys are the condition keys that AWS documents for GitHub next to
// those of every OIDC issuer: IAM User Guide, "Available keys for AWS OIDC federation".
var gitHubKeys = []string{
	"actor", "actor_id", "job_workflow_ref", "repository", "repository_id", "repository_owner_id", "workflow", "ref",
	"environment", "enterprise_id",
}

// tenancyKeys are what IAM's control of shared issuers wants to be evaluated.
var tenancyKeys = map[string]string{
	gitHubIssuer: "sub", "gitlab.com": "sub", "app.terraform.io": "sub", "agent.buildkite.com": "sub",
	"oidc.vercel.com": "aud", "api.pulumi.com/oidc": "aud",
}

// A statement of a trust policy, for one token's purposes: who it is for,
// whether it is about AssumeRoleWithWebIdentity, and under which conditions.
type statement struct {
	deny       bool
	anyone     bool
	issuers    []string // without https://
	webToken   bool
	conditions []condition
}

// AWS reads a role's trust policy, the JSON of AssumeRolePolicyDocument, and
// says who may call sts:AssumeRoleWithWebIdentity. Its error is what IAM
// refuses; [AWSFits] and [AWSControl] refuse what IAM also does at a change.
func AWS(trustPolicy []byte) (Wall, error) {
	statements, err := awsStatements(trustPolicy)
	if err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		request := newAWSRequest(claims)
		var allowed bool
		var maybeAllowed, maybeDenied error
		for _, s := range statements {
			applies, err := s.applies(request)
			switch {
			case applies && s.deny:
				return false, nil
			case s.deny:
				maybeDenied = errors.Join(maybeDenied, err)
			default:
				allowed = allowed || applies
				maybeAllowed = errors.Join(maybeAllowed, err)
			}
		}
		switch {
		case allowed:
			return maybeDenied == nil, maybeDenied
		case maybeAllowed != nil:
			return false, errors.Join(maybeAllowed, maybeDenied)
		}
		return false, nil
	}, nil
}

// applies is undecided only if what is decided would let the statement apply.
func (s statement) applies(r awsRequest) (bool, error) {
	if !s.webToken || !s.anyone && !slices.Contains(s.issuers, r.issuer) {
		return false, nil
	}
	var undecided error
	for _, c := range s.conditions {
		holds, err := c.holds(r)
		if err == nil && !holds {
			return false, nil
		}
		undecided = errors.Join(undecided, err)
	}
	return undecided == nil, undecided
}

// AWSFits says whether a trust policy is within a quota. IAM does not count
// white space; that within strings is counted here, which errs on the safe side.
func AWSFits(trustPolicy []byte, quota int) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, trustPolicy); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	if n := utf8.RuneCount(compact.Bytes()); n > quota {
		return fmt.Errorf("trust policy has %d characters without white space, more than %d", n, quota)
	}
	return nil
}

// AWSControl is IAM's identity-provider control for shared OIDC providers: a
// new or changed trust policy must evaluate the claim that tells the tenants
// of such an issuer apart, in each statement that allows it, and not by "*".
func AWSControl(trustPolicy []byte) error {
	statements, err := awsStatements(trustPolicy)
	if err != nil {
		return err
	}
	for i, s := range statements {
		for _, issuer := range s.issuers {
			key, shared := tenancyKeys[issuer]
			if s.deny || !shared {
				continue
			}
			evaluates := slices.ContainsFunc(s.conditions, func(c condition) bool {
				return strings.EqualFold(c.key, issuer+":"+key) && c.operator != "Null" && !slices.Contains(c.values, "*")
			})
			if !evaluates {
				return fmt.Errorf("statement %d allows the shared issuer %s without a condition on %s:%s", i+1, issuer, issuer, key)
			}
		}
	}
	return nil
}

func awsStatements(trustPolicy []byte) ([]statement, error) {
	if err := checkJSON(trustPolicy); err != nil {
		return nil, err
	}
	policy, err := elements("policy", trustPolicy, "Version", "Id", "Statement")
	if err != nil {
		return nil, err
	}
	version := "2008-10-17" // without the element
	if raw, ok := policy["Version"]; ok {
		if err := json.Unmarshal(raw, &version); err != nil || version != "2008-10-17" && version != "2012-10-17" {
			return nil, fmt.Errorf("policy has the version %s, versions are 2008-10-17 and 2012-10-17", raw)
		}
	}
	var list []json.RawMessage
	if raw := policy["Statement"]; bytes.HasPrefix(raw, []byte("{")) {
		list = []json.RawMessage{raw}
	} else if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, errors.New("policy has no statement")
	}
	var statements []statement
	sids := map[string]bool{}
	for i, raw := range list {
		s, sid, err := readStatement(raw, version)
		if err == nil && sid != "" && sids[sid] {
			err = fmt.Errorf("duplicate Sid %q", sid)
		}
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		sids[sid] = true
		statements = append(statements, s)
	}
	return statements, nil
}

var awsSid = regexp.MustCompile(`^[A-Za-z0-9]*$`)

// readStatement refuses NotPrincipal and NotAction, which IAM takes in few
// trust policies, and Resource, which it takes in none.
func readStatement(raw json.RawMessage, version string) (s statement, sid string, err error) {
	element, err := elements("statement", raw, "Sid", "Effect", "Principal", "Action", "Condition")
	if err != nil {
		return s, "", err
	}
	var effect string
	if json.Unmarshal(element["Effect"], &effect) != nil || effect != "Allow" && effect != "Deny" {
		return s, "", fmt.Errorf("effect is %s, effects are \"Allow\" and \"Deny\"", element["Effect"])
	}
	s.deny = effect == "Deny"
	if raw, ok := element["Sid"]; ok {
		if err := json.Unmarshal(raw, &sid); err != nil || !awsSid.MatchString(sid) {
			return s, "", fmt.Errorf("the Sid %s has other characters than letters and digits", raw)
		}
	}
	if s.anyone, s.issuers, err = readPrincipal(element["Principal"]); err != nil {
		return s, "", err
	}
	if s.webToken, err = readAction(element["Action"]); err != nil {
		return s, "", err
	}
	if raw, ok := element["Condition"]; ok {
		s.conditions, err = readConditions(raw, version)
	}
	return s, sid, err
}

var (
	oidcProvider = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:oidc-provider/([^*?]+)$`)
	samlProvider = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:saml-provider/[\w.-]+$`)
	// builtIn are issuers that IAM knows without a provider in the account.
	builtIn = []string{"accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com"}
)

// readPrincipal returns the issuers that a statement is for. "*" and
// {"AWS": "*"} are everybody; a part of an ARN cannot be a wildcard.
func readPrincipal(raw json.RawMessage) (anyone bool, issuers []string, err error) {
	if raw == nil {
		return false, nil, errors.New("no Principal")
	}
	if string(raw) == `"*"` {
		return true, nil, nil
	}
	kinds, err := elements("principal", raw, "AWS", "Federated", "Service", "CanonicalUser")
	if err != nil {
		return false, nil, err
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		var names texts
		if err := json.Unmarshal(kinds[kind], &names); err != nil {
			return false, nil, fmt.Errorf("principal %s: %w", kind, err)
		}
		for _, name := range names {
			switch m := oidcProvider.FindStringSubmatch(name); {
			case kind != "Federated":
				anyone = anyone || kind == "AWS" && name == "*"
			case m != nil:
				issuers = append(issuers, m[1])
			case slices.Contains(builtIn, name):
				issuers = append(issuers, name)
			case !samlProvider.MatchString(name):
				return false, nil, fmt.Errorf("invalid principal %q", name)
			}
		}
	}
	return anyone, issuers, nil
}

func readAction(raw json.RawMessage) (webToken bool, err error) {
	if raw == nil {
		return false, errors.New("no Action")
	}
	var actions texts
	if err := json.Unmarshal(raw, &actions); err != nil {
		return false, fmt.Errorf("action: %w", err)
	}
	for _, action := range actions {
		action = strings.ToLower(action)
		if action != "*" && !strings.HasPrefix(action, "sts:") {
			return false, fmt.Errorf("action %q: a trust policy may only have actions of STS", action)
		}
		webToken = webToken || like(wildcards(action), "sts:assumerolewithwebidentity")
	}
	return webToken, nil
}

// elements returns the members of an object whose names IAM knows.
func elements(what string, raw json.RawMessage, known ...string) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, fmt.Errorf("%s is no object", what)
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s has the element %q, elements are %q", what, name, known)
		}
	}
	return object, nil
}
