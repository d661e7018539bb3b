package policy

import (
	"fmt"
	"strings"
)

// Starter returns a policy to begin with, made from the run's own variables.
// Its values are quoted as YAML; no request is made for it.
func Starter(getenv func(string) string) string {
	value := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	repository := value("GITHUB_REPOSITORY", "OWNER/REPOSITORY")
	ref := value("GITHUB_REF", "refs/heads/main")
	if !strings.HasPrefix(ref, "refs/heads/") {
		ref = "refs/heads/main" // a pull request's ref is not what a first policy should admit
	}
	return fmt.Sprintf(`version: 1
%stargets:
  prod:
    dbt:
      type: snowflake
      account: YOUR-ACCOUNT
      user: DBT_PROD
      database: ANALYTICS
      warehouse: TRANSFORMING
      schema: marts
    exchange:
      oidc: {audience: snowflakecomputing.com}
    allow:
      - repository: %q
        %s
        environment: production
        ref: %q
`, starterIdentities(getenv("GITHUB_SERVER_URL")), repository, starterID(getenv("GITHUB_REPOSITORY_ID")), ref)
}

// starterID returns the line of the repository's id. A made-up number in
// place of an unknown one could be that of another repository.
func starterID(id string) string {
	if !numeric.MatchString(id) {
		return "# repository_id: what `gh api repos/OWNER/REPOSITORY --jq .id` prints, in quotes"
	}
	return fmt.Sprintf("repository_id: %q", id)
}

// starterIdentities returns the identities of a policy for another GitHub than
// the public one: of data residency, or an Enterprise Server.
func starterIdentities(server string) string {
	host, ok := strings.CutPrefix(strings.TrimSuffix(server, "/"), "https://")
	if !ok || host == "github.com" || strings.ContainsAny(host, "/?#@") {
		return ""
	}
	issuer := "https://" + host + "/_services/token"
	if strings.HasSuffix(host, ".ghe.com") {
		issuer = "https://token.actions." + host
	}
	return fmt.Sprintf("identities:\n  github: {issuer: %q}\n", issuer)
}
