// Package wall evaluates trust documents as their vendors do: one file a vendor, written from the vendor's
// documentation or source and from nothing of ours, so that tests can hold what we generate to it.
package wall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// A Wall is a trust document that its vendor accepts. It says whether the
// vendor admits a token with these claims, which were verified before: it
// looks at no signature and at no time. An error says that the claims do not
// decide it, because the document asks for something that is not in a token.
type Wall func(claims map[string]any) (bool, error)

// checkJSON wants one JSON value in which no object has a key twice: of two
// equal keys, each vendor is free to read another one.
func checkJSON(doc []byte) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if err := checkValue(dec); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("invalid JSON: more than one value")
	}
	return nil
}

func checkValue(dec *json.Decoder) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[json.Token]bool{}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			if seen[key] {
				return fmt.Errorf("duplicate key %q", key)
			}
			seen[key] = true
		}
		if err := checkValue(dec); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// read decodes one JSON document without duplicate keys. Keys that into does
// not have are ignored: exports have more than what decides.
func read(doc []byte, into any) error {
	if err := checkJSON(doc); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	return nil
}

// readList decodes a list, or an object that has it under the key that the
// vendor's API uses: its command line prints one, its API the other.
func readList[T any](doc []byte, key string) ([]T, error) {
	if trimmed := bytes.TrimSpace(doc); len(trimmed) > 0 && trimmed[0] == '{' {
		var page map[string]json.RawMessage
		if err := read(doc, &page); err != nil {
			return nil, err
		}
		list, ok := page[key]
		if !ok {
			return nil, fmt.Errorf("invalid JSON: neither a list nor an object with %q", key)
		}
		doc = list
	}
	var list []T
	if err := read(doc, &list); err != nil {
		return nil, err
	}
	return list, nil
}

// texts is a JSON string or a list of strings.
type texts []string

func (t *texts) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = texts{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return fmt.Errorf("%s is neither a string nor a list of strings", raw)
	}
	*t = many
	return nil
}

// text returns a claim that is a string; "" is no value to any vendor.
func text(claims map[string]any, name string) (string, bool) {
	value, ok := claims[name].(string)
	return value, ok && value != ""
}

// values returns the texts of a claim: of a scalar one, of a list each.
func values(claim any) []string {
	switch claim := claim.(type) {
	case string:
		return []string{claim}
	case bool:
		return []string{strconv.FormatBool(claim)}
	case json.Number:
		return []string{claim.String()}
	case float64:
		return []string{strconv.FormatFloat(claim, 'f', -1, 64)}
	case int:
		return []string{strconv.Itoa(claim)}
	case int64:
		return []string{strconv.FormatInt(claim, 10)}
	case []string:
		return claim
	case []any:
		var all []string
		for _, c := range claim {
			all = append(all, values(c)...)
		}
		return all
	}
	return nil
}

// anyIn tells whether two lists share a value.
func anyIn(list, of []string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(of, s) })
}

// plain returns a claim's value as encoding/json decodes it: CEL and Vault
// distinguish between kinds of numbers.
func plain(value any) any {
	switch value := value.(type) {
	case json.Number:
		f, err := value.Float64()
		if err != nil {
			return value.String()
		}
		return f
	case int:
		return float64(value)
	case int64:
		return float64(value)
	case []string:
		list := make([]any, len(value))
		for i, v := range value {
			list[i] = v
		}
		return list
	case []any:
		list := make([]any, len(value))
		for i, v := range value {
			list[i] = plain(v)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(value))
		for k, v := range value {
			object[k] = plain(v)
		}
		return object
	}
	return value
}
