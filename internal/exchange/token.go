package exchange

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// The types of tokens that may be issued for a bearer. (RFC 8693 §3)
const (
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	jwtTokenType    = "urn:ietf:params:oauth:token-type:jwt"
)

// MostSeconds bounds an expires_in: a year. More is nonsense, and overflows a
// Duration in the end.
const MostSeconds = int64(LongestLife / time.Second)

// ReadToken reads a token endpoint's reply to a request that was sent at the
// given time with a secret, as a credential without an ID. An error is of class
// Unreachable. (RFC 6749 §5.1, RFC 8693 §2.2.1)
func ReadToken(service string, reply []byte, sent time.Time, sentSecret secret.Value) (credential.Credential, error) {
	var token struct {
		AccessToken string          `json:"access_token"`
		IssuedType  string          `json:"issued_token_type"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"` // a number, or a string that holds one: Entra's first version
	}
	if err := json.Unmarshal(reply, &token); err != nil {
		return credential.Credential{}, Foreign(service, "unexpected reply from %s", service)
	}
	secrets := []secret.Value{sentSecret, secret.New(token.AccessToken)}
	lives := strings.Trim(string(token.ExpiresIn), `"`)
	seconds, err := strconv.ParseInt(lives, 10, 64)
	switch {
	case token.AccessToken == "":
		return credential.Credential{}, Unreachable("the reply from %s has no access token", service)
	case !strings.EqualFold(token.TokenType, "Bearer"): // a token of another type, or none ("N_A"), is no login for who just holds it
		return credential.Credential{},
			Unreachable("the reply from %s has a token of type %s, want Bearer", service, Quoted(token.TokenType, secrets))
	case !slices.Contains([]string{"", accessTokenType, jwtTokenType}, token.IssuedType):
		return credential.Credential{},
			Unreachable("the reply from %s has an issued_token_type of %s, want %q", service,
				Quoted(token.IssuedType, secrets), accessTokenType)
	case lives == "":
		// OAuth only recommends it, and a JWT has an exp of its own. But what is
		// opaque to its client must not be read by it (RFC 9068 §6).
		return credential.Credential{},
			fault.New(fault.Unreachable, errors.New("the reply from "+service+" has no expires_in: the expiry of its token "+
				"is unknown"),
				"configure the authorization server to return expires_in (RFC 6749 §5.1)")
	case err != nil, seconds <= 0, seconds > MostSeconds:
		return credential.Credential{},
			Unreachable("the reply from %s has an expires_in of %s, want seconds from now", service, Quoted(lives, secrets))
	}
	return credential.Credential{
		Kind: credential.AccessToken, Token: secret.New(token.AccessToken),
		Expiry: sent.Add(time.Duration(seconds) * time.Second), // the server counts from later
	}, nil
}
