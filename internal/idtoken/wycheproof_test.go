package idtoken

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestWycheproof runs Project Wycheproof's vectors for JSON Web Signature
// through the signature layer. A token that is valid there is refused here only
// for its algorithm: no HMAC, whose key could sign, and neither PS384, PS512
// nor ES512, which no issuer of ours offers.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/wycheproof/json_web_signature.json")
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Comment string
		Key     json.RawMessage
		Tests   []struct {
			ID                   int `json:"tcId"`
			Comment, JWS, Result string
		}
	}
	if err := json.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	stricter := []string{"HS256", "PS384", "PS512", "ES512"}
	count := map[string]int{}
	for _, g := range groups {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, g.Key) }))
		defer server.Close()
		v := NewVerifier(web.NewClient(web.NewTransport()), time.Now, Issuer{URL: server.URL, JWKS: server.URL})
		for _, vector := range g.Tests {
			taken := false
			keys := &keySet{verifier: v}
			if compact.MatchString(vector.JWS) { // as Verify does before
				_, err := keys.VerifySignature(t.Context(), vector.JWS)
				taken = err == nil
			}
			if keys.err != nil {
				t.Fatal(keys.err)
			}
			verdict := vector.Result
			if verdict == "valid" && slices.Contains(stricter, headerAlgorithm(t, vector.JWS)) {
				verdict = "valid, of an algorithm that is not taken"
			}
			count[verdict]++
			if taken != (verdict == "valid") {
				t.Errorf("%s, %d %s: taken is %t, and it is %s", g.Comment, vector.ID, vector.Comment, taken, verdict)
			}
		}
	}
	if want := map[string]int{"valid": 24, "valid, of an algorithm that is not taken": 22, "invalid": 355}; fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("the verdicts are %v, want %v", count, want)
	}
}

// headerAlgorithm reads a token's alg, as far as it can be read.
func headerAlgorithm(t *testing.T, jws string) string {
	t.Helper()
	head, _, _ := strings.Cut(jws, ".")
	legible := strings.Map(func(c rune) rune { // some have characters inserted that are none of base64's
		if strings.ContainsRune("-_", c) || c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
			return c
		}
		return -1
	}, head)
	text, err := base64.RawURLEncoding.DecodeString(legible)
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Alg string }
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.Alg
}
