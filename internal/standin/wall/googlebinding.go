package wall

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var googleMember = regexp.MustCompile(`^(principal|principalSet)://iam\.googleapis\.com/(` + googlePool + `)/(.+)$`)

// GoogleBinds says whether a binding's members have an identity of a pool.
// Members name the pool and not the provider, so an identity of another
// provider of the pool counts as well. Other kinds of members never match, but
// allUsers, which are all. Its error is a member that IAM refuses.
func GoogleBinds(members []string, pool string, id GoogleIdentity) (bool, error) {
	bound := false
	for _, member := range members {
		if member == "allUsers" {
			bound = true
		}
		if !strings.HasPrefix(member, "principal") {
			continue
		}
		m := googleMember.FindStringSubmatch(member)
		if m == nil {
			return false, fmt.Errorf("invalid member %q", member)
		}
		kind, value, _ := strings.Cut(m[3], "/")
		attribute, isAttribute := strings.CutPrefix(kind, "attribute.")
		var hit bool
		switch {
		case m[1] == "principal" && kind == "subject" && value != "":
			hit = value == id.Subject
		case m[1] == "principalSet" && m[3] == "*":
			hit = true
		case m[1] == "principalSet" && kind == "group" && value != "":
			hit = anyIn([]string{value}, id.Groups)
		case m[1] == "principalSet" && isAttribute && googleAttribute.MatchString(kind) && value != "":
			mapped, ok := id.Attributes[attribute]
			hit = ok && mapped == value
		default:
			return false, fmt.Errorf("invalid member %q", member)
		}
		bound = bound || hit && m[2] == pool
	}
	return bound, nil
}

// GoogleWall is a provider together with the members of one binding.
func GoogleWall(p *GoogleProvider, members []string) (Wall, error) {
	if p.pool == "" {
		return nil, errors.New("provider has no name, so that nothing says which pool it is in")
	}
	if _, err := GoogleBinds(members, p.pool, GoogleIdentity{}); err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		id, ok := p.Identity(claims)
		if !ok {
			return false, nil
		}
		return GoogleBinds(members, p.pool, id)
	}, nil
}
