package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// many returns a policy of n rules in block style; the token of
// standin.GitHubClaims matches only the last one.
func many(n int) []byte {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(policyOf(""), "      - \n"))
	for i := range n {
		id := fmt.Sprint(i)
		if i == n-1 {
			id = "487920697"
		}
		fmt.Fprintf(&b, "      - repository: acme/*\n        repository_id: %q\n        environment: production\n        ref: refs/heads/ma*\n", id)
	}
	return []byte(b.String())
}

// BenchmarkTenThousandRules is the design's limit: 120 ms for parsing and deciding
// 1.2 MiB, with a wildcard in every rule.
func BenchmarkTenThousandRules(b *testing.B) {
	src, cat, c := many(10_000), catalog(), claims(b, nil)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		p, err := policy.Parse("policy.yml", src, cat)
		if err != nil {
			b.Fatal(err)
		}
		g, err := p.Authorize("prod", c, reviewDay)
		if err != nil || g.Rule().Index != 9_999 {
			b.Fatal(g.Rule(), err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, err := policy.Parse("policy.yml", many(10_000), catalog())
	if err != nil {
		b.Fatal(err)
	}
	c := claims(b, nil)
	for b.Loop() {
		if _, err := p.Authorize("prod", c, reviewDay); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeny(b *testing.B) {
	p, err := policy.Parse("policy.yml", many(10_000), catalog())
	if err != nil {
		b.Fatal(err)
	}
	c := claims(b, map[string]any{"environment": "dev"})
	for b.Loop() {
		if _, err := p.Authorize("prod", c, reviewDay); err == nil {
			b.Fatal("it is allowed")
		}
	}
}
