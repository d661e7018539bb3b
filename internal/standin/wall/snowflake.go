package wall

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of Snowflake's workload identities: ten for a user by default, and
// "Limitations and considerations" of workload identity federation.
const (
	snowflakeIdentities = 10
	snowflakeSubject    = 255
	snowflakeIssuer     = 2048
)

// snowflakeAudience is what a token must be for if an identity has no list.
const snowflakeAudience = "snowflakecomputing.com"

// snowflakeRow is a row of SHOW USER WORKLOAD IDENTITY AUTHENTICATION METHODS.
type snowflakeRow struct {
	Name           string          `json:"name"`
	Type           string          `json:"type"`
	Status         string          `json:"status"`
	AdditionalInfo json.RawMessage `json:"additional_info"` // an object, or its text
	identity       struct {
		Issuer       string `json:"issuer"`
		Subject      string `json:"subject"`
		AudienceList texts  `json:"audienceList"`
	}
}

// Snowflake reads the workload identities of one user. Issuer and subject are
// compared as they are; every audience of the token must be in the list. Its
// error is what CREATE USER or ALTER USER refuse.
func Snowflake(identities []byte) (Wall, error) {
	var rows []snowflakeRow
	if err := read(identities, &rows); err != nil {
		return nil, err
	}
	if len(rows) > snowflakeIdentities {
		return nil, fmt.Errorf("user has %d workload identities, more than %d", len(rows), snowflakeIdentities)
	}
	names := map[string]bool{}
	for i := range rows {
		if err := rows[i].complete(); err != nil {
			return nil, fmt.Errorf("workload identity %q: %w", rows[i].Name, err)
		}
		name := strings.ToUpper(rows[i].Name)
		if names[name] {
			return nil, fmt.Errorf("duplicate workload identity %q", name)
		}
		names[name] = true
	}
	return func(claims map[string]any) (bool, error) {
		return slices.ContainsFunc(rows, func(r snowflakeRow) bool { return r.admits(claims) }), nil
	}, nil
}

func (r *snowflakeRow) complete() error {
	if r.Name == "" {
		return errors.New("no name")
	}
	if r.Type != "OIDC" {
		return nil // another cloud's attestation
	}
	info := []byte(r.AdditionalInfo)
	var inner string
	if json.Unmarshal(info, &inner) == nil {
		info = []byte(inner)
	}
	if err := read(info, &r.identity); err != nil {
		return fmt.Errorf("additional_info: %w", err)
	}
	r.identity.AudienceList = slices.DeleteFunc(r.identity.AudienceList, func(a string) bool { return a == "" })
	if len(r.identity.AudienceList) == 0 {
		r.identity.AudienceList = texts{snowflakeAudience}
	}
	switch n := utf8.RuneCountInString(r.identity.Subject); {
	case n == 0 || n > snowflakeSubject:
		return fmt.Errorf("subject has %d characters, want 1 to %d", n, snowflakeSubject)
	case !strings.HasPrefix(r.identity.Issuer, "https://"):
		return fmt.Errorf("issuer %q is no https URL", r.identity.Issuer)
	case utf8.RuneCountInString(r.identity.Issuer) > snowflakeIssuer:
		return fmt.Errorf("issuer has more than %d characters", snowflakeIssuer)
	}
	return nil
}

func (r *snowflakeRow) admits(claims map[string]any) bool {
	issuer, _ := text(claims, "iss")
	subject, _ := text(claims, "sub")
	audiences := values(claims["aud"])
	foreign := slices.ContainsFunc(audiences, func(a string) bool { return !slices.Contains(r.identity.AudienceList, a) })
	return r.Type == "OIDC" && r.Status != "DISABLED" && len(audiences) > 0 && !foreign &&
		issuer == r.identity.Issuer && subject == r.identity.Subject
}
