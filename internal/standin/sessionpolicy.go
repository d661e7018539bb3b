package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A sessionPolicy is what AssumeRole's Policy narrows a session to. The role's
// own permissions are everything: only the narrowing is of interest here.
type sessionPolicy []statement

type statement struct {
	Effect    string
	Action    texts
	Resource  texts
	Principal json.RawMessage
	// Elements that are not evaluated here. Beside one of them an Allow
	// allows nothing and a Deny denies.
	Condition, NotAction, NotResource json.RawMessage
}

// texts is a string or a list of strings.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

const (
	maxPolicyText   = 2048 // characters (STS API Reference, parameter Policy)
	maxManaged      = 10   // (parameter PolicyArns)
	packedPolicyMax = 2048 // AWS does not document its packing: plain bytes are counted instead
)

// parseSessionPolicies reads the parameters Policy and PolicyArns, and how
// many percent of the packed size they take. What a managed policy says is not
// known here, so with one the store refuses everything.
func parseSessionPolicies(form url.Values) (policies []sessionPolicy, packed int, err error) {
	text := form.Get("Policy")
	if len(text) > maxPolicyText {
		return nil, 0, invalid("1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must "+
			"have length less than or equal to %d", maxPolicyText)
	}
	if text != "" {
		p, err := parseSessionPolicy(text)
		if err != nil {
			return nil, 0, err
		}
		policies = append(policies, p)
	}
	size, managed := len(text), 0
	for form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", managed+1)) != "" {
		managed++
		size += len(form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", managed)))
		policies = append(policies, sessionPolicy{})
	}
	packed = (size*100 + packedPolicyMax - 1) / packedPolicyMax
	switch {
	case managed > maxManaged:
		return nil, 0, invalid("1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must "+
			"have length less than or equal to %d", maxManaged)
	case packed > 100:
		return nil, 0, stsError{http.StatusBadRequest, "PackedPolicyTooLarge",
			fmt.Sprintf("Packed policy consumes %d%% of allotted space, please use smaller policy.", packed)}
	}
	return policies, packed, nil
}

func malformed(text string) stsError {
	return stsError{http.StatusBadRequest, "MalformedPolicyDocument", text}
}

func parseSessionPolicy(text string) (sessionPolicy, error) {
	var document struct {
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil || document.Statement == nil {
		return nil, malformed("Syntax errors in policy.")
	}
	var statements []statement
	if err := json.Unmarshal(document.Statement, &statements); err != nil {
		statements = make([]statement, 1)
		if err := json.Unmarshal(document.Statement, &statements[0]); err != nil {
			return nil, malformed("Syntax errors in policy.")
		}
	}
	for _, s := range statements {
		switch {
		case s.Principal != nil:
			return nil, malformed("Policy document should not specify a principal.")
		case s.Effect != "Allow" && s.Effect != "Deny", len(s.Action) == 0 && s.NotAction == nil, len(s.Resource) == 0 && s.NotResource == nil:
			return nil, malformed("Syntax errors in policy.")
		}
	}
	return statements, nil
}

// may tells whether every policy of the session allows the action, and none denies it.
func (s Session) may(action, resource string) bool {
	for _, p := range s.policies {
		if !p.allows(action, resource) {
			return false
		}
	}
	return true
}

func (p sessionPolicy) allows(action, resource string) bool {
	allowed := false
	for _, s := range p {
		unknown := s.Condition != nil || s.NotAction != nil || s.NotResource != nil
		matches := s.covers(action, resource)
		switch {
		case s.Effect == "Deny" && (matches || unknown):
			return false
		case s.Effect == "Allow" && matches && !unknown:
			allowed = true
		}
	}
	return allowed
}

// covers reports whether the statement is about an action on a resource.
// Actions are compared without case, resources with.
func (s statement) covers(action, resource string) bool {
	return slices.ContainsFunc(s.Action, func(a string) bool { return stringLike(strings.ToLower(a), strings.ToLower(action)) }) &&
		slices.ContainsFunc(s.Resource, func(r string) bool { return stringLike(r, resource) })
}
