package idtoken_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

func TestIsGitHub(t *testing.T) {
	t.Parallel()
	for issuer, want := range map[string]bool{
		"https://token.actions.githubusercontent.com":                 true,
		"https://token.actions.githubusercontent.com/octo-enterprise": true, // include_enterprise_slug
		"https://token.actions.octocorp.ghe.com":                      true,
		"https://ghes.acme.example/_services/token":                   true,
		"https://ghes.acme.example:8443/_services/token":              true,

		"": false,
		"https://token.actions.githubusercontent.com/":                             false, // iss is compared to the letter
		"https://token.actions.githubusercontent.com/octo/enterprise":              false,
		"https://token.actions.githubusercontent.com.evil.example":                 false,
		"https://token-actions.githubusercontent.com":                              false,
		"http://token.actions.githubusercontent.com":                               false,
		"https://evil.example/https://token.actions.octocorp.ghe.com":              false,
		"https://token.actions.ghe.com":                                            false,
		"https://token.actions.a.b.ghe.com":                                        false,
		"https://token.actions.octocorp.ghe.com/octo-enterprise":                   false, // documented for github.com only
		"https://token.actions.octocorp.ghe.com.evil.example":                      false,
		"https://ghes.acme.example/_services/token/":                               false,
		"https://ghes.acme.example/sub/_services/token":                            false,
		"https:///_services/token":                                                 false,
		"http://ghes.acme.example/_services/token":                                 false,
		"https://evil.example?/_services/token":                                    false, // what follows is a query
		"https://evil.example#/_services/token":                                    false, // … and a fragment
		"https://ghes.acme.example@evil.example/_services/token":                   false, // the host is what follows the @
		"https://token.actions.githubusercontent.com\n":                            false,
		"https://token.actions.githubusercontent.com@evil.example/_services/token": false,
	} {
		if got := idtoken.IsGitHub(issuer); got != want {
			t.Errorf("%q: %t, want %t", issuer, got, want)
		}
	}
}
