package policy

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// confirmed makes the token of what was found, and asks the rules themselves:
// no overlap is reported that the product would not have.
func (s *solver) confirmed() bool {
	claims := s.claims()
	if claims == nil {
		return false
	}
	token, err := idtoken.NewUnverified(claims)
	v := s.policy.view(token)
	if err != nil || !s.rules[0].matches(v) || !s.rules[1].matches(v) {
		return false
	}
	if s.policy.refused(v).by != nil {
		s.refused = true // another token may do
		return false
	}
	s.witness = claims
	return true
}

// claims returns the token's claims, nil where it would be of another world.
func (s *solver) claims() map[string]any {
	claims := map[string]any{"iss": s.rules[0].identity.Issuer, "sub": "x"}
	for variable := range s.values {
		claim, second := strings.CutSuffix(variable, listed)
		value := s.value(variable)
		switch {
		case second:
			claims[claim] = []any{s.value(claim), value}
		case variable != "owner" && variable != "name" && variable != "rest" && claims[claim] == nil || claim == "sub":
			claims[claim] = value
		}
	}
	if s.rules[0].identity.ClientID != "" {
		claims["aud"] = s.rules[0].identity.ClientID
	}
	if event := s.rules[0].event().claim; event != "" {
		claims[event] = s.world.event
	}
	if s.kind() == "circleci" {
		claims[circleci+"ssh-rerun"] = false
	}
	if s.kind() == "github" && !s.complete(claims) {
		return nil
	}
	return claims
}

// value returns a text that the constraints of a variable allow.
func (s *solver) value(variable string) string {
	text, _, _ := common(s.values[variable], s.filler(variable), &s.states)
	return text
}

// complete adds to the claims of a token of GitHub's those that others are made of.
func (s *solver) complete(claims map[string]any) bool {
	owner, repository := s.value("owner"), s.value("owner")+"/"+s.value("name")
	claims["repository_owner"], claims["repository"] = owner, repository
	for _, id := range []string{"repository_id", "repository_owner_id"} {
		if claims[id] == nil || claims[id] == "" {
			claims[id] = string(s.char.digit)
		}
	}
	if path, ok := claims["workflow_ref"].(string); ok {
		claims["workflow_ref"] = repository + "/" + path
	}
	if s.world.sub.context == free {
		return !strings.HasPrefix(s.value("sub"), "repo:")
	}
	subject := "repo:" + repository + ":"
	if s.world.sub.ids {
		subject = "repo:" + owner + "@" + s.id(claims, "repository_owner_id") + "/" + s.value("name") + "@" + s.id(claims, "repository_id") + ":"
	}
	rest := s.world.sub.context
	switch rest {
	case inEnvironment, onRef:
		rest += s.value(strings.TrimSuffix(rest, ":"))
	case customised:
		rest = s.value("rest")
		if strings.HasPrefix(rest, inEnvironment) || strings.HasPrefix(rest, onRef) || rest == onPull {
			return false // that is not customised, and tied to other claims
		}
	}
	claims["sub"] = subject + rest
	return true
}

func (s *solver) id(claims map[string]any, name string) string {
	id, _ := claims[name].(string)
	return id
}
