package idtoken

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"
)

// Unverified are claims whose signature was not checked: of a file, of a token
// that was only decoded, or made up. A policy explains what it would decide of
// them; it authorises Claims, which these never become.
type Unverified struct {
	values
	partial bool
	absent  map[string]bool // of a partial set: what the token is known not to have had
}

// NewUnverified returns claims of values that JSON can hold; others are an error.
func NewUnverified(claims map[string]any) (Unverified, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return Unverified{}, fmt.Errorf("malformed claims: %w", err)
	}
	if claims == nil {
		text = []byte("{}")
	}
	return ParseUnverified(text)
}

// Partial returns u as a part of a token's claims: every other claim is
// unknown, but for those that the token is known not to have had.
func (u Unverified) Partial(absent ...string) Unverified {
	u.partial, u.absent = true, make(map[string]bool, len(absent))
	for _, name := range absent {
		u.absent[name] = true
	}
	return u
}

// Unknown reports whether it is not known if the token had a claim of that
// name, and which: never, unless u is Partial.
func (u Unverified) Unknown(name string) bool { return u.partial && !u.Has(name) && !u.absent[name] }

// With returns a copy of u with another value of one claim.
func (u Unverified) With(name string, value string) Unverified {
	if u.values = maps.Clone(u.values); u.values == nil {
		u.values = values{}
	}
	u.values[name] = value
	return u
}

// Without returns a copy of u that lacks a claim.
func (u Unverified) Without(name string) Unverified {
	u.values = maps.Clone(u.values)
	delete(u.values, name)
	return u
}

// ParseUnverified decodes claims that are not verified: a JSON object of
// claims, or a whole token, of which only the payload is read. It is as strict
// with them as Verify is. The errors do not show the text, which may be a token.
func ParseUnverified(text []byte) (Unverified, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\uFEFF")))
	switch {
	case len(text) == 0:
		return Unverified{}, errors.New("is empty, want a JSON object of claims or a JSON Web Token")
	case len(text) > maxToken:
		return Unverified{}, fmt.Errorf("is %d bytes long, want at most %d", len(text), maxToken)
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return Unverified{}, errors.New("is not a text in UTF-8, want a JSON object of claims or a JSON Web Token")
	}
	if strings.HasPrefix(string(text), "eyJ") { // {" in base64url, as every token begins
		payload, err := payloadOf(string(text))
		if err != nil {
			return Unverified{}, err
		}
		text = payload
	}
	if err := checkObject(text); err != nil {
		return Unverified{}, err
	}
	claims, err := decode(text)
	return Unverified{values: claims}, err
}

// payloadOf returns the payload of a token whose signature is not looked at.
func payloadOf(token string) ([]byte, error) {
	if !compact.MatchString(token) {
		return nil, errors.New("malformed JSON Web Token: want three parts of base64url with two dots between them")
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return nil, errors.New("malformed JSON Web Token: its payload is not base64url")
	}
	if !utf8.Valid(payload) || !json.Valid(payload) {
		return nil, errors.New("malformed JSON Web Token: its payload is not a JSON object")
	}
	return payload, nil
}

// checkObject holds a text to one JSON object, and says where it is none.
func checkObject(text []byte) error {
	var object json.RawMessage
	err := json.Unmarshal(text, &object)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		before := text[:max(0, syntax.Offset-1)] // Offset is behind what was wrong
		line := bytes.Count(before, []byte("\n")) + 1
		column := len(before) - bytes.LastIndexByte(before, '\n')
		return fmt.Errorf("is not JSON: line %d, column %d: %w", line, column, err)
	case err != nil:
		return fmt.Errorf("is not JSON: %w", err)
	}
	if what := jsonKind(object); what != "" {
		return fmt.Errorf("is %s, want a JSON object of claims", what)
	}
	return nil
}

// jsonKind says what a JSON value is, "" for an object. A number of any size is one.
func jsonKind(value json.RawMessage) string {
	switch bytes.TrimSpace(value)[0] {
	case '{':
		return ""
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
